"""Brings records to Kafka, or into the outbox: docs/decisions/0005-outbox.md."""

import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

import structlog

from login_api.errors import PartUnavailableError
from login_api.metrics import Metrics
from login_api.outbox import Outbox, Undelivered
from login_api.outbox_drainer import OutboxDrainer
from login_api.record_publisher import Fate, Kafka
from login_api.records import Record

LOOK_EVERY_S: Final = 0.25
NOTICED_WITHIN_S: Final = 0.5
"""So long after the gate was closed every process knows: it looks every 0.25 s, and 0.25 to ask."""
_COUNT_EVERY_S: Final = 1.0
_LINGER_S: Final = 0.02
_MOST_AT_ONCE: Final = 500
_MOST_QUEUED: Final = 10_000
_KEPT_FREE: Final = 1_000
"""Places in the queue for passwords that were looked at: refusals must not take them all."""
_RETRY_FIRST_S: Final = 0.25
_RETRY_LAST_S: Final = 4.0
_CLOSE_WITHIN_S: Final = 3.0
_log = structlog.get_logger("login_api")


@dataclass(slots=True)
class _Queued:
    record: Record
    answer: Future[None] | None
    """Whoever waits for it; nobody waits for one that was published soon."""
    fate: Fate = Fate.UNSENT

    def done(self) -> None:
        if self.answer is not None and self.answer.set_running_or_notify_cancel():
            self.answer.set_result(None)

    def failed(self) -> bool:
        """Whether somebody heard of it."""
        if self.answer is None:
            return False
        if self.answer.set_running_or_notify_cancel():
            self.answer.set_exception(PartUnavailableError("kafka"))
        return True

    def undelivered(self) -> Undelivered:
        return Undelivered(self.record, uncertain=self.fate is not Fate.UNSENT)


@dataclass(slots=True)
class Gate:
    """What this process knows of the gate: what Postgres said last."""

    _open: bool = False
    _changes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def open(self) -> bool:
        """Whether records may go straight to Kafka."""
        return self._open

    def know(self, *, is_open: bool) -> None:
        """From an answer that no later one can have overtaken."""
        with self._lock:
            self._open = is_open
            self._changes += 1

    def look(self, outbox: Outbox) -> None:
        """Asks; an answer that came while somebody learnt better is dropped."""
        before = self._changes
        is_open = outbox.is_open()
        with self._lock:
            if self._changes == before:
                self._open = is_open


