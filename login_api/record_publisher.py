"""Records to and from Kafka: what became of each one sent, and which ones it holds already."""

import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from enum import Enum
from functools import lru_cache
from typing import Any, Final, Protocol

import structlog
from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import (
    AuthorizationError,
    InvalidRecordError,
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)
from kafka.partitioner.default import DefaultPartitioner, murmur2

from login_api.errors import PartUnavailableError
from login_api.kafka_clients import client_arguments, listening, partitions_of, refusal
from login_api.records import Record
from login_blocking.kafka_access import KafkaAccess
from login_blocking.names import LOGIN_ATTEMPTS

_log = structlog.get_logger("login_api")
_RECONNECT_AFTER_S: Final = 0.5
_ANSWER_WITHIN_MS: Final = 5_000
_PING_TIMEOUT_S: Final = 0.9
_CLOSE_TIMEOUT_S: Final = 1.0
_ABORT_WITHIN_S: Final = 1.0
_LOOK_WITHIN_S: Final = 30.0
_LINGER_MS: Final = 20
_KEYS_KEPT: Final = 4_096
_REFUSALS: Final = (
    InvalidTimestampError,
    InvalidRecordError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)
_SOCKET_OPTIONS: Final = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    # Closing throws away what has not left: the kernel sends nothing on once we have given up.
    (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)),
]


class _Partitioner(DefaultPartitioner):  # type: ignore[misc]
    """Kafka's default; who hammers on has the same key each time, and murmur2 is slow in Python."""

    def partition(  # noqa: PLR0917 — kafka-python's own
        self,
        topic: str,
        key: object,
        serialized_key: bytes | None,
        value: object,
        serialized_value: object,
        cluster: Any,  # noqa: ANN401 — kafka-python has no types
    ) -> int:
        """See kafka-python."""
        partitions = sorted(cluster.partitions_for_topic(topic) or ())
        if serialized_key is None or not partitions:
            chosen: int = super().partition(
                topic, key, serialized_key, value, serialized_value, cluster
            )
            return chosen
        return int(partitions[_hash(serialized_key) % len(partitions)])


@lru_cache(_KEYS_KEPT)
def _hash(key: bytes) -> int:
    return int(murmur2(key)) & 0x7FFFFFFF


class Fate(Enum):
    """What became of a record."""

    PUBLISHED = "published"
    REFUSED = "refused"
    """For what it is, if it was sent alone; else perhaps for what was sent with it."""
    UNSENT = "unsent"
    """Kafka holds nothing of it."""
    UNCERTAIN = "uncertain"
    """Kafka gave no answer in time: it may hold the record or not."""


class Kafka(Protocol):
    """What the durable publisher and the drainer need."""

    def publish_all(self, records: Sequence[Record]) -> list[Fate]:
        """Sends them in their order; ends within about the timeout and raises nothing.

        Afterwards nothing of it is on its way any more. Of a key's records those published come
        before those uncertain and unsent, unless one of them was refused.
        """

    def held(self, records: Sequence[Record]) -> set[Record]:
        """Which of them Kafka holds; raises PartUnavailableError("kafka")."""

    def ping(self) -> None:
        """Returns if Kafka answers; raises PartUnavailableError("kafka")."""

    def close(self) -> None:
        """Lets go of the brokers."""


