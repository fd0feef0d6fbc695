"""The outbox in Postgres: records that Kafka has not taken yet, and the gate before Kafka.

While the gate is open the outbox is empty and every process sends straight to Kafka. A process
that cannot closes it; from then on all put their records here, until one has emptied the outbox
and opens the gate again. Reasons and guarantees: docs/decisions/0005-outbox.md.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from sqlalchemy import Connection, text

from login_api.database import Database
from login_api.errors import PartUnavailableError
from login_api.records import Record

# Any numbers, known to nobody else.
_DRAINING: Final = 7_305_222
"""Held by the one process that takes records out."""
_APPENDING: Final = 7_305_223
"""Shared by all that put records in; held alone by the drainer while it opens the gate."""

_BEGIN: Final = f"SELECT pg_advisory_xact_lock_shared({_APPENDING});"
_CLOSE: Final = "UPDATE outbox_gate SET closed_at = clock_timestamp() WHERE closed_at IS NULL;"
_APPEND: Final = """
    WITH gate AS (SELECT closed_at FROM outbox_gate WHERE closed_at IS NOT NULL),
    kept AS (
        INSERT INTO outbox (topic, key, value, ts, sent_at)
        SELECT topic, key, value, ts, CASE WHEN uncertain THEN clock_timestamp() END
        FROM gate, unnest(
            CAST(:topics AS text[]), CAST(:keys AS bytea[]), CAST(:values AS bytea[]),
            CAST(:stamps AS bigint[]), CAST(:uncertain AS boolean[])
        ) WITH ORDINALITY AS record (topic, key, value, ts, uncertain, place)
        ORDER BY place
    )
    SELECT CAST(extract(epoch FROM clock_timestamp() - closed_at) AS float8) FROM gate
"""
# One message, so one transaction; each statement of it sees what was committed before it began.
_APPEND_IF_CLOSED: Final = text(_BEGIN + _APPEND)
_CLOSE_AND_APPEND: Final = text(_BEGIN + _CLOSE + _APPEND)
_IS_OPEN: Final = text("SELECT closed_at IS NULL FROM outbox_gate")
_OPEN: Final = text(
    "UPDATE outbox_gate SET closed_at = NULL WHERE NOT EXISTS (SELECT FROM outbox) RETURNING 1"
)
_LENGTH: Final = text("SELECT count(*) FROM outbox")
_OLDEST: Final = text(
    "SELECT seq, topic, key, value, ts, sent_at IS NOT NULL AS uncertain,"
    " coalesce(sent_at < clock_timestamp() - make_interval(secs => :settle_s), true) AS settled"
    " FROM outbox ORDER BY ts, seq LIMIT :limit"
)
_MARK: Final = text("UPDATE outbox SET sent_at = clock_timestamp() WHERE seq = ANY(:seqs)")
_REMOVE: Final = text("DELETE FROM outbox WHERE seq = ANY(:seqs)")
_REFUSE: Final = text(
    "WITH gone AS (DELETE FROM outbox WHERE seq = :seq RETURNING *)"
    " INSERT INTO outbox_refused (seq, topic, key, value, ts, created_at)"
    " SELECT seq, topic, key, value, ts, created_at FROM gone"
)


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A record for the outbox; `uncertain` if Kafka may hold it already."""

    record: Record
    uncertain: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    """A record in the outbox.

    `settled` unless it was handed to Kafka so lately that it may still be on its way there.
    """

    seq: int
    record: Record
    uncertain: bool
    settled: bool


class Drain(Protocol):
    """What the one process that empties the outbox may do."""

    def oldest(self, limit: int, settle_s: float) -> list[Waiting]:
        """The next that go out, by stamp; of one stamp in the order in which they came."""

    def mark_sent(self, seqs: Sequence[int]) -> None:
        """Before they are sent: whoever finds them after a crash looks into Kafka first."""

    def remove(self, seqs: Sequence[int]) -> None:
        """Kafka holds them."""

    def refuse(self, seq: int) -> None:
        """Puts aside what Kafka will never take; it is kept in outbox_refused."""

    def appenders_held(self) -> AbstractContextManager[None]:
        """Nobody puts anything in meanwhile; they wait, so be quick."""

    def open_gate(self) -> bool:
        """Opens it if the outbox is empty; only with the appenders held."""


