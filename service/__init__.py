"""The gRPC front: validates, admits, calls the worker, maps errors, observes. Never imports torch."""
