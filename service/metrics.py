"""The service's Prometheus metrics."""

import contextlib
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.cache.metrics import CacheMetrics
from service.job_metrics import JobMetrics
from service.observation import Observation
from service.quality_metrics import QualityMetrics
from service.throttling import THROTTLED

REJECTIONS = ("QUEUE_FULL", "DEADLINE_TOO_SHORT")
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """All metrics in one registry of their own, so that two services in one process do not collide."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        labels = ("rpc", "model", "method")
        self.requests = Counter(
            "whylight_requests", "Finished requests by gRPC status code.", (*labels, "code"), registry=registry
        )
        self.client_requests = Counter(
            "whylight_client_requests",
            "Finished requests of each client of the clients file by gRPC status code.",
            ("client", "rpc", "code"),
            registry=registry,
        )
        self.request_seconds = Histogram(
            "whylight_request_duration_seconds",
            "Time from the arrival of a request to its answer.",
            labels,
            buckets=BUCKETS,
            registry=registry,
        )
        # The name that other explanation services use: the same times, of Explain alone.
        self.explain_seconds = Histogram(
            "request_explain_seconds",
            "Time from the arrival of an Explain request to its answer.",
            ("model", "method"),
            buckets=BUCKETS,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "whylight_stage_duration_seconds",
            "Time of one stage of a request: transport, decode, compute, render, quality.",
            (*labels, "stage"),
            buckets=BUCKETS,
            registry=registry,
        )
        self.queue_seconds = Histogram(
            "whylight_queue_duration_seconds",
            "Time that a request waited for room.",
            ("model", "method"),
            buckets=BUCKETS,
            registry=registry,
        )
        lane = ("model", "lane")
        self.waiting = Gauge("whylight_queue_length", "Requests that wait for room.", lane, registry=registry)
        self.queue_capacity = Gauge(
            "whylight_queue_capacity", "Requests that may wait in a lane of one model.", ("lane",), registry=registry
        )
        self.in_flight = Gauge("whylight_in_flight", "Requests with the workers.", lane, registry=registry)
        self.rejected = Counter(
            "whylight_rejected",
            "Requests that were refused at once: QUEUE_FULL, DEADLINE_TOO_SHORT.",
            (*lane, "reason"),
            registry=registry,
        )
        self.throttled = Counter(
            "whylight_throttled",
            "Requests that were refused unread, because most of what their connection asked for found no room.",
            ("rpc",),
            registry=registry,
        )
        for path in THROTTLED:
            self.throttled.labels(path.rpartition("/")[2])
        self.cancelled_work_seconds = Histogram(
            "whylight_cancelled_work_seconds",
            "Time that a worker went on after nobody waited any more: the client went away, or the deadline passed.",
            ("model", "method"),
            buckets=BUCKETS,
            registry=registry,
        )
        self.degenerate = Counter(
            "whylight_degenerate_maps", "Explanations whose map is constant.", ("model", "method"), registry=registry
        )
        self.ready_workers = Gauge("whylight_ready_workers", "Workers that can answer.", lane, registry=registry)
        self.workers = Gauge("whylight_workers", "Workers that there should be.", lane, registry=registry)
        self.worker_restarts = Gauge(
            "whylight_torchserve_restarts", "How often TorchServe died and was started again.", registry=registry
        )
        self.quality = QualityMetrics(registry)
        self.cache = CacheMetrics(registry)
        self.jobs = JobMetrics(registry)

    def looked_at(self, model: str, lane: str, ready: int, total: int) -> None:
        """Record the workers of a model's lane; from the first look on its queue has series too, also while empty.

        Args:
            model: name of a deployed model.
            lane: predict, fast or slow.
            ready: workers that can answer.
            total: workers that there should be.
        """
        self.ready_workers.labels(model, lane).set(ready)
        self.workers.labels(model, lane).set(total)
        self.waiting.labels(model, lane)
        self.in_flight.labels(model, lane)
        for reason in REJECTIONS:
            self.rejected.labels(model, lane, reason)

    def forgotten(self, model: str, lanes: Iterable[str]) -> None:
        """Drop the gauges of the workers in these lanes of a model: it has none to wait for any more."""
        for lane in lanes:
            for gauge in (self.ready_workers, self.workers):
                with contextlib.suppress(KeyError):
                    gauge.remove(model, lane)

    def throttled_call(self, path: str) -> None:
        """Record a call of the procedure at `path` that was refused unread."""
        self.throttled.labels(path.rpartition("/")[2]).inc()

    def answered(self, observation: Observation, version: str, maps: int, degenerate: int) -> None:
        """Record an answer to Explain: how many maps it holds, and how many of them are constant."""
        self.degenerate.labels(observation.model, observation.method).inc(degenerate)
        self.quality.answered(observation.model, version, observation.method, maps, degenerate)

    def finished(self, observation: Observation, code: str) -> None:
        """Record a request that was answered with gRPC status `code`, or refused for its client's QUOTA_EXCEEDED."""
        labels = (observation.rpc, observation.model, observation.method)
        self.requests.labels(*labels, code).inc()
        self.client_requests.labels(observation.caller.name, observation.rpc, code).inc()
        elapsed = observation.elapsed
        self.request_seconds.labels(*labels).observe(elapsed)
        if observation.rpc == "Explain":
            self.explain_seconds.labels(observation.model, observation.method).observe(elapsed)
        for stage, seconds in observation.stages.items():
            if stage == "admission":
                self.queue_seconds.labels(observation.model, observation.method).observe(seconds)
            else:
                self.stage_seconds.labels(*labels, stage).observe(seconds)
