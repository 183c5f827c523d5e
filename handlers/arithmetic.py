"""Which arithmetic answers what: a less exact one only where it was seen to give the same maps.

Asked once when a model is loaded on a GPU, for predictions, every method of the fast lane, and Opti-CAM, with their
default parameters. Whatever was not asked is computed in float32.
"""

import dataclasses
import logging
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from explainers import METHODS, Activation, ExplainerError, ImageResult, Method, Network, OptiCam, TopK
from explainers.arithmetic import Arithmetic, computing
from handlers.lanes import lane_of_method
from handlers.loading import LoadedModel
from handlers.sanity import clouds
from handlers.settings import Numbers
from protos.explain.v1 import types_pb2
from quality.ranks import rank_correlation

logger = logging.getLogger(__name__)

LEAST_CORRELATION = 0.999  # Spearman's, of each map, or of the logits of a prediction, with float32's
LARGEST_DIFFERENCE = 0.001  # of a probability from float32's
CANDIDATES = (Arithmetic.BFLOAT16, Arithmetic.FLOAT16, Arithmetic.TF32)  # the one of widest range first


@dataclasses.dataclass(frozen=True)
class Likeness:
    """How like float32's the answers in another arithmetic are.

    Attributes:
        correlation: Spearman's, the lowest of all maps, or of the logits of all predictions; not-a-number where a map
            is flat or not finite.
        difference: the largest of all probabilities.
        same_class: whether every image has the same top class.
        equal: they are the same in every bit: the arithmetic made no difference, so it can't have made it faster.
    """

    correlation: float
    difference: float
    same_class: bool
    equal: bool

    @property
    def will_do(self) -> bool:
        """The rule."""
        close = self.correlation > LEAST_CORRELATION and self.difference <= LARGEST_DIFFERENCE
        return close and self.same_class and not self.equal


def with_arithmetic(model: LoadedModel, wish: Numbers) -> LoadedModel:
    """The model with what it may compute less exactly."""
    candidates = candidates_of(model.device, wish)
    if not candidates:
        return model
    return dataclasses.replace(model, arithmetic=choose(model.network, clouds(model.network), candidates))


def choose(
    network: Network,
    images: Tensor,
    candidates: Sequence[Arithmetic],
    methods: Iterable[type[Method]] | None = None,
) -> dict[Method | None, Arithmetic]:
    """Ask the rule for predictions (None) and methods with their parameters resolved; says in the log what it found.

    Args:
        network: as it was loaded.
        images: what it is asked on, shape (batch, 3, height, width), in [0, 1].
        candidates: tried in this order; the first that will do is taken.
        methods: to ask about; those of the fast lane and Opti-CAM when not given.
    """
    questions = None, *_resolved(network, _methods() if methods is None else methods)
    return {question: _first_that_will_do(network, images, question, candidates) for question in questions}


def candidates_of(device: torch.device, wish: Numbers) -> tuple[Arithmetic, ...]:
    """What a device computes faster in than in float32, where the operator leaves the choice."""
    if device.type != "cuda" or wish is Numbers.FLOAT32:
        return ()
    emulated = not torch.cuda.is_bf16_supported(including_emulation=False)
    return tuple(each for each in CANDIDATES if not (emulated and each is Arithmetic.BFLOAT16))


def likeness(exact: Sequence[ImageResult], other: Sequence[ImageResult], activation: Activation) -> Likeness:
    """Compare results of the same images; where there are no maps, the logits are ranked in their place."""
    logits, others = (torch.stack([result.logits for result in results]) for results in (exact, other))
    rows, other_rows = _maps(exact), _maps(other)
    if not rows.numel():
        rows, other_rows = logits, others
    equal = torch.equal(rows, other_rows) and torch.equal(logits, others)
    same_class = bool((logits.argmax(dim=1) == others.argmax(dim=1)).all())
    if not same_class or rows.shape != other_rows.shape:
        return Likeness(float("nan"), float("nan"), same_class, equal)
    difference = (activation.probabilities(logits) - activation.probabilities(others)).abs().max().item()
    return Likeness(float(rank_correlation(rows, other_rows).min()), difference, same_class, equal)


def explain_in(network: Network, images: Tensor, question: Method | None, arithmetic: Arithmetic) -> list[ImageResult]:
    """The answer to a question for the top class of each image."""
    with computing(network, arithmetic) as used:
        if question is None:
            return [ImageResult(row, ()) for row in used.predict(images).float().cpu()]
        return question.explain(used, images, [TopK()] * len(images))


def _first_that_will_do(
    network: Network, images: Tensor, question: Method | None, candidates: Sequence[Arithmetic]
) -> Arithmetic:
    name = "predictions" if question is None else question.name
    found: list[str] = []
    try:
        exact = explain_in(network, images, question, Arithmetic.FLOAT32)
        for candidate in candidates:
            like = likeness(exact, explain_in(network, images, question, candidate), network.activation)
            found.append(f"{candidate} {like.correlation:.4f}{'' if like.same_class else ', another class'}")
            if like.will_do:
                logger.info("%s in %s: rank correlations with float32: %s", name, candidate, "; ".join(found))
                return candidate
    except Exception as error:  # whatever a network raises at numbers that it doesn't expect
        found.append(type(error).__name__)
    logger.info("%s in float32: rank correlations with it: %s", name, "; ".join(found))
    return Arithmetic.FLOAT32


def _maps(results: Sequence[ImageResult]) -> Tensor:
    """One row for each map."""
    return torch.stack([item.map.flatten() for result in results for item in result.explanations] or [torch.empty(0)])


def _methods() -> list[type[Method]]:
    quick = [kind for kind in METHODS.values() if lane_of_method(kind) == types_pb2.LANE_FAST]
    return [*quick, OptiCam]


def _resolved(network: Network, kinds: Iterable[type[Method]]) -> list[Method]:
    """Those that work on the network, with their defaults."""
    found = []
    for kind in kinds:
        try:
            found.append(kind().resolve(network))
        except ExplainerError:
            continue
    return found
