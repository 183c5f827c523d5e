"""The Open Inference Protocol: what explain.v1 does, for clients that know only tensors."""
