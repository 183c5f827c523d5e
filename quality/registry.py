"""The metrics by name."""

from typing import TypeVar

from quality.metric import Metric

METRICS: dict[str, type[Metric]] = {}
"""Every metric by its name."""

MetricType = TypeVar("MetricType", bound=type[Metric])


def register(metric: MetricType) -> MetricType:
    """Class decorator that makes a metric known under its name."""
    if metric.name in METRICS:
        raise ValueError(f"metric {metric.name} is registered twice")
    METRICS[metric.name] = metric
    return metric