class Outbox(Protocol):
    """All calls end in time and raise PartUnavailableError("postgres")."""

    def append(self, entries: Sequence[Undelivered], *, closing: bool) -> float | None:
        """Keeps them all, in their order, and returns for how many seconds the gate was closed.

        None: it is open and nothing was kept. With `closing` it is closed first, so never None.
        """

    def is_open(self) -> bool:
        """Whether records may go straight to Kafka."""

    def length(self) -> int:
        """How many records wait."""

    def draining(self) -> AbstractContextManager[Drain | None]:
        """The right to take records out, None while another process has it.

        It ends with the process that holds it, however that ends.
        """


class PostgresOutbox:
    """An Outbox in the tables of migration 0002."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, entries: Sequence[Undelivered], *, closing: bool) -> float | None:
        """See Outbox."""
        columns = {
            "topics": [entry.record.topic for entry in entries],
            "keys": [entry.record.key for entry in entries],
            "values": [entry.record.value for entry in entries],
            "stamps": [entry.record.ts for entry in entries],
            "uncertain": [entry.uncertain for entry in entries],
        }
        with self._database.connection() as connection:
            append = _CLOSE_AND_APPEND if closing else _APPEND_IF_CLOSED
            closed_for_s: float | None = connection.execute(append, columns).scalar()
        if closing and closed_for_s is None:
            raise PartUnavailableError("postgres")  # somebody took the gate's row away
        return closed_for_s

    def is_open(self) -> bool:
        """See Outbox."""
        with self._database.connection() as connection:
            return bool(connection.execute(_IS_OPEN).scalar())

    def length(self) -> int:
        """See Outbox."""
        with self._database.connection() as connection:
            return int(connection.execute(_LENGTH).scalar() or 0)

    @contextmanager
    def draining(self) -> Iterator[Drain | None]:
        """See Outbox. The locks are the session's, so a pooler that shares sessions breaks them."""
        with self._database.connection() as connection:
            try:
                lock = text("SELECT pg_try_advisory_lock(:lock)")
                mine = connection.execute(lock, {"lock": _DRAINING}).scalar()
                yield _PostgresDrain(self._database, connection) if mine else None
            finally:
                connection.invalidate()  # the locks go with it, even where nothing answers


class _PostgresDrain:
    """Every statement on the connection that holds the lock: without the lock it does nothing."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self._database = database
        self._connection = connection

    def oldest(self, limit: int, settle_s: float) -> list[Waiting]:
        """See Drain."""
        self._database.extend()
        rows = self._connection.execute(_OLDEST, {"limit": limit, "settle_s": settle_s})
        return [
            Waiting(
                row.seq,
                Record(row.topic, _bytes(row.key), bytes(row.value), row.ts),
                row.uncertain,
                row.settled,
            )
            for row in rows
        ]

    def mark_sent(self, seqs: Sequence[int]) -> None:
        """See Drain."""
        self._database.extend()
        self._connection.execute(_MARK, {"seqs": list(seqs)})

    def remove(self, seqs: Sequence[int]) -> None:
        """See Drain."""
        self._database.extend()
        self._connection.execute(_REMOVE, {"seqs": list(seqs)})

    def refuse(self, seq: int) -> None:
        """See Drain."""
        self._database.extend()
        self._connection.execute(_REFUSE, {"seq": seq})

    @contextmanager
    def appenders_held(self) -> Iterator[None]:
        """See Drain. After an error the lock goes with the connection."""
        self._database.extend()
        lock = {"lock": _APPENDING}
        self._connection.execute(text("SELECT pg_advisory_lock(:lock)"), lock)
        yield
        self._database.extend()
        self._connection.execute(text("SELECT pg_advisory_unlock(:lock)"), lock)

    def open_gate(self) -> bool:
        """See Drain."""
        self._database.extend()
        return self._connection.execute(_OPEN).scalar() is not None


def _bytes(value: memoryview | bytes | None) -> bytes | None:
    return None if value is None else bytes(value)
