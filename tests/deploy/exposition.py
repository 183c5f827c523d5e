"""A registry in which everything has happened once, as the service's endpoint would show it."""

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from model_store.lanes import Lane
from service.metrics import Metrics
from service.observation import STAGES, CacheOutcome, Observation
from service.quality_metrics import FIGURES, OUTCOMES, SCORE_INCREASE

WHERE = ("digits-cnn", "1.0.0", "grad_cam")


def observe_quality(metrics: Metrics, ratio: float, outcome: str = "measured") -> None:
    """One explanation drawn as a sample, with its map, its cost and a randomisation check."""
    metrics.quality.answered(*WHERE, maps=2, degenerate=1)
    metrics.quality.measured(*WHERE, {**dict.fromkeys(FIGURES, ratio), SCORE_INCREASE: 1.0})
    if outcome != "measured":
        metrics.quality.sampled(*WHERE, outcome)
    metrics.quality.randomised(*WHERE, 0.125)
    metrics.quality.spent(*WHERE, 0.25)


def everything() -> Metrics:
    """Metrics with an observation in each of them."""
    metrics = Metrics()
    model, version, method = WHERE
    for rpc in ("Explain", "Predict"):
        seen = Observation("id", rpc, model, method if rpc == "Explain" else "", dict.fromkeys(STAGES, 0.01))
        metrics.finished(seen, "OK")
        metrics.finished(seen, "INTERNAL")
    metrics.answered(Observation("id", "Explain", model, method), version, 2, 1)
    for lane in Lane:
        metrics.looked_at(model, lane, 1, 1)
        metrics.queue_capacity.labels(lane).set(64)
        metrics.rejected.labels(model, lane, "QUEUE_FULL").inc()
    metrics.throttled_call("/explain.v1.ExplanationService/Explain")
    metrics.cancelled_work_seconds.labels(model, method).observe(0.01)
    for cached in CacheOutcome:
        metrics.cache.requests.labels(model, cached.value).inc()
    metrics.jobs.counted({"queued": 1, "running": 1})
    metrics.jobs.ended(model, method, "OK", 12.5)
    for outcome in OUTCOMES:
        observe_quality(metrics, 0.5, outcome)
    return metrics


def text(metrics: Metrics) -> bytes:
    """What a scrape gets."""
    return bytes(generate_latest(metrics.registry))


def sample_names(metrics: Metrics) -> set[str]:
    """The names by which a query can ask for something."""
    families = text_string_to_metric_families(text(metrics).decode())
    return {sample.name for family in families for sample in family.samples}
