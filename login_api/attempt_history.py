"""The last attempts at one name, read out of Kafka: the past is kept nowhere else."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from kafka.partitioner.default import murmur2

from login_api.errors import PartUnavailableError
from login_api.kafka_clients import client_arguments, partitions_of
from login_blocking.attempts import Attempt, MalformedAttemptError, decode
from login_blocking.kafka_access import KafkaAccess
from login_blocking.names import LOGIN_ATTEMPTS

_STEP: Final = 5_000
_BUDGET_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class History:
    """Attempts, newest first. All there are down to `searched_back_to` (ms since the epoch).

    None: the whole topic was searched.
    """

    attempts: list[Attempt]
    searched_back_to: int | None


class AttemptHistory(Protocol):
    """What the operator's calls need."""

    def of_user(self, user: str, limit: int) -> History:
        """The last attempts at a name in normal form; raises PartUnavailableError("kafka")."""


class KafkaAttemptHistory:
    """Reads the user's partition backwards, for about two seconds at most."""

    def __init__(self, access: KafkaAccess) -> None:
        self._access = access

    def of_user(self, user: str, limit: int) -> History:
        """See AttemptHistory."""
        try:
            consumer = KafkaConsumer(
                **client_arguments(self._access),
                bootstrap_timeout_ms=2_000,
                request_timeout_ms=5_000,
                metrics_enabled=False,
            )
        except KafkaError as error:
            raise PartUnavailableError("kafka") from error
        try:
            return search(consumer, user, limit)
        except KafkaError as error:
            raise PartUnavailableError("kafka") from error
        finally:
            consumer.close()


def search(
    consumer: KafkaConsumer,
    user: str,
    limit: int,
    within_s: float = _BUDGET_S,
    clock: Callable[[], float] = time.monotonic,
) -> History:
    """The last attempts at a name, from the newest back, as far as the time allows.

    What is shown has no gap: of a step that was not read to its end nothing is. Raises
    PartUnavailableError("kafka") if there was no time for one, KafkaError.
    """
    deadline = clock() + within_s
    key = user.encode()
    partitions = partitions_of(consumer, LOGIN_ATTEMPTS)
    partition = partitions[partition_of(key, len(partitions))]
    consumer.assign([partition])
    beginning = consumer.beginning_offsets([partition])[partition]
    end = consumer.end_offsets([partition])[partition]
    found: list[Attempt] = []
    oldest: int | None = None
    while end > beginning and len(found) < limit and clock() < deadline:
        start = max(beginning, end - _STEP)
        consumer.seek(partition, start)
        newer: list[bytes] = []
        began: int | None = None
        for record in _read(consumer, partition, end, deadline, clock):
            began = record.timestamp if began is None else began
            if record.key == key:
                newer.append(record.value)
        if consumer.position(partition) < end:
            break  # its newest are missing: none of it may be shown as if they were not
        oldest = began
        found += _attempts(reversed(newer))
        end = start
    complete = end <= beginning
    if not complete and oldest is None:
        raise PartUnavailableError("kafka")  # slower than anybody waits
    return History(found[:limit], None if complete else oldest)


def partition_of(key: bytes, partitions: int) -> int:
    """Where Kafka's own partitioner puts a key."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


def _read(
    consumer: KafkaConsumer,
    partition: TopicPartition,
    end: int,
    deadline: float,
    clock: Callable[[], float],
) -> Iterator[Any]:  # kafka-python has no types
    while consumer.position(partition) < end and clock() < deadline:
        for batch in consumer.poll(timeout_ms=500).values():
            yield from (record for record in batch if record.offset < end)


def _attempts(values: Iterator[bytes]) -> Iterator[Attempt]:
    for value in values:
        try:
            yield decode(value)
        except MalformedAttemptError:
            continue
