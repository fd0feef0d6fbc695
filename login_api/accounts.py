"""Accounts in Postgres: a user key and a password hash."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import psycopg2
from psycopg2.errors import UniqueViolation
from psycopg2.extensions import connection
from psycopg2.pool import PoolError, ThreadedConnectionPool

from login_api.errors import PartUnavailableError

_CONNECT_TIMEOUT_S = 2
_STATEMENT_TIMEOUT_MS = 1_500


class NameTakenError(Exception):
    """There is an account of that name."""


class Accounts(Protocol):
    """What the routes need; all methods raise PartUnavailableError("postgres")."""

    def create(self, user: str, password_hash: str) -> None:
        """Raises NameTakenError if there is an account of that name."""

    def password_hash(self, user: str) -> str | None:
        """The hash of an account, None if there is no such account."""

    def ping(self) -> None:
        """Returns if accounts can be read."""


class PostgresAccounts:
    """Accounts behind a pool of connections that are opened at need and dropped when dead."""

    def __init__(self, url: str, connections: int) -> None:
        self._url = url
        self._connections = connections
        self._free = threading.BoundedSemaphore(connections)
        self._opening = threading.Lock()
        self._pool: ThreadedConnectionPool | None = None

    def create(self, user: str, password_hash: str) -> None:
        """See Accounts."""
        insert = "INSERT INTO accounts (user_key, password_hash) VALUES (%s, %s)"
        with self._connection() as connected, connected.cursor() as cursor:
            try:
                cursor.execute(insert, (user, password_hash))
            except UniqueViolation as error:
                raise NameTakenError from error
            connected.commit()

    def password_hash(self, user: str) -> str | None:
        """See Accounts."""
        select = "SELECT password_hash FROM accounts WHERE user_key = %s"
        try:
            row = self._fetch_one(select, (user,))
        except PartUnavailableError:
            # A connection that died since its last use is found out only here: once more, afresh.
            row = self._fetch_one(select, (user,))
        return None if row is None else str(row[0])

    def ping(self) -> None:
        """See Accounts."""
        self._fetch_one("SELECT 1", ())

    def _fetch_one(self, query: str, parameters: tuple[str, ...]) -> tuple[object, ...] | None:
        with self._connection() as connected, connected.cursor() as cursor:
            cursor.execute(query, parameters)
            return cursor.fetchone()

    @contextmanager
    def _connection(self) -> Iterator[connection]:
        if not self._free.acquire(timeout=_CONNECT_TIMEOUT_S):
            raise PartUnavailableError("postgres")
        try:
            pool = self._opened_pool()
            connected = pool.getconn()
            try:
                yield connected
            finally:
                pool.putconn(connected)  # rolls back what was not committed, drops a dead one
        except (psycopg2.OperationalError, psycopg2.InterfaceError, PoolError) as error:
            raise PartUnavailableError("postgres") from error
        finally:
            self._free.release()

    def _opened_pool(self) -> ThreadedConnectionPool:
        with self._opening:
            if self._pool is None:
                self._pool = ThreadedConnectionPool(
                    1,
                    self._connections,
                    self._url,
                    connect_timeout=_CONNECT_TIMEOUT_S,
                    options=f"-c statement_timeout={_STATEMENT_TIMEOUT_MS}",
                )
                # putconn closes all above the minimum: keep every one that was opened.
                self._pool.minconn = self._connections
            return self._pool
