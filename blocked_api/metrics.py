"""Every metric of the Blocked API, in a registry of its own. Labels hold no name and no address."""

import math
import os
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
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
        # Routes and statuses are few; looking a child up costs more than observing it.
        self.seconds_of = lru_cache(maxsize=1_024)(self.request_seconds.labels)
        self.redis_failures = Counter(
            "blocked_api_redis_failures",
            "Answers refused because Redis could not be read",
            registry=self._registry,
        )
        self.turned_away = Counter(
            "blocked_api_turned_away",
            "Requests refused because too many waited for a thread",
            registry=self._registry,
        )
        self.rate_refusals = Counter(
            "blocked_api_rate_refusals",
            "Lists refused to clients that asked too often",
            registry=self._registry,
        )
        self.stream_clients = Gauge(
            "blocked_api_stream_clients",
            "Clients that listen to the stream",
            multiprocess_mode="livesum",
            registry=self._registry,
        )
        self.list_reads = Counter(
            "blocked_api_list_reads",
            "How often the whole list was read from Redis",
            registry=self._registry,
        )
        self._listed = self._newest("blocked_subjects", "Blocked now", ["subject_type"])
        self._by_rule = self._newest("blocked_by_rule", "Live blocks of a rule", ["rule"])
        self._heartbeat_age = self._newest(
            "detector_heartbeat_age_seconds", "Since the detector reported; NaN: never"
        )
        self._lag = self._newest(
            "detector_lag_seconds", "How far the detector is behind; NaN: not known"
        )
        self._complete = self._newest("list_complete", "1 if the list is complete")
        self._rules: set[str] = set()

    def note_list(
        self,
        *,
        listed: dict[str, int],
        by_rule: dict[str, int],
        status: str,
        heartbeat_age_ms: int | None,
        lag_ms: int | None,
    ) -> None:
        """Sets what is known of the list now."""
        for subject_type, count in listed.items():
            self._listed.labels(subject_type).set(count)
        self._rules |= by_rule.keys()
        for rule in self._rules:
            self._by_rule.labels(rule).set(by_rule.get(rule, 0))
        self._complete.set(status == "complete")
        self._heartbeat_age.set(_seconds(heartbeat_age_ms))
        self._lag.set(_seconds(lag_ms))

    def note_unknown(self) -> None:
        """The list cannot be read: what is not known is not told as if it were."""
        for subject_type in ("user", "ip"):
            self._listed.labels(subject_type).set(math.nan)
        for rule in self._rules:
            self._by_rule.labels(rule).set(math.nan)
        self._complete.set(0)
        self._heartbeat_age.set(math.nan)
        self._lag.set(math.nan)

    def exposition(self) -> bytes:
        """All metrics as Prometheus reads them, those of every worker together."""
        if METRICS_FOLDER_VARIABLE not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)

    def _newest(self, name: str, meaning: str, labels: list[str] | None = None) -> Gauge:
        return Gauge(
            f"blocked_api_{name}",
            meaning,
            labels or [],
            multiprocess_mode="mostrecent",
            registry=self._registry,
        )


def _seconds(ms: int | None) -> float:
    return math.nan if ms is None else ms / 1_000
