"""What can be wrong with a request for an explanation.

No message holds a value out of the image or a path of the machine: handlers send them to clients as they are.
"""


class ExplainerError(Exception):
    """Base of every error that an explainer raises on purpose."""


class InvalidParameterError(ExplainerError):
    """A parameter of the method has a value outside its range.

    Attributes:
        parameter: name of the parameter.
    """

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message)
        self.parameter = parameter


class UnknownLayerError(InvalidParameterError):
    """The named layer does not exist, or has no spatial map."""


class InvalidTargetError(ExplainerError):
    """A class index that the network does not have."""


class NotApplicableError(ExplainerError):
    """The method is not defined for this network."""
