"""The Prometheus metrics of the kept answers."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class CacheMetrics:
    """How often answers were kept, and what they take."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "whylight_cache_requests",
            "Answers by how they came about: hit, miss, shared, bypass.",
            ("model", "outcome"),
            registry=registry,
        )
        self.bytes = Gauge("whylight_cache_bytes", "What the kept answers take.", registry=registry)
        self.entries = Gauge(
            "whylight_cache_entries", "Kept answers, images' digests and resolved methods.", registry=registry
        )
        self.evictions = Counter(
            "whylight_cache_evictions", "Entries that made room for others.", registry=registry
        )  # fmt: skip
