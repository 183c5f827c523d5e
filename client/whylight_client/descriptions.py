"""What the service says of its models, methods and metrics, as frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """A module whose output can be explained.

    Attributes:
        path: as the layer parameters of methods take it.
        channels: of its output.
        height: of its output's grid.
        width: likewise.
    """

    path: str
    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class SanityCheck:
    """Whether a method's maps depend on what the model has learnt (Adebayo et al. 2018).

    Attributes:
        method: with its default parameters.
        rank_correlation: of the maps with those of the randomised model, -1 to 1; near 1 they would show the image
            rather than the model.
        passed: the correlation is low enough.
    """

    method: str
    rank_correlation: float
    passed: bool


@dataclass(frozen=True)
class ModelInfo:
    """A deployed model.

    Attributes:
        name: for requests.
        version: that is deployed.
        state: "LOADING", "READY", "DEGRADED" (some workers are missing) or "UNAVAILABLE".
        description: one line for people.
        architecture: where it comes from, for example "torchvision:resnet50".
        weights_digest: "sha256:" and 64 hexadecimal digits.
        preprocessing_digest: likewise.
        input_size: (height, width) of the network's input.
        class_count: how many classes it knows.
        labels: in the order of the class index; empty in a list of models.
        activation: "SOFTMAX" or "SIGMOID" (several labels at once).
        target_layer: that methods explain unless told otherwise; None where there is none.
        layers: every one with a spatial map, in the order of execution; empty in a list of models.
        methods: the names of those that work on it.
        unsupported: by the name of each other method, why not.
        device: that it runs on.
        library_versions: by library.
        sanity_checks: empty until they are done, and in a list of models.
    """

    name: str
    version: str
    state: str
    description: str
    architecture: str
    weights_digest: str
    preprocessing_digest: str
    input_size: tuple[int, int]
    class_count: int
    labels: tuple[str, ...]
    activation: str
    target_layer: Layer | None
    layers: tuple[Layer, ...]
    methods: tuple[str, ...]
    unsupported: Mapping[str, str]
    device: str
    library_versions: Mapping[str, str]
    sanity_checks: tuple[SanityCheck, ...]


@dataclass(frozen=True)
class ParameterInfo:
    """A parameter of a method or a metric.

    Attributes:
        name: for requests.
        type: "STRING", "INTEGER", "NUMBER", "BOOLEAN" or "STRING_LIST".
        default: in text form; empty where the model or the service decides.
        minimum: inclusive, of a number or of how many entries a list has; None where there is no bound.
        maximum: likewise.
        description: for people.
    """

    name: str
    type: str
    default: str
    minimum: float | None
    maximum: float | None
    description: str


@dataclass(frozen=True)
class MethodInfo:
    """A saliency method.

    Attributes:
        name: for requests.
        title: as the literature writes it.
        reference: authors and year of the defining paper.
        description: for people.
        parameters: with their defaults and ranges.
        requirement: what networks it works on, in words.
        models: the deployed ones that it works on.
        lane: "FAST" or "SLOW": what its maps wait behind.
        expected_seconds: by model, what a map takes of late; None where none was computed yet.
    """

    name: str
    title: str
    reference: str
    description: str
    parameters: tuple[ParameterInfo, ...]
    requirement: str
    models: tuple[str, ...]
    lane: str
    expected_seconds: Mapping[str, float | None]


@dataclass(frozen=True)
class MetricInfo:
    """A metric of explanations.

    Attributes:
        name: for requests.
        title: as the literature writes it.
        formula: the definition in plain text.
        reference: authors and year of the defining paper.
        higher_is_better: the field's convention.
        unit: what its values count.
        minimum: smallest possible value; None where there is no bound.
        maximum: likewise.
        parameters: with their defaults and ranges.
        description: what it means and what it costs, in words.
        compares: it needs a second method, by `compare_with`.
        lane: "SLOW" where it takes so many passes that it makes a fast map wait behind slow ones.
    """

    name: str
    title: str
    formula: str
    reference: str
    higher_is_better: bool
    unit: str
    minimum: float | None
    maximum: float | None
    parameters: tuple[ParameterInfo, ...]
    description: str
    compares: bool
    lane: str
