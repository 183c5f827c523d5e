"""What the whole service costs: throughput, latency and stages, beside TorchServe alone and a bare gRPC server."""
