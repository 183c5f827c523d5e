"""What can be wrong with a graph, or with the library that runs it. None of these reaches a client."""


class FastPathError(RuntimeError):
    """Base of every error of this package."""


class ExportError(FastPathError):
    """The network cannot be exported as one graph."""


class GraphError(FastPathError):
    """The graph cannot be read, is no image classifier, or was exported from another model."""


class ParityError(FastPathError):
    """The graph does not compute what torch computes."""


class ProviderError(FastPathError):
    """ONNX Runtime does not run on the device that was asked for, or is not installed."""
