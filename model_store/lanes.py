"""Under which names TorchServe serves a model: its own, and more for the work that others must not wait for."""

from enum import StrEnum

QUALITY = "--quality"


class Lane(StrEnum):
    """What is waited for together, quickest first. The first one's registration has the model's own name."""

    PREDICT = "predict"
    FAST = "fast"
    SLOW = "slow"


SUFFIXES = (f"--{Lane.FAST}", f"--{Lane.SLOW}", QUALITY)


def registration(model: str, lane: Lane) -> str:
    """The name of the registration that does the work of a lane."""
    return model if lane is Lane.PREDICT else f"{model}--{lane}"


def quality_lane(model: str) -> str:
    """The name of the registration that measures the quality of a model's explanations in the background."""
    return model + QUALITY


def is_lane(name: str) -> bool:
    """Whether a registration is only a lane of a model, and no model by itself."""
    return name.endswith(SUFFIXES)


def is_background(name: str) -> bool:
    """Whether a registration only works when nobody else needs the processor."""
    return name.endswith(QUALITY)


def is_slow(name: str) -> bool:
    """Whether a registration computes the slow maps."""
    return name.endswith(f"--{Lane.SLOW}")
