"""Every metric of the Blocked API, in a registry of its own. Labels hold no name and no address."""

import os

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from blocked_api.settings import METRICS_FOLDER_VARIABLE


class Metrics:
    """The closed set of what is measured."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.request_seconds = Histogram(
            "blocked_api_request_seconds",
            "Time to answer",
            ["route", "status"],
            registry=self._registry,
        )
        self.redis_failures = Counter(
            "blocked_api_redis_failures",
            "Answers refused because Redis could not be read",
            registry=self._registry,
        )

    def exposition(self) -> bytes:
        """All metrics as Prometheus reads them, those of every worker together."""
        if METRICS_FOLDER_VARIABLE not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)
