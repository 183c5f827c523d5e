"""What can go wrong with running TorchServe. These reach the operator's terminal and log, never a client."""


class TorchServeError(Exception):
    """Base of the errors of starting and running TorchServe."""


class JavaNotFoundError(TorchServeError):
    """No Java that runs TorchServe."""


class StartError(TorchServeError):
    """TorchServe cannot be started, or died before it answered."""
