"""Publishes records to Kafka and returns when the broker has them."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import structlog
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError, RetriableError

from login_api.errors import PartUnavailableError, PerhapsPublishedError
from login_api.records import Record
from login_blocking.names import LOGIN_ATTEMPTS

_log = structlog.get_logger("login_api")
_RECONNECT_AFTER_S: Final = 0.5
_PING_TIMEOUT_S: Final = 0.9
_CLOSE_TIMEOUT_S: Final = 2.0
_LOOK_S: Final = 30.0


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
        """Returns when the broker has it; ends within about `timeout_ms`.

        Raises PartUnavailableError, PerhapsPublishedError where the broker may have it.
        """
        deadline = time.monotonic() + self._timeout_ms / 1_000
        producer = self._connected()
        try:
            acknowledged = _send(producer, record)
            acknowledged.get(timeout=max(0.0, deadline - time.monotonic()))
        except RetriableError as error:  # an expired deadline too: the producer itself is sound
            raise PerhapsPublishedError("kafka") from error
        except (KafkaError, ValueError) as error:
            # Some of these an idempotent producer never recovers from: take a new one.
            self._replace(producer)
            raise PerhapsPublishedError("kafka") from error

    def publish_soon(self, record: Record, on_failure: Callable[[Record], None]) -> None:
        """Returns at once; `on_failure` hears of it, from another thread, if the broker did not.

        Raises PartUnavailableError.
        """
        try:
            sent = _send(self._connected(), record)
        except (KafkaError, ValueError) as error:
            raise PartUnavailableError("kafka") from error
        sent.add_errback(lambda _: on_failure(record))

    def publish_all(self, records: Sequence[Record]) -> list[bool]:
        """Which of them the broker has acknowledged in time; they go out in their order."""
        deadline = time.monotonic() + self._timeout_ms / 1_000
        producer = self._connected()
        taken = []
        try:
            sent = [_send(producer, record) for record in records]
        except (KafkaError, ValueError) as error:
            self._replace(producer)
            raise PerhapsPublishedError("kafka") from error
        for acknowledged in sent:
            try:
                acknowledged.get(timeout=max(0.0, deadline - time.monotonic()))
            except (KafkaError, ValueError):
                taken.append(False)
            else:
                taken.append(True)
        if not all(taken):
            self._replace(producer)
        return taken

    def held(self, records: Sequence[Record]) -> set[Record]:
        """Which of them the broker holds already; looks at everything that is not older.

        Raises PartUnavailableError.
        """
        wanted = set(records)
        found: set[Record] = set()
        try:
            for topic in {record.topic for record in wanted}:
                first = min(record.ts for record in wanted if record.topic == topic)
                for record in self._records_since(topic, first):
                    found |= {record} & wanted
        except (KafkaError, OSError) as error:
            raise PartUnavailableError("kafka") from error
        return found

    def _records_since(self, topic: str, ts: int) -> Iterator[Record]:
        consumer = KafkaConsumer(
            bootstrap_servers=self._bootstrap.split(","),
            request_timeout_ms=5_000,
            consumer_timeout_ms=5_000,
            metrics_enabled=False,
        )
        try:
            partitions = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic)]
            starts = consumer.offsets_for_times(dict.fromkeys(partitions, ts))
            ends = consumer.end_offsets(partitions)
            reading = {it: start.offset for it, start in starts.items() if start is not None}
            if not reading:
                return
            consumer.assign(list(reading))
            for partition, offset in reading.items():
                consumer.seek(partition, offset)
            deadline = time.monotonic() + _LOOK_S
            while any(consumer.position(partition) < ends[partition] for partition in reading):
                if time.monotonic() > deadline:
                    raise KafkaTimeoutError("the topic could not be read in time")
                for batch in consumer.poll(timeout_ms=500).values():
                    for found in batch:
                        yield Record(topic, found.key, found.value, found.timestamp)
        finally:
            consumer.close()

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


def _send(producer: KafkaProducer, record: Record) -> Any:  # noqa: ANN401 — kafka-python has no types
    return producer.send(record.topic, key=record.key, value=record.value, timestamp_ms=record.ts)


def _close(producer: KafkaProducer, timeout_s: float) -> None:
    try:
        producer.close(timeout=timeout_s)
    except KafkaError:
        # Its own close leaves a thread behind that goes on sending when something still waits.
        producer._sender.force_close()  # noqa: SLF001 — no public call does
        producer._closed = True  # noqa: SLF001
