"""Publishes attempts to Kafka and returns when the broker has them."""

import threading
import time
from typing import Protocol

import structlog
from kafka import KafkaProducer
from kafka.errors import KafkaError

from login_api.errors import PartUnavailableError
from login_blocking.attempts import Attempt
from login_blocking.names import LOGIN_ATTEMPTS

_log = structlog.get_logger("login_api")
_RECONNECT_AFTER_S = 1.0


class AttemptPublisher(Protocol):
    """What the routes need; both methods raise PartUnavailableError("kafka")."""

    def publish(self, attempt: Attempt) -> None:
        """Returns when the broker has acknowledged the attempt."""

    def ping(self) -> None:
        """Returns if attempts can be published."""


class KafkaAttemptPublisher:
    """A producer of this process' own.

    It is built in the background: its constructor blocks for half a minute when no broker
    answers, and no login may wait for that.
    """

    def __init__(self, bootstrap: str, timeout_ms: int) -> None:
        self._bootstrap = bootstrap
        self._timeout_ms = timeout_ms
        self._producer: KafkaProducer | None = None
        self._closed = threading.Event()
        threading.Thread(target=self._connect, name="kafka-connect", daemon=True).start()

    def publish(self, attempt: Attempt) -> None:
        """See AttemptPublisher."""
        try:
            self._connected().send(
                LOGIN_ATTEMPTS,
                key=attempt.key(),
                value=attempt.encode(),
                timestamp_ms=attempt.ts,
            ).get(timeout=self._timeout_ms / 1_000)
        except (KafkaError, TimeoutError) as error:
            raise PartUnavailableError("kafka") from error

    def ping(self) -> None:
        """See AttemptPublisher."""
        if not self._connected().bootstrap_connected():
            raise PartUnavailableError("kafka")

    def close(self) -> None:
        """Sends what is waiting, for at most the publish timeout."""
        self._closed.set()
        if self._producer is not None:
            self._producer.close(timeout=self._timeout_ms / 1_000)

    def _connected(self) -> KafkaProducer:
        if self._producer is None:
            raise PartUnavailableError("kafka")
        return self._producer

    def _connect(self) -> None:
        while not self._closed.is_set():
            try:
                self._producer = KafkaProducer(
                    bootstrap_servers=self._bootstrap,
                    acks="all",
                    linger_ms=0,
                    max_block_ms=self._timeout_ms,
                    request_timeout_ms=self._timeout_ms,
                    delivery_timeout_ms=self._timeout_ms,
                )
            except (KafkaError, OSError) as error:
                _log.warning("kafka is not there yet", error=type(error).__name__)
                time.sleep(_RECONNECT_AFTER_S)
            else:
                return
