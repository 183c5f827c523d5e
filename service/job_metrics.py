"""The Prometheus metrics of jobs."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 150.0, 300.0, 600.0, 1800.0, 3600.0, 14_400.0)


class JobMetrics:
    """How many jobs there are, how they ended, and how long that took."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.states = Gauge("whylight_jobs", "Jobs that are kept, by state.", ("state",), registry=registry)
        self.finished = Counter(
            "whylight_jobs_finished",
            "Jobs that have ended, by gRPC status code.",
            ("model", "method", "code"),
            registry=registry,
        )
        self.seconds = Histogram(
            "whylight_job_duration_seconds",
            "Time from the creation of a job to its end.",
            ("model", "method"),
            buckets=BUCKETS,
            registry=registry,
        )

    def counted(self, states: Mapping[str, int]) -> None:
        """Record how many jobs there are in each state."""
        for state, count in states.items():
            self.states.labels(state).set(count)

    def ended(self, model: str, method: str, code: str, seconds: float) -> None:
        """Record a job that ended with a gRPC status, `seconds` after it was made."""
        self.finished.labels(model, method, code).inc()
        self.seconds.labels(model, method).observe(seconds)
