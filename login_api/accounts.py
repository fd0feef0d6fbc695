"""Accounts in Postgres: a user key and a password hash."""

import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import psycopg2
from psycopg2 import extensions
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from login_api.errors import PartUnavailableError

_PING_TIMEOUT_S: Final = 0.9
_INSERT: Final = text(
    "INSERT INTO accounts (user_key, password_hash) VALUES (:user, :hash) ON CONFLICT DO NOTHING"
)
_SELECT: Final = text("SELECT password_hash FROM accounts WHERE user_key = :user")


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
    """Accounts behind a pool of connections, each tried before use: a restart costs no answer.

    A call ends within about `timeout_ms`, waiting for a connection included, whatever the server
    does: the server's own statement_timeout is no help against a server that has stopped.
    """

    def __init__(self, url: str, connections: int, timeout_ms: int) -> None:
        extensions.set_wait_callback(_wait)
        self._timeout_s = timeout_ms / 1_000
        self._engine = create_engine(
            make_url(url).set(drivername="postgresql+psycopg2"),
            pool_size=connections,
            max_overflow=0,
            pool_timeout=self._timeout_s / 2,
            pool_pre_ping=True,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
            connect_args={"options": f"-c statement_timeout={timeout_ms}"},
        )

    def create(self, user: str, password_hash: str) -> None:
        """See Accounts."""
        with self._connection(self._timeout_s) as connection:
            inserted = connection.execute(_INSERT, {"user": user, "hash": password_hash})
            if inserted.rowcount == 0:
                raise NameTakenError

    def password_hash(self, user: str) -> str | None:
        """See Accounts."""
        with self._connection(self._timeout_s) as connection:
            found: str | None = connection.execute(_SELECT, {"user": user}).scalar()
            return found

    def ping(self) -> None:
        """See Accounts."""
        with self._connection(_PING_TIMEOUT_S) as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Closes the connections that nobody uses."""
        self._engine.dispose()

    @contextmanager
    def _connection(self, timeout_s: float) -> Iterator[Connection]:
        _deadline.at = time.monotonic() + timeout_s
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise PartUnavailableError("postgres") from error
        finally:
            _deadline.at = None


class _Deadline(threading.local):
    """When this thread's wait for Postgres ends; None: it waits for as long as it takes."""

    at: float | None = None


_deadline = _Deadline()


def _wait(connection: extensions.connection) -> None:
    """Waits for an answer; psycopg2 calls it for every one, the connecting included."""
    while (state := connection.poll()) != extensions.POLL_OK:
        answer = select.poll()
        reading = state == extensions.POLL_READ
        answer.register(connection.fileno(), select.POLLIN if reading else select.POLLOUT)
        left_ms = None if _deadline.at is None else (_deadline.at - time.monotonic()) * 1_000
        if not answer.poll(left_ms if left_ms is None else max(left_ms, 0)):
            raise psycopg2.OperationalError("no answer in time")
