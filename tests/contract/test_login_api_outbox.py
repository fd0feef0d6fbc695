"""One exam for the outbox in memory and in Postgres."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest

from login_api.database import Database
from login_api.errors import PartUnavailableError
from login_api.migrations import migrate
from login_api.outbox import Outbox, PostgresOutbox, Undelivered
from login_api.records import Record
from tests.support.outbox import InMemoryOutbox
from tests.support.services import PostgresServer

NEVER_S = 3_600.0


@pytest.fixture
def database_url(postgres_server: PostgresServer) -> str:
    url = postgres_server.new_database()
    migrate(url)
    return url


@pytest.fixture
def postgres_outbox(database_url: str) -> Iterator[PostgresOutbox]:
    database = Database(database_url, 4, timeout_ms=2_000)
    yield PostgresOutbox(database)
    database.close()


@pytest.fixture(params=["in-memory", pytest.param("postgres", marks=pytest.mark.service)])
def outbox(request: pytest.FixtureRequest) -> Outbox:
    if request.param == "in-memory":
        return InMemoryOutbox()
    postgres: PostgresOutbox = request.getfixturevalue("postgres_outbox")
    return postgres


def a_record(ts: int, value: str = "value", key: str | None = "alice") -> Record:
    return Record("login-attempts", None if key is None else key.encode(), value.encode(), ts)


def certain(*records: Record) -> list[Undelivered]:
    return [Undelivered(record, uncertain=False) for record in records]


def waiting(outbox: Outbox) -> list[Record]:
    with outbox.draining() as drain:
        assert drain is not None
        return [it.record for it in drain.oldest(1_000, NEVER_S)]


def test_at_first_the_gate_is_open_and_nothing_is_kept(outbox: Outbox) -> None:
    assert outbox.is_open()
    assert outbox.append(certain(a_record(1)), closing=False) is None
    assert outbox.length() == 0


def test_who_closes_the_gate_keeps_and_then_all_keep(outbox: Outbox) -> None:
    first = outbox.append(certain(a_record(1)), closing=True)
    second = outbox.append(certain(a_record(2)), closing=False)
    assert not outbox.is_open()
    assert first is not None
    assert second is not None
    assert 0 <= first <= second < 60
    assert outbox.length() == 2


def test_they_come_out_as_they_went_in_by_stamp_and_then_by_arrival(outbox: Outbox) -> None:
    late, keyless = a_record(5, "late"), a_record(7, "keyless", None)
    same = [a_record(6, f"same {number}") for number in range(50)]
    outbox.append(certain(keyless, *same[:30]), closing=True)
    outbox.append(certain(*same[30:], late), closing=False)
    assert waiting(outbox) == [late, *same, keyless]


def test_uncertain_and_settled_are_told(outbox: Outbox) -> None:
    outbox.append([Undelivered(a_record(1), uncertain=True)], closing=True)
    outbox.append(certain(a_record(2)), closing=False)
    with outbox.draining() as drain:
        assert drain is not None
        suspect, fresh = drain.oldest(10, NEVER_S)
        assert (suspect.uncertain, suspect.settled) == (True, False)
        assert (fresh.uncertain, fresh.settled) == (False, True)
        time.sleep(0.001)  # the clock must move at all
        assert drain.oldest(1, 0.0)[0].settled
        drain.mark_sent([fresh.seq])
        assert drain.oldest(2, NEVER_S)[1].uncertain


def test_the_gate_opens_only_when_nothing_waits(outbox: Outbox) -> None:
    outbox.append(certain(a_record(1), a_record(2)), closing=True)
    with outbox.draining() as drain:
        assert drain is not None
        one, two = drain.oldest(10, NEVER_S)
        drain.remove([one.seq])
        with drain.appenders_held():
            assert not drain.open_gate()
            assert not outbox.is_open()
        drain.refuse(two.seq)
        assert outbox.length() == 0
        with drain.appenders_held():
            assert drain.open_gate()
    assert outbox.is_open()


def test_one_drains_at_a_time(outbox: Outbox) -> None:
    with outbox.draining() as first, outbox.draining() as second:
        assert first is not None
        assert second is None
    with outbox.draining() as third:
        assert third is not None


def test_an_append_waits_until_the_gate_is_open_and_then_keeps_nothing(outbox: Outbox) -> None:
    outbox.append(certain(a_record(1)), closing=True)
    asked = threading.Event()

    def append() -> float | None:
        asked.set()
        return outbox.append(certain(a_record(2)), closing=False)

    with ThreadPoolExecutor(1) as other:
        with outbox.draining() as drain:
            assert drain is not None
            with drain.appenders_held():
                appended = other.submit(append)
                assert asked.wait(10)
                drain.remove([it.seq for it in drain.oldest(10, NEVER_S)])
                assert drain.open_gate()
                assert not appended.done()
        assert appended.result(10) is None
    assert outbox.length() == 0


def test_of_many_appends_at_once_none_is_lost(outbox: Outbox) -> None:
    def append(number: int) -> None:
        assert outbox.append(certain(a_record(number)), closing=number % 2 == 0) is not None

    outbox.append(certain(a_record(1_000)), closing=True)
    with ThreadPoolExecutor(4) as clients:
        list(clients.map(append, range(100)))
    assert [record.ts for record in waiting(outbox)] == [*range(100), 1_000]


@pytest.mark.service
def test_the_right_to_drain_goes_with_the_connection(
    database_url: str, postgres_outbox: PostgresOutbox
) -> None:
    administrator = psycopg2.connect(database_url)
    administrator.autocommit = True
    with pytest.raises(PartUnavailableError, match="postgres"), postgres_outbox.draining() as drain:  # noqa: PT012
        assert drain is not None
        with administrator.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks"
                " WHERE locktype = 'advisory' AND granted"
            )
        drain.mark_sent([1])
    administrator.close()
    with postgres_outbox.draining() as drain:
        assert drain is not None


@pytest.mark.service
def test_what_was_refused_is_kept_aside(database_url: str, postgres_outbox: PostgresOutbox) -> None:
    postgres_outbox.append(certain(a_record(1, "poison")), closing=True)
    with postgres_outbox.draining() as drain:
        assert drain is not None
        drain.refuse(drain.oldest(1, NEVER_S)[0].seq)
    administrator = psycopg2.connect(database_url)
    with administrator.cursor() as cursor:
        cursor.execute("SELECT topic, key, value, ts FROM outbox_refused")
        topic, key, value, ts = cursor.fetchall()[0]
    administrator.close()
    assert (topic, bytes(key), bytes(value), ts) == ("login-attempts", b"alice", b"poison", 1)
