"""Records reach Kafka now, or out of the outbox later: docs/decisions/0005-outbox.md."""

import queue
import random
import threading
import time
from collections.abc import Iterable
from enum import Enum
from typing import Final

import structlog

from login_api.errors import PartUnavailableError, PerhapsPublishedError
from login_api.metrics import Metrics
from login_api.outbox import Drain, PostgresOutbox, Waiting
from login_api.record_publisher import KafkaRecordPublisher
from login_api.records import Record

_LOOK_EVERY_S: Final = 0.25
_BATCH: Final = 500
_CAREFUL_S: Final = 2.0
"""How long after the outbox was found empty another process may still put something into it."""
_IN_TURN_S: Final = 0.5
_IN_TURN_LOOK_S: Final = 0.02
_MOST_QUEUED: Final = 10_000
_CLOSE_WITHIN_S: Final = 3.0
_log = structlog.get_logger("login_api")


class Way(Enum):
    """Which way a record goes."""

    DIRECT = "direct"
    """To Kafka: it answers and nothing waits."""
    IN_TURN = "in turn"
    """To Kafka, behind what waits of its key: it answers again, and the outbox is being emptied."""
    KEPT = "kept"
    """Into the outbox: Kafka does not answer."""


class DurablePublisher:
    """A RecordPublisher that needs Kafka or Postgres, not both.

    As soon as one record had to be kept, the ones behind it are kept too, so that none overtakes
    it; one process empties the outbox, oldest first. A record that Kafka may hold already is
    looked for in its topic before it is published again.
    """

    def __init__(
        self, kafka: KafkaRecordPublisher, outbox: PostgresOutbox, metrics: Metrics, timeout_ms: int
    ) -> None:
        self._kafka = kafka
        self._outbox = outbox
        self._metrics = metrics
        self._settled_s = 2 * timeout_ms / 1_000
        self.way = Way.KEPT  # until it is known that Kafka answers and nothing waits
        self._empty_since: float | None = None
        self._waiting = 0
        self._queued: queue.Queue[tuple[Record, bool] | None] = queue.Queue(_MOST_QUEUED)
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=self._look, name="outbox", daemon=True),
            threading.Thread(target=self._publish_queued, name="outbox-queue", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def publish(self, record: Record) -> None:
        """See RecordPublisher. Raises PartUnavailableError("kafka") if Postgres is down as well."""
        uncertain = False
        if self._is_its_turn(record):
            try:
                self._kafka.publish(record)
            except PerhapsPublishedError:
                uncertain = True
            except PartUnavailableError:
                pass
            else:
                return
            self.way = Way.KEPT
        try:
            self._keep(record, uncertain=uncertain)
        except PartUnavailableError as error:
            raise PartUnavailableError("kafka") from error

    def publish_soon(self, record: Record) -> None:
        """See RecordPublisher. What cannot be kept is counted as lost."""
        if self.way is Way.DIRECT:
            try:
                self._kafka.publish_soon(record, self._failed)
            except PartUnavailableError:
                self.way = Way.KEPT
            else:
                return
        self._queue(record, uncertain=False)

    def ping(self) -> None:
        """See RecordPublisher."""
        self._kafka.ping()

    def waiting(self) -> int:
        """See RecordPublisher; as last seen, at most a few seconds ago."""
        return self._waiting

    def close(self) -> None:
        """Waits for what Kafka has been sent and keeps the rest; ends within seconds."""
        self._closing.set()
        self._queued.put(None)
        for thread in self._threads:
            thread.join(_CLOSE_WITHIN_S)
        self._kafka.close()
        self.way = Way.KEPT
        self._queued.put(None)
        self._publish_queued()  # what Kafka has not taken until its end

    def _is_its_turn(self, record: Record) -> bool:
        """Whether it may go to Kafka; waits a moment for what is before it of its key."""
        deadline = time.monotonic() + _IN_TURN_S
        while self.way is Way.IN_TURN:
            try:
                if not self._outbox.holds(record.key):
                    return True
            except PartUnavailableError:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(_IN_TURN_LOOK_S)
        return self.way is Way.DIRECT

    def _keep(self, record: Record, *, uncertain: bool) -> None:
        self._outbox.append(record, uncertain=uncertain)
        self._metrics.outbox_kept.inc()

    def _failed(self, record: Record) -> None:
        self.way = Way.KEPT
        self._queue(record, uncertain=True)

    def _queue(self, record: Record, *, uncertain: bool) -> None:
        try:
            self._queued.put_nowait((record, uncertain))
        except queue.Full:
            self._metrics.records_lost.inc()

    def _publish_queued(self) -> None:
        while (queued := self._queued.get()) is not None:
            try:
                self._publish_one_queued(*queued)
            except PartUnavailableError:
                self._metrics.records_lost.inc()
            except Exception:  # noqa: BLE001 — the thread must outlive whatever it is
                self._metrics.records_lost.inc()
                _log.exception("unexpected, publishing a record")

    def _publish_one_queued(self, record: Record, uncertain: bool) -> None:  # noqa: FBT001
        if not uncertain and self._is_its_turn(record):
            try:
                self._kafka.publish_soon(record, self._failed)
            except PartUnavailableError:
                self.way = Way.KEPT
            else:
                return
        self._keep(record, uncertain=uncertain)

    def _look(self) -> None:
        wait_s = 0.0
        while not self._closing.wait(wait_s):
            wait_s = _LOOK_EVERY_S * random.uniform(0.8, 1.2)  # noqa: S311 — spreads, no secret
            try:
                self._look_once()
            except PartUnavailableError as error:
                self._metrics.part_failures.labels(error.part).inc()
                wait_s *= 4
            except Exception:  # noqa: BLE001 — the thread must outlive whatever it is
                _log.exception("unexpected, looking at the outbox")
                wait_s *= 4

    def _look_once(self) -> None:
        try:
            empty = self._outbox.is_empty()
            self._waiting = 0 if empty else self._outbox.length()
        except PartUnavailableError:
            # Nothing can be kept while Postgres is away: Kafka is the place to go, if any is.
            self.way = Way.DIRECT
            raise
        self._metrics.outbox_records.set(self._waiting)
        if empty and self.way is Way.DIRECT:
            return
        now = time.monotonic()
        self._empty_since = (self._empty_since or now) if empty else None
        try:
            self._kafka.ping()
        except PartUnavailableError:
            self.way = Way.KEPT
            raise
        if self._empty_since is not None:
            settled = now - self._empty_since >= _CAREFUL_S
            self.way = Way.DIRECT if settled else Way.IN_TURN
            return
        self.way = Way.IN_TURN
        with self._outbox.draining() as drain:
            if drain is not None:
                self._empty(drain)

    def _empty(self, drain: Drain) -> None:
        while not self._closing.is_set():
            waiting = list(_ready(drain.oldest(_BATCH, self._settled_s)))
            if not waiting:
                return
            suspects = [it.record for it in waiting if it.uncertain]
            held = self._kafka.held(suspects) if suspects else set()
            drain.remove([it.seq for it in waiting if it.record in held])
            missing = [it for it in waiting if it.record not in held]
            drain.mark_uncertain([it.seq for it in missing])
            taken = self._kafka.publish_all([it.record for it in missing])
            drain.remove([it.seq for it, was in zip(missing, taken, strict=True) if was])
            self._metrics.outbox_published.inc(sum(taken))
            if not all(taken):
                return


def _ready(waiting: Iterable[Waiting]) -> Iterable[Waiting]:
    """Those before the first that somebody may still be sending: nobody overtakes it."""
    for it in waiting:
        if it.uncertain and not it.settled:
            return
        yield it
