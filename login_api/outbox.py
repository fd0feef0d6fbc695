"""The outbox in Postgres: records that Kafka has not taken yet, in the order they go out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

from login_api.database import Database
from login_api.records import Record

_LOCK_ID: Final = 7_305_222
"""Any number, known to nobody else: of all processes one drains."""

_APPEND: Final = text(
    "INSERT INTO outbox (topic, key, value, ts, uncertain)"
    " VALUES (:topic, :key, :value, :ts, :uncertain)"
)
_OLDEST: Final = text(
    "SELECT seq, topic, key, value, ts, uncertain,"
    " created_at < now() - make_interval(secs => :settled_s) AS settled"
    " FROM outbox ORDER BY ts, seq LIMIT :limit"
)
_MARK: Final = text("UPDATE outbox SET uncertain = true WHERE seq = ANY(:seqs) AND NOT uncertain")
_REMOVE: Final = text("DELETE FROM outbox WHERE seq = ANY(:seqs)")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A record in the outbox; `uncertain` if Kafka may hold it already.

    `settled` tells that it was appended so long ago that nobody can still be sending it.
    """

    seq: int
    record: Record
    uncertain: bool
    settled: bool


class PostgresOutbox:
    """All calls end in time and raise PartUnavailableError("postgres")."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, record: Record, *, uncertain: bool) -> None:
        """Returns when the record is safe."""
        row = {"topic": record.topic, "key": record.key, "value": record.value, "ts": record.ts}
        with self._database.connection() as connection:
            connection.execute(_APPEND, {**row, "uncertain": uncertain})

    def is_empty(self) -> bool:
        """Whether nothing waits."""
        with self._database.connection() as connection:
            return connection.execute(text("SELECT 1 FROM outbox LIMIT 1")).scalar() is None

    def holds(self, key: bytes | None) -> bool:
        """Whether a record of this key waits."""
        query = text("SELECT 1 FROM outbox WHERE key = :key LIMIT 1")
        with self._database.connection() as connection:
            return connection.execute(query, {"key": key}).scalar() is not None

    def length(self) -> int:
        """How many records wait."""
        with self._database.connection() as connection:
            return int(connection.execute(text("SELECT count(*) FROM outbox")).scalar() or 0)

    @contextmanager
    def draining(self) -> Iterator["Drain | None"]:
        """The right to empty the outbox, None while another process has it.

        It goes with the connection, so it ends with the process that holds it.
        """
        with self._database.connection() as connection:
            lock = {"lock": _LOCK_ID}
            mine = connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), lock).scalar()
            if not mine:
                yield None
                return
            try:
                yield Drain(self._database, connection)
            finally:
                self._database.extend()
                connection.execute(text("SELECT pg_advisory_unlock(:lock)"), lock)


class Drain:
    """Takes records out, by the one process that may."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self._database = database
        self._connection = connection

    def oldest(self, limit: int, settled_s: float) -> list[Waiting]:
        """The next records that go out; `settled` are those appended `settled_s` ago."""
        self._database.extend()
        rows = self._connection.execute(_OLDEST, {"limit": limit, "settled_s": settled_s})
        return [
            Waiting(
                row.seq,
                Record(row.topic, _bytes(row.key), bytes(row.value), row.ts),
                row.uncertain,
                row.settled,
            )
            for row in rows
        ]

    def mark_uncertain(self, seqs: Sequence[int]) -> None:
        """Before they are sent: whoever finds them after this process died looks in Kafka first."""
        self._database.extend()
        self._connection.execute(_MARK, {"seqs": list(seqs)})

    def remove(self, seqs: Sequence[int]) -> None:
        """Kafka holds them."""
        self._database.extend()
        self._connection.execute(_REMOVE, {"seqs": list(seqs)})


def _bytes(value: memoryview | bytes | None) -> bytes | None:
    return None if value is None else bytes(value)
