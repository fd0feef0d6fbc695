"""Records reach Kafka once and in order, whatever stops meanwhile: real Kafka, real Postgres."""

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import Counter

from login_api.database import Database
from login_api.durable_publisher import DurablePublisher, Way
from login_api.errors import PartUnavailableError
from login_api.metrics import Metrics
from login_api.migrations import migrate
from login_api.outbox import PostgresOutbox
from login_api.record_publisher import KafkaRecordPublisher
from login_api.records import Record
from login_blocking.names import LOGIN_ATTEMPTS
from tests.contract.test_login_api_record_publisher import records
from tests.support.services import (
    REPOSITORY,
    KafkaServer,
    PostgresServer,
    free_port,
    running_kafka,
    running_postgres,
)

pytestmark = [pytest.mark.service, pytest.mark.timeout(180)]
TIMEOUT_MS = 500


class Api:
    """What one process of the Login API has, to publish with."""

    def __init__(self, database_url: str, bootstrap: str) -> None:
        self.metrics = Metrics()
        self.database = Database(database_url, 4, timeout_ms=2_000)
        self.outbox = PostgresOutbox(self.database)
        kafka = KafkaRecordPublisher(bootstrap, TIMEOUT_MS)
        self.publisher = DurablePublisher(kafka, self.outbox, self.metrics, TIMEOUT_MS)

    def close(self) -> None:
        self.publisher.close()
        self.database.close()


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[KafkaServer]:
    with running_kafka(tmp_path / "kafka") as server:
        yield server


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path) -> None:
    (tmp_path / "kafka").mkdir()


@pytest.fixture
def database(postgres_server: PostgresServer) -> str:
    url = postgres_server.new_database()
    migrate(url)
    return url


@contextmanager
def running(count: int, database: str, bootstrap: str) -> Iterator[list[Api]]:
    apis = [Api(database, bootstrap) for _ in range(count)]
    try:
        yield apis
    finally:
        for api in apis:
            api.close()


