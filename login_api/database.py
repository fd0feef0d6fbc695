"""Connections to Postgres: a pool in which every call ends in time, whatever the server does."""

import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg2
from psycopg2 import extensions
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from login_api.errors import PartUnavailableError

PING_TIMEOUT_S: Final = 0.9
_NOTICE_THE_DEAD: Final = (
    "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3"
)
"""For the server: a client whose host is gone holds its locks for seconds, not for hours."""


class Database:
    """A pool of connections, each tried before use: a restart of the server costs no answer.

    A call ends within about `timeout_ms`, waiting for a connection included: the server's own
    statement_timeout is no help against a server that has stopped.
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
            connect_args={"options": f"-c statement_timeout={timeout_ms} {_NOTICE_THE_DEAD}"},
        )

    @contextmanager
    def connection(self, timeout_s: float | None = None) -> Iterator[Connection]:
        """A connection for one call; raises PartUnavailableError("postgres")."""
        _deadline.at = time.monotonic() + (timeout_s or self._timeout_s)
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise PartUnavailableError("postgres") from error
        finally:
            _deadline.at = None

    def extend(self) -> None:
        """Gives the call in hand its whole time again; for one of many statements."""
        _deadline.at = time.monotonic() + self._timeout_s

    def ping(self) -> None:
        """Returns if the server answers."""
        with self.connection(PING_TIMEOUT_S) as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Closes the connections that nobody uses."""
        self._engine.dispose()


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
