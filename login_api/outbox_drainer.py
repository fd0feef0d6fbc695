"""Empties the outbox into Kafka once it answers again: docs/decisions/0005-outbox.md."""

import random
import threading
import time
from typing import Final, Protocol

import structlog

from login_api.errors import PartUnavailableError
from login_api.metrics import Metrics
from login_api.outbox import Drain, Outbox, Waiting
from login_api.record_publisher import Fate, Kafka

_FIRST_WAIT_S: Final = 0.25
_LAST_WAIT_S: Final = 1.0
_BATCH: Final = 200
_FEW: Final = 50
"""So few go out while the other processes wait."""
_log = structlog.get_logger("login_api")


class Gate(Protocol):
    """What this process knows of the gate."""

    @property
    def open(self) -> bool:
        """Whether records go straight to Kafka, so that there is nothing to do here."""


class OutboxDrainer:
    """A thread of every process; of all processes one works at a time.

    It waits until Kafka has answered for `settle_s`, since a broker that stood still first reads
    what it had been sent before; only then can be told what it holds.
    """

    def __init__(
        self, kafka: Kafka, outbox: Outbox, metrics: Metrics, gate: Gate, *, settle_s: float
    ) -> None:
        self._kafka = kafka
        self._outbox = outbox
        self._metrics = metrics
        self._gate = gate
        self._settle_s = settle_s
        self._answering_since: float | None = None
        self._at_once = _BATCH
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox-drainer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops after the batch in hand."""
        self._closing.set()

    def join(self, timeout_s: float) -> None:
        """Waits for that."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        wait_s = _FIRST_WAIT_S
        while not self._closing.wait(wait_s * random.uniform(0.8, 1.2)):  # noqa: S311
            try:
                self._look()
            except PartUnavailableError:
                self._failed("drainer")
                wait_s = min(2 * wait_s, _LAST_WAIT_S)
            except Exception as error:  # noqa: BLE001 — the thread must outlive whatever it is
                self._failed("unexpected")
                _log.error("unexpected, in the drainer", error=type(error).__name__)
                wait_s = min(2 * wait_s, _LAST_WAIT_S)
            else:
                wait_s = _FIRST_WAIT_S

    def _failed(self, where: str) -> None:
        self._answering_since = None
        self._metrics.background_failures.labels(where).inc()

    def _look(self) -> None:
        if self._gate.open:
            self._answering_since = None
            return
        self._kafka.ping()
        now = time.monotonic()
        if self._answering_since is None:
            self._answering_since = now
        if now - self._answering_since < self._settle_s:
            return
        with self._outbox.draining() as drain:
            while drain is not None and not self._closing.is_set() and self._empties(drain):
                pass

    def _empties(self, drain: Drain) -> bool:
        """One batch; False when there is nothing more to do for now."""
        waiting = drain.oldest(self._at_once, self._settle_s)
        if not all(it.settled for it in waiting):
            return False
        if len(waiting) > _FEW or any(it.uncertain for it in waiting):
            self._publish(drain, waiting)
            return True
        with drain.appenders_held():
            waiting = drain.oldest(self._at_once, self._settle_s)
            if any(it.uncertain for it in waiting):
                # Looking for them in Kafka takes longer than anybody may be held.
                return all(it.settled for it in waiting)
            self._publish(drain, waiting)
            return not drain.open_gate()

    def _publish(self, drain: Drain, waiting: list[Waiting]) -> None:
        """Takes out what Kafka has or gets; raises PartUnavailableError if some are left."""
        held = self._held(waiting)
        missing = {it.record: it for it in waiting if it.record not in held}  # each once
        drain.remove([it.seq for it in waiting if missing.get(it.record) is not it])
        self._metrics.outbox_found.inc(len(held))
        if not missing:
            return
        drain.mark_sent([it.seq for it in missing.values()])
        fates = self._kafka.publish_all(list(missing))
        by_fate: dict[Fate, list[Waiting]] = {fate: [] for fate in Fate}
        for it, fate in zip(missing.values(), fates, strict=True):
            by_fate[fate].append(it)
        drain.remove([it.seq for it in by_fate[Fate.PUBLISHED]])
        self._metrics.outbox_published.inc(len(by_fate[Fate.PUBLISHED]))
        if refused := by_fate[Fate.REFUSED]:
            if len(missing) == 1:
                drain.refuse(refused[0].seq)
                self._metrics.outbox_refused.inc()
            # Else one by one, lest a record is blamed for its neighbours.
            self._at_once = _BATCH if len(missing) == 1 else 1
        if len(by_fate[Fate.PUBLISHED]) < len(missing):
            raise PartUnavailableError("kafka")

    def _held(self, waiting: list[Waiting]) -> set[object]:
        suspects = [it.record for it in waiting if it.uncertain]
        return set(self._kafka.held(suspects)) if suspects else set()
