"""Every metric of the Login API, in a registry of its own. Labels hold no name and no address."""

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from login_api.settings import METRICS_FOLDER_VARIABLE


class Metrics:
    """The closed set of what is measured."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.attempts = Counter(
            "login_api_attempts", "Attempts published", ["outcome"], registry=self._registry
        )
        self.request_seconds = Histogram(
            "login_api_request_seconds",
            "Time to answer",
            ["route", "status"],
            registry=self._registry,
        )
        self.publish_seconds = Histogram(
            "login_api_publish_seconds",
            "Time until a record was safe, in Kafka or in the outbox",
            registry=self._registry,
        )
        self.publish_failures = Counter(
            "login_api_publish_failures",
            "Attempts that neither Kafka nor the outbox took",
            registry=self._registry,
        )
        self.guard_refusals = Counter(
            "login_api_guard_refusals",
            "Attempts refused before their password was looked at",
            ["outcome"],
            registry=self._registry,
        )
        self.unguarded = Counter(
            "login_api_unguarded",
            "Attempts made without the guard, since Redis was down",
            registry=self._registry,
        )
        self.places_returned_late = Counter(
            "login_api_places_returned_late",
            "Places in the guard given back after Redis had not answered",
            registry=self._registry,
        )
        self.outbox_records = Gauge(
            "login_api_outbox_records",
            "Records that wait for Kafka in Postgres, of all processes",
            registry=self._registry,
            multiprocess_mode="mostrecent",
        )
        self.outbox_kept = Counter(
            "login_api_outbox_kept", "Records put into the outbox", registry=self._registry
        )
        self.outbox_published = Counter(
            "login_api_outbox_published",
            "Records published out of the outbox",
            registry=self._registry,
        )
        self.outbox_found = Counter(
            "login_api_outbox_found",
            "Records in the outbox that Kafka held already",
            registry=self._registry,
        )
        self.outbox_refused = Counter(
            "login_api_outbox_refused",
            "Records in the outbox that Kafka never takes, put aside in outbox_refused",
            registry=self._registry,
        )
        self.records_lost = Counter(
            "login_api_records_lost",
            "Records of refused attempts that neither Kafka nor Postgres took",
            registry=self._registry,
        )
        self.background_failures = Counter(
            "login_api_background_failures",
            "Rounds of a background thread that failed and are tried again",
            ["thread"],
            registry=self._registry,
        )
        self.passwords_checked = Counter(
            "login_api_passwords_checked", "Passwords compared with a hash", registry=self._registry
        )
        self.hashes_in_hand = Gauge(
            "login_api_hashes_in_hand",
            "Hashes that run or wait for their turn, of all processes",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self.part_failures = Counter(
            "login_api_part_failures",
            "Answers refused because a part was down",
            ["part"],
            registry=self._registry,
        )

    def exposition(self) -> bytes:
        """All metrics as Prometheus reads them, those of every worker together."""
        if METRICS_FOLDER_VARIABLE not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)