def a_record(key: str) -> Record:
    # A stamp of its own each, so that the order that is wanted is a clear one.
    with _clock:
        global _last  # noqa: PLW0603 — one clock for all threads
        _last = max(_last + 1, time.time_ns() // 1_000_000)
        return Record(LOGIN_ATTEMPTS, key.encode(), uuid.uuid4().bytes, _last)


_clock, _last = threading.Lock(), 0


def eventually(happened: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def by_key(bootstrap: str) -> dict[bytes, list[bytes]]:
    found: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for record in records(bootstrap):
        found[record.key].append(record.value)
    return dict(found)


def directly(api: Api) -> bool:
    return api.publisher.way is Way.DIRECT


def value(counter: Counter) -> float:
    return next(counter.collect().__iter__()).samples[0].value


@pytest.mark.parametrize("how", ["frozen", "killed"])
def test_of_an_outage_every_record_arrives_once_and_in_order(
    how: str, kafka: KafkaServer, database: str, tmp_path: Path
) -> None:
    published: defaultdict[bytes, list[bytes]] = defaultdict(list)
    ending = threading.Event()

    def publish(api: Api, key: str) -> None:
        while not ending.wait(0.01):
            record = a_record(key)
            api.publisher.publish(record)
            published[key.encode()].append(record.value)

    with running(2, database, kafka.bootstrap) as apis:
        eventually(lambda: all(directly(api) for api in apis))
        threads = [
            threading.Thread(target=publish, args=(apis[n % 2], f"user{n}")) for n in range(6)
        ]
        for thread in threads:
            thread.start()
        eventually(lambda: all(len(values) > 20 for values in published.values()))
        if how == "frozen":
            kafka.process.pause()
        else:
            kafka.process.kill()
        kept = len(published[b"user0"])
        eventually(lambda: len(published[b"user0"]) > kept + 100)
        assert apis[0].outbox.length() > 0
        if how == "frozen":
            kafka.process.resume()
            back = kafka.bootstrap
            eventually(lambda: all(directly(api) for api in apis))
        else:
            with running_kafka(tmp_path / "kafka", kafka.port) as again:
                back = again.bootstrap
                eventually(lambda: all(directly(api) for api in apis))
                _stop(threads, ending)
                eventually(apis[0].outbox.is_empty)
                assert by_key(back) == published
                return
        _stop(threads, ending)
        eventually(apis[0].outbox.is_empty)
        assert by_key(back) == published


def _stop(threads: list[threading.Thread], ending: threading.Event) -> None:
    ending.set()
    for thread in threads:
        thread.join()


def test_only_the_first_waits_for_a_kafka_that_does_not_answer(
    kafka: KafkaServer, database: str
) -> None:
    with running(1, database, kafka.bootstrap) as (api,):
        eventually(lambda: directly(api))
        kafka.process.pause()
        api.publisher.publish(a_record("alice"))
        began = time.monotonic()
        for _ in range(10):
            api.publisher.publish(a_record("alice"))
        took = time.monotonic() - began
        kafka.process.resume()
    assert took < TIMEOUT_MS / 1_000


def test_what_was_handed_over_without_waiting_arrives_too(
    kafka: KafkaServer, database: str
) -> None:
    sent = [a_record("alice") for _ in range(30)]
    with running(1, database, kafka.bootstrap) as (api,):
        eventually(lambda: directly(api))
        for record in sent[:10]:
            api.publisher.publish_soon(record)
        kafka.process.pause()
        for record in sent[10:20]:
            api.publisher.publish_soon(record)
        eventually(lambda: not directly(api))
        for record in sent[20:]:
            api.publisher.publish_soon(record)
        kafka.process.resume()
        eventually(lambda: directly(api))
        assert by_key(kafka.bootstrap) == {b"alice": [record.value for record in sent]}


def test_what_a_drainer_published_before_it_died_is_not_published_again(
    kafka: KafkaServer, database: str
) -> None:
    waiting = [a_record("alice") for _ in range(10)]
    connected = Database(database, 1, timeout_ms=2_000)
    outbox = PostgresOutbox(connected)
    for record in waiting:
        outbox.append(record, uncertain=False)
    with outbox.draining() as drain:
        assert drain is not None
        drain.mark_uncertain([it.seq for it in drain.oldest(100, 0)])
    connected.close()
    only_kafka = KafkaRecordPublisher(kafka.bootstrap, 5_000)
    eventually(lambda: _publishes(only_kafka, waiting[:5]))
    only_kafka.close()

    with running(1, database, kafka.bootstrap) as (api,):
        eventually(lambda: directly(api))
    assert by_key(kafka.bootstrap) == {b"alice": [record.value for record in waiting]}


def _publishes(kafka: KafkaRecordPublisher, waiting: list[Record]) -> bool:
    try:
        return all(kafka.publish_all(waiting))
    except PartUnavailableError:
        return False


def test_one_drains_at_a_time(database: str) -> None:
    one, other = (Database(database, 1, timeout_ms=2_000) for _ in range(2))
    with PostgresOutbox(one).draining() as first, PostgresOutbox(other).draining() as second:
        assert first is not None
        assert second is None
    with PostgresOutbox(other).draining() as second:
        assert second is not None
    one.close()
    other.close()


def test_without_postgres_kafka_is_enough_and_without_both_it_is_said(
    tmp_path: Path, kafka: KafkaServer
) -> None:
    with running_postgres(tmp_path) as server:
        url = server.url()
        migrate(url)
        with running(1, url, kafka.bootstrap) as (api,):
            eventually(lambda: directly(api))
            server.process.kill()
            api.publisher.publish(a_record("alice"))
            assert len(by_key(kafka.bootstrap)[b"alice"]) == 1
            kafka.process.kill()
            with pytest.raises(PartUnavailableError, match="kafka"):
                api.publisher.publish(a_record("alice"))
            api.publisher.publish_soon(a_record("alice"))
            eventually(lambda: value(api.metrics.records_lost) == 1)


def test_what_a_killed_process_kept_is_published_by_the_next(
    database: str, kafka: KafkaServer
) -> None:
    nobody_there = f"127.0.0.1:{free_port()}"
    program = f"""
import sys, time
sys.path.insert(0, {str(REPOSITORY)!r})
from tests.contract.test_login_api_outbox import Api, a_record
api = Api({database!r}, {nobody_there!r})
for _ in range(20):
    record = a_record("alice")
    api.publisher.publish(record)
    print(record.value.hex(), flush=True)
time.sleep(600)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        answered = [bytes.fromhex(process.stdout.readline().strip()) for _ in range(20)]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()

    with running(1, database, kafka.bootstrap) as (api,):
        eventually(lambda: directly(api))
    assert by_key(kafka.bootstrap) == {b"alice": answered}
