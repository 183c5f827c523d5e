"""The worker inside TorchServe: decodes images, groups a batch, explains, answers each item on its own."""