class KafkaRecordPublisher:
    """A producer of this process' own: idempotent, every in-sync replica acknowledges, no linger.

    It is built in the background: its constructor blocks for seconds when no broker answers, and no
    login may wait for that. Until then every call fails at once, but for the first `timeout_ms` of
    the process, when it waits. A producer that did not deliver in time is given up with all it
    holds, and a new one takes its place: it cannot deliver late, nor a record before an older one.
    """

    def __init__(self, access: KafkaAccess, timeout_ms: int) -> None:
        self._access = access
        self._timeout_ms = timeout_ms
        self.refused: str | None = None
        """Why Kafka takes nothing from this user, None if it does, is away or was not asked yet."""
        self._producer: KafkaProducer | None = None
        self._changing = threading.Lock()
        self._closed = threading.Event()
        self._connected_once = threading.Event()
        self._patient_until = time.monotonic() + timeout_ms / 1_000
        self._connect_in_background(None)

    def publish_all(self, records: Sequence[Record]) -> list[Fate]:
        """See Kafka."""
        self._connected_once.wait(max(0.0, self._patient_until - time.monotonic()))
        deadline = time.monotonic() + self._timeout_ms / 1_000
        producer = self._producer
        if producer is None:
            return [Fate.UNSENT] * len(records)
        sent = self._send(producer, records, deadline)
        for answer in sent:
            if not isinstance(answer, Fate):
                self._wait(answer, deadline)
        if any(_fate(answer) not in (Fate.PUBLISHED, Fate.UNSENT) for answer in sent):
            # A refusal too is fatal to an idempotent producer: all that follows would share it.
            self._give_up(producer)
            deadline = time.monotonic() + _ABORT_WITHIN_S
            for answer in sent:
                if not isinstance(answer, Fate):
                    self._wait(answer, deadline)
        return [_fate(answer) for answer in sent]

    def held(self, records: Sequence[Record]) -> set[Record]:
        """See Kafka. Reads whatever is not older than the oldest of them."""
        wanted, found = set(records), set[Record]()
        if not listening(self._access):
            raise PartUnavailableError("kafka")
        try:
            for topic in {record.topic for record in wanted}:
                oldest = min(record.ts for record in wanted if record.topic == topic)
                found.update(record for record in self._since(topic, oldest) if record in wanted)
        except (KafkaError, OSError) as error:
            raise PartUnavailableError("kafka") from error
        return found

    def ping(self) -> None:
        """See Kafka; asks a broker, since an idle connection tells nothing."""
        producer = self._producer
        if producer is None:
            raise PartUnavailableError("kafka")
        answered = threading.Event()
        refresh = producer._metadata.request_update()  # noqa: SLF001 — no public call asks
        refresh.add_both(lambda _: answered.set())
        if not answered.wait(_PING_TIMEOUT_S) or refresh.failed():
            raise PartUnavailableError("kafka")

    def close(self) -> None:
        """See Kafka; publish_all leaves nothing behind that could be lost."""
        self._closed.set()
        with self._changing:
            if self._producer is not None:
                _close(self._producer, _CLOSE_TIMEOUT_S)
                self._producer = None

    def _give_up(self, producer: KafkaProducer) -> None:
        """Every record that it holds fails; none is sent any more."""
        producer._sender.force_close()  # noqa: SLF001 — close() first waits for what it holds
        with self._changing:
            if self._producer is producer:
                self._producer = None
                self._connect_in_background(producer)

    def _connect_in_background(self, given_up: KafkaProducer | None) -> None:
        threading.Thread(
            target=self._connect, args=(given_up,), name="kafka-connect", daemon=True
        ).start()

    def _connect(self, given_up: KafkaProducer | None) -> None:
        if given_up is not None:
            _close(given_up, _CLOSE_TIMEOUT_S)
        while not self._closed.is_set():
            try:
                producer = self._new_producer() if listening(self._access) else None
            except Exception as error:  # noqa: BLE001 — the thread must outlive whatever it is
                _log.error("unexpected, on the way to kafka", error=type(error).__name__)
                producer = None
            if producer is None:
                self._closed.wait(_RECONNECT_AFTER_S)
                continue
            with self._changing:
                if self._closed.is_set():
                    _close(producer, _CLOSE_TIMEOUT_S)
                else:
                    self._producer = producer
                    self._connected_once.set()
            return

    def _new_producer(self) -> KafkaProducer | None:
        """None while the topic is missing, too: topics are made by whoever deploys."""
        producer = None
        try:
            producer = KafkaProducer(
                **client_arguments(self._access),
                bootstrap_timeout_ms=_ANSWER_WITHIN_MS,
                acks="all",
                enable_idempotence=True,
                # What is published together goes together: `_send` says when it is complete.
                linger_ms=_LINGER_MS,
                partitioner=_Partitioner(),
                allow_auto_create_topics=False,
                max_block_ms=self._timeout_ms,
                request_timeout_ms=self._timeout_ms,
                # Longer than anybody waits: records are given up together or not at all.
                delivery_timeout_ms=4 * self._timeout_ms,
                reconnect_backoff_max_ms=1_000,
                socket_options=_SOCKET_OPTIONS,
                metrics_enabled=False,
            )
            producer.partitions_for(LOGIN_ATTEMPTS)
        except (KafkaError, OSError) as error:
            self.refused = refusal(self._access, error)
            reason = self.refused
            if reason is None and producer is not None:
                reason = f"nothing of topic {LOGIN_ATTEMPTS}: python -m login_api.topics creates it"
            _log.warning("kafka is not ready", error=type(error).__name__, reason=reason)
            if producer is not None:
                _close(producer, timeout_s=0)
            return None
        self.refused = None
        return producer

    def _since(self, topic: str, oldest: int) -> Iterator[Record]:
        """Every record of a topic from the first whose stamp is `oldest` or later."""
        consumer = KafkaConsumer(
            **client_arguments(self._access),
            bootstrap_timeout_ms=_ANSWER_WITHIN_MS,
            request_timeout_ms=_ANSWER_WITHIN_MS,
            enable_auto_commit=False,
            metrics_enabled=False,
        )
        deadline = time.monotonic() + _LOOK_WITHIN_S
        try:
            partitions = partitions_of(consumer, topic)
            begins = consumer.offsets_for_times(dict.fromkeys(partitions, oldest))
            ends = consumer.end_offsets(partitions)
            left = [it for it in partitions if begins[it] and begins[it].offset < ends[it]]
            consumer.assign(left)
            for partition in left:
                consumer.seek(partition, begins[partition].offset)
            while any(consumer.position(partition) < ends[partition] for partition in left):
                if time.monotonic() > deadline:
                    raise PartUnavailableError("kafka")
                for batch in consumer.poll(timeout_ms=200).values():
                    for it in batch:
                        yield Record(it.topic, it.key, it.value, it.timestamp)
        finally:
            consumer.close()

    def _send(
        self, producer: KafkaProducer, records: Sequence[Record], deadline: float
    ) -> list[Any]:
        """For each a future or, where none came of it, its fate."""
        sent: list[Any] = []
        failed_topics = set()  # each of its records would wait as long as the first
        for record in records:
            if record.topic in failed_topics:
                sent.append(Fate.UNSENT)
                continue
            try:
                future = producer.send(
                    record.topic, key=record.key, value=record.value, timestamp_ms=record.ts
                )
            except (ValueError, *_REFUSALS):
                sent.append(Fate.REFUSED)
            except KafkaError as error:
                self._tell_if_refused(error)
                failed_topics.add(record.topic)
                sent.append(Fate.UNSENT)
            else:
                sent.append(future)
        with suppress(KafkaError):  # each future tells by itself
            producer.flush(timeout=max(0.0, deadline - time.monotonic()))
        return sent

    def _wait(self, future: Any, deadline: float) -> None:  # noqa: ANN401 — kafka-python has no types
        try:
            future.get(timeout=max(0.0, deadline - time.monotonic()))
        except KafkaError as error:
            self._tell_if_refused(error)

    def _tell_if_refused(self, error: KafkaError) -> None:
        if isinstance(error, AuthorizationError):
            before, self.refused = self.refused, refusal(self._access, error)
            if self.refused != before:  # each record of a batch tells the same
                _log.error("kafka refuses us", reason=self.refused)


def _fate(answer: Any) -> Fate:  # noqa: ANN401 — a Fate or kafka-python's future
    if isinstance(answer, Fate):
        return answer
    if answer.succeeded():
        return Fate.PUBLISHED
    if isinstance(answer.exception, _REFUSALS):
        return Fate.REFUSED
    if type(answer.exception) is KafkaError:  # another one of its batch was refused
        return Fate.UNSENT
    return Fate.UNCERTAIN


def _close(producer: KafkaProducer, timeout_s: float) -> None:
    try:
        producer.close(timeout=timeout_s)
    except KafkaError:  # it holds something still, and then does not even begin to close
        producer._sender.force_close()  # noqa: SLF001
