"""One exam for records published in memory and to Kafka; and what the way to Kafka promises."""

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from kafka import KafkaConsumer, TopicPartition

from login_api.durable_publisher import DurablePublisher
from login_api.errors import PartUnavailableError
from login_api.metrics import Metrics
from login_api.record_publisher import Fate, KafkaRecordPublisher
from login_api.records import RecordPublisher, attempt_record
from login_blocking.attempts import Attempt, Outcome, decode
from login_blocking.kafka_access import KafkaAccess
from login_blocking.names import LOGIN_ATTEMPTS
from tests.support.login_api import InMemoryRecordPublisher
from tests.support.outbox import InMemoryOutbox
from tests.support.services import PARTITIONS, KafkaServer, free_port, running_kafka

TIMEOUT_MS = 2_000
_READY_WITHIN_S = 30.0


class Record(NamedTuple):
    key: bytes
    value: bytes
    timestamp: int
    partition: int


def an_attempt(user: str = "alice") -> Attempt:
    now = time.time_ns() // 1_000_000
    return Attempt(str(uuid.uuid4()), now - 5_000, user, "198.51.100.7", Outcome.FAILURE)


def records(bootstrap: str, topic: str = LOGIN_ATTEMPTS) -> list[Record]:
    """All of a topic, by partition and offset."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap)
    try:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        ends = consumer.end_offsets(partitions)
        read: list[Record] = []
        while any(consumer.position(partition) < ends[partition] for partition in partitions):
            for batch in consumer.poll(timeout_ms=200).values():
                read += [Record(it.key, it.value, it.timestamp, it.partition) for it in batch]
        return read
    finally:
        consumer.close()


def publish(publisher: KafkaRecordPublisher, attempt: Attempt) -> None:
    if publisher.publish_all([attempt_record(attempt)]) != [Fate.PUBLISHED]:
        raise PartUnavailableError("kafka")


def wait_until_it_publishes(publisher: KafkaRecordPublisher) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while True:
        try:
            publisher.ping()
            publish(publisher, an_attempt("warm-up"))
        except PartUnavailableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


@pytest.fixture
def kafka_publisher(kafka_server: KafkaServer) -> Iterator[KafkaRecordPublisher]:
    publisher = KafkaRecordPublisher(kafka_server.access, TIMEOUT_MS)
    wait_until_it_publishes(publisher)
    yield publisher
    publisher.close()


@pytest.fixture(params=["in-memory", pytest.param("kafka", marks=pytest.mark.service)])
def publisher_and_published(
    request: pytest.FixtureRequest,
) -> Iterator[tuple[RecordPublisher, Callable[[], list[Attempt]]]]:
    if request.param == "in-memory":
        in_memory = InMemoryRecordPublisher()
        yield in_memory, lambda: [decode(record.value) for record in in_memory.published]
        return
    server: KafkaServer = request.getfixturevalue("kafka_server")
    kafka: KafkaRecordPublisher = request.getfixturevalue("kafka_publisher")
    real = DurablePublisher(kafka, InMemoryOutbox(), Metrics(), settle_s=0.1)
    yield real, lambda: [decode(record.value) for record in records(server.bootstrap)]
    real.close()


def test_what_was_published_is_there_when_the_call_returns(
    publisher_and_published: tuple[RecordPublisher, Callable[[], list[Attempt]]],
) -> None:
    publisher, published = publisher_and_published
    attempt = an_attempt()
    publisher.publish(attempt_record(attempt))
    assert published().count(attempt) == 1


def test_attempts_of_one_user_keep_their_order(
    publisher_and_published: tuple[RecordPublisher, Callable[[], list[Attempt]]],
) -> None:
    publisher, published = publisher_and_published
    attempts = [an_attempt("李小龍") for _ in range(20)]
    for attempt in attempts:
        publisher.publish(attempt_record(attempt))
    assert [attempt for attempt in published() if attempt in attempts] == attempts


def test_attempts_of_many_threads_are_there_once_each(
    publisher_and_published: tuple[RecordPublisher, Callable[[], list[Attempt]]],
) -> None:
    publisher, published = publisher_and_published
    attempts = [an_attempt(f"user{number}") for number in range(60)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(publisher.publish, map(attempt_record, attempts)))
    seen = published()
    assert [seen.count(attempt) for attempt in attempts] == [1] * len(attempts)


def test_ping_answers(
    publisher_and_published: tuple[RecordPublisher, Callable[[], list[Attempt]]],
) -> None:
    publisher, _ = publisher_and_published
    publisher.ping()


@pytest.mark.service
def test_a_record_has_the_users_key_and_the_attempts_own_time(
    kafka_server: KafkaServer, kafka_publisher: KafkaRecordPublisher
) -> None:
    attempts = [an_attempt(), an_attempt()]
    fates = kafka_publisher.publish_all([attempt_record(attempt) for attempt in attempts])
    assert fates == [Fate.PUBLISHED] * 2
    values = [attempt.encode() for attempt in attempts]
    found = [record for record in records(kafka_server.bootstrap) if record.value in values]
    assert [record.key for record in found] == [b"alice", b"alice"]
    assert [record.timestamp for record in found] == [attempt.ts for attempt in attempts]
    assert found[0].partition == found[1].partition


@pytest.mark.service
def test_a_stamp_that_the_broker_refuses_spoils_nothing_for_the_next(
    kafka_publisher: KafkaRecordPublisher,
) -> None:
    early = an_attempt()
    early = replace(early, ts=early.ts + 10**10, user="bob")
    batch = [an_attempt("bob"), early, an_attempt("bob")]
    fates = kafka_publisher.publish_all([attempt_record(attempt) for attempt in batch])
    assert fates[1] is Fate.REFUSED
    assert fates[2] is not Fate.PUBLISHED
    wait_until_it_publishes(kafka_publisher)
    assert kafka_publisher.publish_all([attempt_record(early)]) == [Fate.REFUSED]
    wait_until_it_publishes(kafka_publisher)


@pytest.mark.service
def test_without_a_broker_every_call_fails_at_once() -> None:
    publisher = KafkaRecordPublisher(KafkaAccess(f"127.0.0.1:{free_port()}"), TIMEOUT_MS)
    try:
        began = time.monotonic()
        assert publisher.publish_all([attempt_record(an_attempt())]) == [Fate.UNSENT]
        assert time.monotonic() - began < TIMEOUT_MS / 1_000 + 0.5  # it may be about to connect
        began = time.monotonic()
        assert publisher.publish_all([attempt_record(an_attempt())]) == [Fate.UNSENT]
        with pytest.raises(PartUnavailableError, match="kafka"):
            publisher.ping()
        with pytest.raises(PartUnavailableError, match="kafka"):
            publisher.held([attempt_record(an_attempt())])
        assert time.monotonic() - began < 0.5
    finally:
        publisher.close()


@pytest.mark.service
def test_a_broker_may_come_late_go_and_come_back(tmp_path: Path) -> None:
    port = free_port()
    publisher = KafkaRecordPublisher(KafkaAccess(f"127.0.0.1:{port}"), TIMEOUT_MS)
    try:
        with running_kafka(tmp_path, port):
            wait_until_it_publishes(publisher)
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(PartUnavailableError, match="kafka"):
                publish(publisher, an_attempt())
            assert time.monotonic() - began < TIMEOUT_MS / 1_000 + 0.5
        with pytest.raises(PartUnavailableError, match="kafka"):
            publisher.ping()
        with running_kafka(tmp_path, port):
            wait_until_it_publishes(publisher)
    finally:
        publisher.close()


@pytest.mark.service
def test_held_are_those_that_the_topic_has_and_no_others(
    kafka_publisher: KafkaRecordPublisher,
) -> None:
    there = [attempt_record(an_attempt(f"held{number}")) for number in range(20)]
    missing = [attempt_record(an_attempt(f"held{number}")) for number in range(20)]
    assert set(kafka_publisher.publish_all(there)) == {Fate.PUBLISHED}
    assert kafka_publisher.held([*missing, *there]) == set(there)
    assert kafka_publisher.held([]) == set()


@pytest.mark.service
def test_what_a_standing_broker_was_sent_is_uncertain_and_given_up(tmp_path: Path) -> None:
    with running_kafka(tmp_path) as server:
        publisher = KafkaRecordPublisher(server.access, TIMEOUT_MS)
        try:
            wait_until_it_publishes(publisher)
            server.process.pause()
            began = time.monotonic()
            sent = [attempt_record(an_attempt("alice")) for _ in range(5)]
            assert publisher.publish_all(sent) == [Fate.UNCERTAIN] * 5
            assert publisher.publish_all(sent) == [Fate.UNSENT] * 5
            assert time.monotonic() - began < TIMEOUT_MS / 1_000 + 1
            server.process.resume()
            wait_until_it_publishes(publisher)
            held = publisher.held(sent)
            assert [it.value for it in records(server.bootstrap) if it.key == b"alice"] == [
                record.value for record in sent if record in held
            ]
        finally:
            server.process.resume()
            publisher.close()
