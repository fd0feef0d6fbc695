"""An outbox and a Kafka in memory, both of which can be made to fail."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from login_api.errors import PartUnavailableError
from login_api.outbox import Drain, Undelivered, Waiting
from login_api.record_publisher import Fate
from login_api.records import Record


@dataclass
class _Row:
    seq: int
    record: Record
    sent_at: float | None


class InMemoryOutbox:
    """One for several publishers, as one Postgres is for several processes."""

    def __init__(self) -> None:
        self.down = False
        self.refused: list[Record] = []
        self._rows: dict[int, _Row] = {}
        self._closed_at: float | None = None
        self._last_seq = 0
        self._appending = threading.RLock()
        self._draining = threading.Lock()

    def append(self, entries: Sequence[Undelivered], *, closing: bool) -> float | None:
        self._answer()
        with self._appending:
            if closing and self._closed_at is None:
                self._closed_at = time.monotonic()
            if self._closed_at is None:
                return None
            for entry in entries:
                self._last_seq += 1
                sent_at = time.monotonic() if entry.uncertain else None
                self._rows[self._last_seq] = _Row(self._last_seq, entry.record, sent_at)
            return time.monotonic() - self._closed_at

    def is_open(self) -> bool:
        self._answer()
        return self._closed_at is None

    def length(self) -> int:
        self._answer()
        return len(self._rows)

    @contextmanager
    def draining(self) -> Iterator[Drain | None]:
        self._answer()
        if not self._draining.acquire(blocking=False):
            yield None
            return
        try:
            yield self
        finally:
            self._draining.release()

    def oldest(self, limit: int, settle_s: float) -> list[Waiting]:
        self._answer()
        rows = sorted(self._rows.values(), key=lambda row: (row.record.ts, row.seq))
        now = time.monotonic()
        return [
            Waiting(
                row.seq,
                row.record,
                row.sent_at is not None,
                row.sent_at is None or now - row.sent_at > settle_s,
            )
            for row in rows[:limit]
        ]

    def mark_sent(self, seqs: Sequence[int]) -> None:
        self._answer()
        for seq in seqs:
            self._rows[seq].sent_at = time.monotonic()

    def remove(self, seqs: Sequence[int]) -> None:
        self._answer()
        for seq in seqs:
            del self._rows[seq]

    def refuse(self, seq: int) -> None:
        self._answer()
        self.refused.append(self._rows.pop(seq).record)

    @contextmanager
    def appenders_held(self) -> Iterator[None]:
        self._answer()
        with self._appending:
            yield

    def open_gate(self) -> bool:
        self._answer()
        if not self._rows:
            self._closed_at = None
        return not self._rows

    def _answer(self) -> None:
        if self.down:
            raise PartUnavailableError("postgres")


class InMemoryKafka:
    """`answer` is what becomes of every record; one that is `poison` is always refused."""

    def __init__(self) -> None:
        self.answer = Fate.PUBLISHED
        self.poison: set[Record] = set()
        self.topic: list[Record] = []
        self.calls: list[list[Record]] = []

    def publish_all(self, records: Sequence[Record]) -> list[Fate]:
        self.calls.append(list(records))
        fates = [Fate.REFUSED if it in self.poison else self.answer for it in records]
        self.topic += [
            it for it, fate in zip(records, fates, strict=True) if fate is Fate.PUBLISHED
        ]
        return fates

    def held(self, records: Sequence[Record]) -> set[Record]:
        self.ping()
        return set(records) & set(self.topic)

    def ping(self) -> None:
        if self.answer is not Fate.PUBLISHED:
            raise PartUnavailableError("kafka")

    def close(self) -> None:
        pass
