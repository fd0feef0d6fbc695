"""Records reach Kafka once and in order, whatever stops meanwhile: real Kafka, real Postgres."""

import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import pytest

from login_api.database import Database
from login_api.durable_publisher import DurablePublisher
from login_api.errors import PartUnavailableError
from login_api.metrics import Metrics
from login_api.migrations import migrate
from login_api.outbox import PostgresOutbox, Undelivered
from login_api.record_publisher import Fate, KafkaRecordPublisher
from login_api.records import Record
from login_blocking.kafka_access import KafkaAccess
from login_blocking.names import LOGIN_ATTEMPTS
from tests.contract.test_login_api_record_publisher import records
from tests.support.services import KafkaServer, PostgresServer, running_kafka, running_postgres
from tests.support.waiting import eventually

pytestmark = [pytest.mark.service, pytest.mark.timeout(180)]
TIMEOUT_MS = 500
SETTLE_S = 1.0
_KEYS = [f"user{number}" for number in range(6)]


class Process:
    """What one process of the Login API publishes with."""

    def __init__(self, database_url: str, bootstrap: str) -> None:
        self.metrics = Metrics()
        self.database = Database(database_url, 4, timeout_ms=2_000)
        self.outbox = PostgresOutbox(self.database)
        self.kafka = KafkaRecordPublisher(KafkaAccess(bootstrap), TIMEOUT_MS)
        self.publisher = DurablePublisher(self.kafka, self.outbox, self.metrics, settle_s=SETTLE_S)

    def close(self) -> None:
        self.publisher.close()
        self.database.close()


@contextmanager
def running(count: int, database: str, bootstrap: str) -> Iterator[list[Process]]:
    processes = [Process(database, bootstrap) for _ in range(count)]
    try:
        for process in processes:
            eventually(lambda it=process: answers(it.kafka))  # type: ignore[misc]
        yield processes
    finally:
        for process in processes:
            process.close()


@pytest.fixture
def kafka_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "kafka"
    folder.mkdir()
    return folder


@pytest.fixture
def kafka(kafka_folder: Path) -> Iterator[KafkaServer]:
    with running_kafka(kafka_folder) as server:
        yield server


@pytest.fixture
def database(postgres_server: PostgresServer) -> str:
    url = postgres_server.new_database()
    migrate(url)
    return url


def a_record(key: str, number: int) -> Record:
    value = f"{key} {number}".encode()
    return Record(LOGIN_ATTEMPTS, key.encode(), value, time.time_ns() // 1_000_000)


def answers(kafka: KafkaRecordPublisher) -> bool:
    try:
        kafka.ping()
    except PartUnavailableError:
        return False
    return True


def by_key(bootstrap: str) -> dict[bytes, list[bytes]]:
    found: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for record in records(bootstrap):
        found[record.key].append(record.value)
    return dict(found)


class Users:
    """Each a thread that publishes one record after the other, through every process in turn."""

    def __init__(self, processes: list[Process]) -> None:
        self.published: dict[bytes, list[bytes]] = {key.encode(): [] for key in _KEYS}
        self.slowest_s = 0.0
        self._processes = processes
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._publish, args=(key,)) for key in _KEYS]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def have_published(self, more: int) -> None:
        """Waits until each has published so many more."""
        until = {key: len(values) + more for key, values in self.published.items()}
        eventually(lambda: all(len(self.published[key]) >= count for key, count in until.items()))

    def _publish(self, key: str) -> None:
        for number, process in enumerate(itertools.cycle(self._processes)):
            if self._ending.wait(0.002):
                return
            record = a_record(key, number)
            began = time.monotonic()
            process.publisher.publish(record)
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            self.published[key.encode()].append(record.value)


