"""Publishes records to Kafka and returns when the broker has them."""

import contextlib
import socket
import threading
import time
from typing import Final

import structlog
from kafka import KafkaProducer
from kafka.errors import KafkaError, RetriableError

from login_api.errors import PartUnavailableError
from login_api.records import Record
from login_blocking.names import LOGIN_ATTEMPTS

_log = structlog.get_logger("login_api")
_RECONNECT_AFTER_S: Final = 0.5
_PING_TIMEOUT_S: Final = 0.9
_CLOSE_TIMEOUT_S: Final = 1.0


class KafkaRecordPublisher:
    """A producer of this process' own: idempotent, every in-sync replica acknowledges, no linger.

    It is built in the background: its constructor blocks for half a minute when no broker
    answers, and no login may wait for that. Until then every call fails at once.
    """

    def __init__(self, bootstrap: str, timeout_ms: int) -> None:
        self._bootstrap = bootstrap
        self._timeout_ms = timeout_ms
        self._producer: KafkaProducer | None = None
        self._changing = threading.Lock()
        self._closed = threading.Event()
        self._connect_in_background(None)

    def publish(self, record: Record) -> None:
        """Returns when the broker has it; ends within about `timeout_ms`."""
        deadline = time.monotonic() + self._timeout_ms / 1_000
        producer = self._connected()
        try:
            acknowledged = producer.send(
                record.topic,
                key=record.key,
                value=record.value,
                timestamp_ms=record.ts,
            )
            acknowledged.get(timeout=max(0.0, deadline - time.monotonic()))
        except RetriableError as error:  # an expired deadline too: the producer itself is sound
            raise PartUnavailableError("kafka") from error
        except (KafkaError, ValueError) as error:
            # Some of these an idempotent producer never recovers from: take a new one.
            self._replace(producer)
            raise PartUnavailableError("kafka") from error

    def publish_soon(self, record: Record) -> None:
        """See RecordPublisher."""
        try:
            self._connected().send(
                record.topic, key=record.key, value=record.value, timestamp_ms=record.ts
            )
        except (KafkaError, ValueError) as error:
            raise PartUnavailableError("kafka") from error

    def ping(self) -> None:
        """See RecordPublisher; asks a broker, since an idle connection tells nothing."""
        answered = threading.Event()
        refresh = self._connected()._metadata.request_update()  # noqa: SLF001 — no public call asks
        refresh.add_both(lambda _: answered.set())
        if not answered.wait(_PING_TIMEOUT_S) or refresh.failed():
            raise PartUnavailableError("kafka")

    def close(self) -> None:
        """Lets go of the broker; what was acknowledged is safe, nothing else was promised."""
        self._closed.set()
        with self._changing:
            if self._producer is not None:
                _close(self._producer, _CLOSE_TIMEOUT_S)
                self._producer = None

    def _connected(self) -> KafkaProducer:
        producer = self._producer
        if producer is None:
            raise PartUnavailableError("kafka")
        return producer

    def _replace(self, broken: KafkaProducer) -> None:
        with self._changing:
            if self._producer is broken:
                self._producer = None
                self._connect_in_background(broken)

    def _connect_in_background(self, broken: KafkaProducer | None) -> None:
        threading.Thread(
            target=self._connect, args=(broken,), name="kafka-connect", daemon=True
        ).start()

    def _connect(self, broken: KafkaProducer | None) -> None:
        if broken is not None:
            _close(broken, timeout_s=0)
        while not self._closed.is_set():
            producer = self._new_producer() if self._listening() else None
            if producer is None:
                self._closed.wait(_RECONNECT_AFTER_S)
                continue
            with self._changing:
                if self._closed.is_set():
                    _close(producer, _CLOSE_TIMEOUT_S)
                else:
                    self._producer = producer
            return

    def _listening(self) -> bool:
        # The producer's constructor leaves sockets open when it fails: look before.
        for address in self._bootstrap.split(","):
            host, _, port = address.strip().rpartition(":")
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=1).close()
            except OSError:
                continue
            return True
        return False

    def _new_producer(self) -> KafkaProducer | None:
        """None while the topic is missing, too: topics are made by whoever deploys."""
        producer = None
        try:
            producer = KafkaProducer(
                bootstrap_servers=self._bootstrap.split(","),
                acks="all",
                enable_idempotence=True,
                linger_ms=0,
                allow_auto_create_topics=False,
                max_block_ms=self._timeout_ms,
                request_timeout_ms=self._timeout_ms,
                delivery_timeout_ms=self._timeout_ms,
                reconnect_backoff_max_ms=1_000,
                metrics_enabled=False,
            )
            producer.partitions_for(LOGIN_ATTEMPTS)
        except (KafkaError, OSError) as error:
            _log.warning("kafka is not ready", error=type(error).__name__)
            if producer is not None:
                _close(producer, timeout_s=0)
            return None
        return producer


def _close(producer: KafkaProducer, timeout_s: float) -> None:
    with contextlib.suppress(KafkaError):  # what is still waiting was never promised to anybody
        producer.close(timeout=timeout_s)
