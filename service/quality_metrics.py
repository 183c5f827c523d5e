"""The Prometheus metrics of how good the explanations are: of every map, and of the sampled ones that were measured."""

import math
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# Finer at both ends, where good and useless maps lie; 0 has a bucket of its own, because a score that did not drop
# is exactly that.
RATIO_BUCKETS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
# What a figure may lie outside of [0, 1] by rounding.
ROUNDING = 1e-6
FIGURES = {
    "average_drop": "Share of the class's probability that is lost under the map's mask; lower is better.",
    "average_gain": "Share of the missing probability that is won under the map's mask; higher is better.",
    "insertion_auc": "Area under the probability while pixels are inserted in the map's order; higher is better.",
    "deletion_auc": "Area under the probability while pixels are deleted in the map's order; lower is better.",
}
SCORE_INCREASE = "score_increase"
MEASURED = "measured"
OUTCOMES = (MEASURED, "degenerate", "skipped", "failed")
LABELS = ("model", "version", "method")


class QualityMetrics:
    """Quality figures by model, version and method.

    The mean of a histogram (its sum over its count) is what the literature calls average drop and average gain.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.histograms = {
            name: Histogram(f"explain_quality_{name}_ratio", text, LABELS, buckets=RATIO_BUCKETS, registry=registry)
            for name, text in FIGURES.items()
        }
        self.score_increase = Counter(
            "explain_quality_score_increase",
            "Measured explanations under whose mask the class became more probable.",
            LABELS,
            registry=registry,
        )
        self.samples = Counter(
            "explain_quality_samples",
            "Explanations drawn as a quality sample by outcome: measured, degenerate, skipped, failed.",
            (*LABELS, "outcome"),
            registry=registry,
        )
        self.maps = Counter("explain_quality_maps", "Maps in answers.", LABELS, registry=registry)
        self.degenerate_maps = Counter(
            "explain_quality_degenerate_maps", "Maps in answers that are constant.", LABELS, registry=registry
        )
        self.rank_correlation = Gauge(
            "explain_quality_randomisation_rank_correlation",
            "Spearman correlation of the maps before and after the weights were randomised; 1: no dependence on them.",
            LABELS,
            registry=registry,
        )
        self.queue_length = Gauge(
            "explain_quality_queue_length",
            "Samples that wait to be measured, and the one that is being measured.",
            registry=registry,
        )
        self.worker_seconds = Counter(
            "explain_quality_worker_seconds",
            "Time of the workers that quality samples took.",
            LABELS,
            registry=registry,
        )

    def answered(self, model: str, version: str, method: str, maps: int, degenerate: int) -> None:
        """Count the maps of one answer, and the constant ones among them."""
        self.maps.labels(model, version, method).inc(maps)
        self.degenerate_maps.labels(model, version, method).inc(degenerate)

    def measured(self, model: str, version: str, method: str, figures: Mapping[str, float]) -> None:
        """Record the figures of one sampled explanation.

        Args:
            model: name of a deployed model.
            version: its version.
            method: name of the saliency method.
            figures: values in [0, 1] by the names in FIGURES, and `score_increase` as 0 or 1; any may be left out.

        Raises:
            ValueError: an unknown name, or a value outside of [0, 1]. Nothing was recorded.
        """
        checked = {name: _ratio(name, value) for name, value in figures.items()}
        labels = (model, version, method)
        increase = checked.pop(SCORE_INCREASE, None)
        for name, value in checked.items():
            self.histograms[name].labels(*labels).observe(value)
        if increase is not None:
            self.score_increase.labels(*labels).inc(increase)
        self.sampled(*labels, MEASURED)

    def sampled(self, model: str, version: str, method: str, outcome: str) -> None:
        """Count a drawn sample; `measured` does so by itself.

        Raises:
            ValueError: the outcome is not one of OUTCOMES.
        """
        if outcome not in OUTCOMES:
            raise ValueError("no such outcome of a sample")
        # All outcomes exist from the first sample on: a rate does not see the increment that creates a series.
        series = {name: self.samples.labels(model, version, method, name) for name in OUTCOMES}
        series[outcome].inc()

    def randomised(self, model: str, version: str, method: str, correlation: float) -> None:
        """Record the last randomisation check: Spearman's rank correlation in [-1, 1].

        Raises:
            ValueError: it is not a correlation.
        """
        if not abs(correlation) <= 1 + ROUNDING:  # also true for NaN
            raise ValueError("a rank correlation lies in [-1, 1]")
        self.rank_correlation.labels(model, version, method).set(correlation)

    def spent(self, model: str, version: str, method: str, seconds: float) -> None:
        """Add the time that a worker spent on a quality sample."""
        self.worker_seconds.labels(model, version, method).inc(seconds)


def _ratio(name: str, value: float) -> float:
    """The value, within [0, 1]. A NaN in a sum would stay there until the next restart, so it is refused."""
    if name not in FIGURES and name != SCORE_INCREASE:
        raise ValueError(f"no such quality figure: {name}")
    if not math.isfinite(value) or not -ROUNDING <= value <= 1 + ROUNDING:
        raise ValueError(f"{name} lies in [0, 1]")
    if name == SCORE_INCREASE and value not in (0, 1):
        raise ValueError(f"{name} is 0 or 1")
    return min(max(float(value), 0.0), 1.0)