@pytest.mark.parametrize("how", ["frozen", "killed"])
def test_of_an_outage_every_record_arrives_once_and_in_its_users_order(
    how: str, kafka_folder: Path, database: str
) -> None:
    with ExitStack() as until_end:
        kafka = until_end.enter_context(running_kafka(kafka_folder))
        one, other = until_end.enter_context(running(2, database, kafka.bootstrap))
        users = until_end.enter_context(Users([one, other]))
        for _ in range(2):
            users.have_published(50)
            if how == "frozen":
                kafka.process.pause()
            else:
                kafka.process.kill()
            users.have_published(100)
            kept = one.outbox.length()
            assert kept > 0
            if how == "frozen":
                kafka.process.resume()
            else:
                kafka = until_end.enter_context(running_kafka(kafka_folder, kafka.port))
            eventually(one.outbox.is_open)
            users.have_published(50)
        users.__exit__()
        assert by_key(kafka.bootstrap) == users.published
        assert one.outbox.length() == 0
        assert users.slowest_s < 2 * TIMEOUT_MS / 1_000 + 2


def test_only_the_first_wait_for_a_kafka_that_stands_still(
    kafka: KafkaServer, database: str
) -> None:
    with running(1, database, kafka.bootstrap) as (process,):
        process.publisher.publish(a_record("alice", 0))
        kafka.process.pause()
        process.publisher.publish(a_record("alice", 1))
        began = time.monotonic()
        for number in range(2, 12):
            process.publisher.publish(a_record("alice", number))
        took = time.monotonic() - began
        kafka.process.resume()
        eventually(process.outbox.is_open)
    assert took < TIMEOUT_MS / 1_000
    assert by_key(kafka.bootstrap) == {b"alice": [f"alice {n}".encode() for n in range(12)]}


def test_what_nobody_waited_for_arrives_too_and_in_order(kafka: KafkaServer, database: str) -> None:
    with running(1, database, kafka.bootstrap) as (process,):
        process.publisher.publish(a_record("alice", 0))
        for number in range(1, 300):
            process.publisher.publish_soon(a_record("alice", number))
            if number == 100:
                kafka.process.pause()
            if number == 200:
                eventually(lambda: not process.publisher.gate.open)
        kafka.process.resume()
        eventually(lambda: sum(len(it) for it in by_key(kafka.bootstrap).values()) == 300)
        eventually(process.outbox.is_open)
        assert process.outbox.length() == 0
    assert by_key(kafka.bootstrap) == {b"alice": [f"alice {n}".encode() for n in range(300)]}


def test_what_a_drainer_published_before_it_died_is_not_published_again(
    kafka: KafkaServer, database: str
) -> None:
    waiting = [a_record("alice", number) for number in range(10)]
    connected = Database(database, 2, timeout_ms=2_000)
    outbox = PostgresOutbox(connected)
    outbox.append([Undelivered(record, uncertain=False) for record in waiting], closing=True)
    only_kafka = KafkaRecordPublisher(kafka.access, 5_000)
    with outbox.draining() as drain:
        assert drain is not None
        drain.mark_sent([it.seq for it in drain.oldest(100, 0)])
        assert only_kafka.publish_all(waiting[:5]) == [Fate.PUBLISHED] * 5
    only_kafka.close()
    connected.close()

    with running(2, database, kafka.bootstrap) as processes:
        eventually(processes[0].outbox.is_open)
        found = sum(it.metrics.outbox_found._value.get() for it in processes)
    assert found == 5
    assert by_key(kafka.bootstrap) == {b"alice": [record.value for record in waiting]}


def test_without_postgres_kafka_is_enough_and_without_both_it_is_said(
    tmp_path: Path, kafka: KafkaServer
) -> None:
    with running_postgres(tmp_path) as postgres:
        migrate(postgres.url())
        with running(1, postgres.url(), kafka.bootstrap) as (process,):
            process.publisher.publish(a_record("alice", 0))
            postgres.process.kill()
            process.publisher.publish(a_record("alice", 1))
            process.publisher.publish_soon(a_record("alice", 2))
            eventually(lambda: len(by_key(kafka.bootstrap).get(b"alice", [])) == 3)
            kafka.process.kill()
            with pytest.raises(PartUnavailableError, match="kafka"):
                process.publisher.publish(a_record("alice", 3))
            process.publisher.publish_soon(a_record("alice", 4))
    assert process.metrics.records_lost._value.get() == 1