class DurablePublisher:
    """A RecordPublisher that needs Kafka or Postgres, not both.

    One thread takes what is published, in the order in which it came, as many at once as are there:
    one trip to Kafka, or one to Postgres. Another one looks at the outbox; the drainer is a third.
    """

    def __init__(
        self,
        kafka: Kafka,
        outbox: Outbox,
        metrics: Metrics,
        *,
        settle_s: float,
        patience_s: float = 6.0,
    ) -> None:
        """`settle_s`: how long a record that nobody sends any more may still be on its way."""
        self._kafka = kafka
        self._outbox = outbox
        self._metrics = metrics
        self._patience_s = patience_s
        self.gate = Gate()
        self._waiting: int | None = None
        self._queue: deque[_Queued] = deque()
        self._awaited = 0
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._stranded: list[_Queued] = []
        self._retry_at = 0.0
        self._retry_after_s = _RETRY_FIRST_S
        self._drainer = OutboxDrainer(kafka, outbox, metrics, self.gate, settle_s=settle_s)
        self._threads = [
            threading.Thread(target=self._deliver_all, name="publisher", daemon=True),
            threading.Thread(target=self._watch, name="outbox-watch", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def publish(self, record: Record) -> None:
        """See RecordPublisher. Raises PartUnavailableError("kafka") if Postgres is down as well."""
        answer: Future[None] = Future()
        if not self._enqueue(_Queued(record, answer)):
            raise PartUnavailableError("kafka")
        try:
            answer.result(self._patience_s)
        except TimeoutError as error:
            answer.cancel()
            raise PartUnavailableError("kafka") from error

    def publish_soon(self, record: Record) -> None:
        """See RecordPublisher. What neither Kafka nor Postgres takes for long is counted lost."""
        if not self._enqueue(_Queued(record, None)):
            self._metrics.records_lost.inc()

    def ping(self) -> None:
        """See RecordPublisher."""
        self._kafka.ping()

    def waiting(self) -> int | None:
        """See RecordPublisher; as seen a second ago."""
        return self._waiting

    def close(self) -> None:
        """Delivers what has been taken; ends within seconds, and counts what is left as lost."""
        deadline = time.monotonic() + _CLOSE_WITHIN_S
        self._drainer.stop()
        with self._changed:
            self._closing.set()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._drainer.join(max(0.0, deadline - time.monotonic()))
        self._kafka.close()

    def _enqueue(self, item: _Queued) -> bool:
        with self._changed:
            most = _MOST_QUEUED if item.answer is not None else _MOST_QUEUED - _KEPT_FREE
            if self._closing.is_set() or len(self._queue) >= most:
                return False
            self._queue.append(item)
            self._awaited += item.answer is not None
            if item.answer is not None or len(self._queue) == 1:
                self._changed.notify_all()
            return True

    def _deliver_all(self) -> None:
        while (wave := self._next_wave()) is not None:
            try:
                if wave:
                    self._deliver(wave)
                if self._stranded and time.monotonic() >= self._retry_at:
                    self._retry_stranded()
            except Exception as error:  # noqa: BLE001 — the thread must outlive whatever it is
                self._unexpected(error)
                for item in wave:
                    if item.answer is None or not item.answer.done():
                        self._lose(item)
        if self._stranded:
            self._retry_stranded()
        for item in self._stranded:
            self._lose(item)

    def _next_wave(self) -> list[_Queued] | None:
        """What there is, in its order; nothing when it is time to retry; None at the end."""
        with self._changed:
            while not self._queue:
                if self._closing.is_set():
                    return None
                left_s = self._retry_at - time.monotonic() if self._stranded else None
                if left_s is not None and left_s <= 0:
                    return []
                self._changed.wait(left_s)
            self._changed.wait_for(  # nobody waits: more may come, and go for the same price
                lambda: (
                    self._awaited or self._closing.is_set() or len(self._queue) >= _MOST_AT_ONCE
                ),
                _LINGER_S,
            )
            wave = [self._queue.popleft() for _ in range(min(len(self._queue), _MOST_AT_ONCE))]
            self._awaited -= sum(item.answer is not None for item in wave)
            return wave

    def _deliver(self, wave: list[_Queued]) -> None:
        if not self.gate.open:
            try:
                kept = self._keep(wave, closing=False) is not None
            except PartUnavailableError:
                self._fail(wave)
                return
            if kept:
                return
            self.gate.know(is_open=True)
        fates = self._kafka.publish_all([item.record for item in wave])
        left = []
        for item, fate in zip(wave, fates, strict=True):
            item.fate = fate
            if fate is Fate.PUBLISHED:
                item.done()
            elif fate is Fate.REFUSED and len(wave) == 1:
                _log.error("kafka refused a record", topic=item.record.topic)
                self._lose(item)
            else:
                left.append(item)  # what is refused with others the drainer tries alone
        if left:
            try:
                self._keep(left, closing=True)
            except PartUnavailableError:
                self._fail(left)

    def _keep(self, items: Sequence[_Queued], *, closing: bool) -> float | None:
        entries = [item.undelivered() for item in items]
        closed_for_s = self._outbox.append(entries, closing=closing)
        if closed_for_s is None:
            return None
        self.gate.know(is_open=False)
        self._metrics.outbox_kept.inc(len(items))
        # Until all know that the gate is closed, nobody may hear that his record is safe: his next
        # one could reach Kafka before it, through another process.
        time.sleep(max(0.0, NOTICED_WITHIN_S - closed_for_s))
        for item in items:
            item.done()
        return closed_for_s

    def _fail(self, items: list[_Queued]) -> None:
        """Neither takes them. Who waits hears of it; the others are tried again, a while."""
        for item in items:
            if not item.failed():
                item.fate = Fate.UNCERTAIN  # Postgres may have kept it without saying so
                self._stranded.append(item)
        while len(self._stranded) > _MOST_QUEUED:
            self._lose(self._stranded.pop(0))
        self._retry_at = time.monotonic() + self._retry_after_s * random.uniform(0.8, 1.2)  # noqa: S311

    def _retry_stranded(self) -> None:
        stranded, self._stranded = self._stranded, []
        try:
            self._keep(stranded, closing=True)
        except PartUnavailableError:
            self._metrics.background_failures.labels("publisher").inc()
            self._retry_after_s = min(2 * self._retry_after_s, _RETRY_LAST_S)
            self._fail(stranded)
        else:
            self._retry_after_s = _RETRY_FIRST_S

    def _lose(self, item: _Queued) -> None:
        if not item.failed():
            self._metrics.records_lost.inc()

    def _watch(self) -> None:
        length_at = 0.0
        while not self._closing.wait(LOOK_EVERY_S * random.uniform(0.8, 1.0)):  # noqa: S311
            try:
                self.gate.look(self._outbox)
                if self.gate.open:
                    self._know_waiting(0)
                elif time.monotonic() - length_at >= _COUNT_EVERY_S:
                    self._know_waiting(self._outbox.length())
                    length_at = time.monotonic()
            except PartUnavailableError:
                self._metrics.background_failures.labels("watch").inc()
            except Exception as error:  # noqa: BLE001 — the thread must outlive whatever it is
                self._unexpected(error)

    def _know_waiting(self, count: int) -> None:
        self._waiting = count
        self._metrics.outbox_records.set(count)

    def _unexpected(self, error: Exception) -> None:
        self._metrics.background_failures.labels("unexpected").inc()
        _log.error("unexpected, in the background", error=type(error).__name__)
