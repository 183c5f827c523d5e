"""What ends an evaluation. Every message is one sentence that a person can act on."""


class EvaluationError(Exception):
    """The run can't go on. What was found so far is kept."""


class UsageError(EvaluationError):
    """What was asked for can't be done: nothing was started."""
