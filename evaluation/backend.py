"""Where explanations come from and where they are measured: in this process, or by a service."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from evaluation.data import Target
from evaluation.errors import EvaluationError, UsageError
from evaluation.items import Item
from explainers import Method
from handlers.errors import WorkError
from handlers.images import decode
from handlers.settings import Limits
from quality import Metric, Need

Value = float | list[float] | None
"""A value of a metric for one map: several numbers for some metrics, nothing where it is not defined."""


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        methods: by their text form.
        metrics: by their text form.
        target: which classes are explained.
        compare_with: the method whose maps are the other ones, for the metrics that compare; None for no comparison.
    """

    methods: Mapping[str, Method]
    metrics: Mapping[str, Metric]
    target: Target = "label"
    compare_with: Method | None = None

    @property
    def needs(self) -> frozenset[Need]:
        """What the metrics need beyond images and maps."""
        return frozenset().union(*(metric.needs for metric in self.metrics.values()))


@dataclass(frozen=True)
class Outcome:
    """One image explained by one method, and measured.

    Attributes:
        targets: the explained classes.
        predicted: the most probable class.
        probabilities: of the explained classes.
        degenerate: for each of them, whether its map is constant.
        values: of each metric, by its text form, for each explained class.
        explain_seconds: that the maps took, a batch's time shared evenly.
        measure_seconds: likewise for the values.
    """

    targets: tuple[int, ...]
    predicted: int
    probabilities: tuple[float, ...]
    degenerate: tuple[bool, ...]
    values: Mapping[str, Sequence[Value]]
    explain_seconds: float
    measure_seconds: float


@dataclass(frozen=True)
class Batch:
    """Images that are ready to be explained.

    Attributes:
        items: those that could be read.
        failures: why the others could not, by their id.
        content: the backend's own.
    """

    items: tuple[Item, ...]
    failures: Mapping[str, str] = field(default_factory=dict)
    content: Any = None


class Backend(Protocol):
    """What a run needs."""

    labels: tuple[str, ...]

    def describe(self) -> dict[str, Any]:
        """The model with its digests, where it computes, and the versions of the libraries."""
        ...

    def resolve(self, plan: Plan, *, leave_out: bool) -> Plan:
        """The plan with every parameter of the methods filled in, as far as it is known here.

        Args:
            plan: as it was asked for.
            leave_out: leave out the methods that are not defined for this model, instead of refusing them.

        Raises:
            UsageError: a method is not defined for this model, or a metric can't be computed here.
        """
        ...

    def prepare(self, items: Sequence[Item], plan: Plan) -> Batch:
        """Read images and choose the classes to explain."""
        ...

    def explain(self, batch: Batch, method: str, plan: Plan) -> list[Outcome]:
        """Explain and measure: one outcome for each of the batch's items."""
        ...


def read_image(item: Item) -> Image.Image:
    """The upright image of an item, mode RGB.

    Raises:
        EvaluationError: it can't be read.
    """
    if not isinstance(item.image, Path):
        return Image.fromarray(item.image)
    try:
        return decode(item.image.read_bytes(), Limits()).pixels
    except OSError:
        raise EvaluationError("there is no such image") from None
    except WorkError as error:
        raise EvaluationError(error.message) from None


def refuse_nothing(methods: Mapping[str, Method]) -> None:
    """Make sure that there is something to compare.

    Raises:
        UsageError: there are no methods.
    """
    if not methods:
        raise UsageError("no method is defined for this model")


def choose_targets(item: Item, probabilities: Sequence[float], target: Target) -> tuple[int, ...]:
    """The classes to explain: the predicted one, or of each group of right classes the most probable one.

    Args:
        item: what is explained.
        probabilities: of each class; of classes that are not known, less than those of all others.
        target: the rule.
    """
    if target == "predicted":
        return (max(range(len(probabilities)), key=probabilities.__getitem__),)
    chosen = (max(accepted, key=probabilities.__getitem__) for accepted in item.targets)
    return tuple(dict.fromkeys(chosen))
