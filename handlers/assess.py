"""The quality of what was computed for one item: figures, and the warnings that they give reason for."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from explainers import Classes, ImageResult, Network
from handlers.jobs import Job
from handlers.metrics import from_figure
from handlers.waiting import gone
from protos.explain.v1 import quality_pb2, types_pb2
from quality import Evidence, Metric, explain_by, of_results, watched
from quality.agreement import RankCorrelation
from quality.checks import BORDER_MASS_ABOVE, DISAGREE_BELOW, UNSTABLE_ABOVE, Doubt, doubts
from quality.passes import explain
from quality.shape import BorderMass

_WARNINGS = {
    Doubt.UNSTABLE: (
        types_pb2.WARNING_CODE_UNSTABLE,
        f"The map changes much when the image gets a little noise: its max-sensitivity is above {UNSTABLE_ABOVE:g}.",
    ),
    Doubt.BORDER_MASS_HIGH: (
        types_pb2.WARNING_CODE_BORDER_MASS_HIGH,
        f"More than {BORDER_MASS_ABOVE:.0%} of the map lies along the image's edges, where padding leaves traces.",
    ),
    Doubt.METHODS_DISAGREE: (
        types_pb2.WARNING_CODE_METHODS_DISAGREE,
        f"The two methods disagree: the rank correlation of their maps is below {DISAGREE_BELOW:g}.",
    ),
}


@dataclass(frozen=True)
class Assessment:
    """What there is to say of the explanations of one item.

    Attributes:
        figures: for each explanation, one for each metric that was asked for.
        warnings: of all explanations.
        began: Unix time in nanoseconds at which it began.
        seconds: that it took.
    """

    figures: tuple[tuple[quality_pb2.QualityFigure, ...], ...]
    warnings: tuple[types_pb2.Warning, ...]
    began: int
    seconds: float


def assess(job: Job, result: ImageResult, network: Network) -> Assessment:
    """Compute what the request asks for, and the free figures that warnings need.

    Raises:
        WorkError: nobody waits any more.
        ExplainerError: a metric or the second method is not defined here.
    """
    began, started = time.time_ns(), time.perf_counter()
    asked = job.quality.metrics
    wanted: list[Metric] = [*asked, BorderMass()]
    if job.quality.compare_with is not None:
        wanted.append(RankCorrelation())
    table = _values(dict.fromkeys(wanted), job, result, network) if result.explanations else {}
    figures, warnings = [], []
    for row, explanation in enumerate(result.explanations):
        own = {metric: values[row] for metric, values in table.items()}
        figures.append(tuple(from_figure(metric, own[metric]) for metric in asked))
        for doubt in doubts(own):
            code, message = _WARNINGS[doubt]
            warnings.append(types_pb2.Warning(code=code, message=message, target_index=explanation.target))
    return Assessment(tuple(figures), tuple(warnings), began, time.perf_counter() - started)


def _values(wanted: dict[Metric, None], job: Job, result: ImageResult, network: Network) -> dict[Metric, list[float]]:
    """For each metric one value for each explanation."""
    check = _while_somebody_waits(job)
    found: dict[Metric, list[float]] = {}
    with watched(check):
        evidence = _evidence(job, result, network)
        for metric in wanted:
            check()
            found[metric] = metric.values(evidence).tolist()
    return found


def _evidence(job: Job, result: ImageResult, network: Network) -> Evidence:
    images = job.pixels[None]
    further = {} if job.method is None else {"explain": explain_by(job.method)}
    if job.quality.compare_with is None:
        return of_results(network, images, [result], **further)
    classes = Classes(tuple(item.target for item in result.explanations))
    others = explain(job.quality.compare_with, network, images, [classes])[0].explanations
    return of_results(network, images, [result], other_maps=torch.stack([item.map for item in others]), **further)


def _while_somebody_waits(job: Job) -> Callable[[], None]:
    if job.quality.metrics or job.quality.compare_with is not None:
        job.line.open()

    def check() -> None:
        reason = gone(job)
        if reason is not None:
            raise reason

    return check
