"""Under which names TorchServe serves a model: its own, and one more for what must not keep its requests waiting."""

QUALITY = "--quality"


def quality_lane(model: str) -> str:
    """The name of the registration that measures the quality of a model's explanations in the background."""
    return model + QUALITY


def is_background(name: str) -> bool:
    """Whether a registration only works when nobody else needs the processor."""
    return name.endswith(QUALITY)
