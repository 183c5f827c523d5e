"""Everything that knows TorchServe's interfaces on the service's side."""
