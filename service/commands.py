"""What a request asks for, checked: the service works with these, never with half-validated messages."""

from dataclasses import dataclass, field

from protos.explain.v1 import explanation_service_pb2, method_pb2, quality_pb2


@dataclass(frozen=True)
class PredictCommand:
    """Classify one image.

    Attributes:
        model: name of a deployed model.
        image: the encoded image.
        top_k: how many classes to return, 1 to 100.
        no_cache: whether the answer must be computed, and must not be kept.
    """

    model: str
    image: bytes
    top_k: int
    no_cache: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class ExplainCommand(PredictCommand):
    """Classify one image and explain classes of it.

    Attributes:
        method: the method with the parameters that the client set.
        class_indices: the classes to explain; empty when `target_top_k` decides.
        target_top_k: explain the k most probable classes; 0 when `class_indices` decides.
        output: what to send besides the numbers, every choice made.
        quality: the figures to compute of each explanation.
        allow_partial: shortly before the deadline, to answer with the best maps so far rather than too late.
    """

    method: method_pb2.Method
    class_indices: tuple[int, ...]
    target_top_k: int
    output: explanation_service_pb2.OutputOptions
    quality: quality_pb2.QualityOptions
    allow_partial: bool = False

    @property
    def classes(self) -> int:
        """How many classes it explains."""
        return len(self.class_indices) or self.target_top_k


@dataclass(frozen=True)
class StreamOptions:
    """What a client wants to see while it waits for an explanation.

    Attributes:
        preview: a fast map first.
        maps: the maps so far with the progress.
        interval: shortest time between two messages of progress, in seconds.
    """

    preview: bool
    maps: bool
    interval: float
