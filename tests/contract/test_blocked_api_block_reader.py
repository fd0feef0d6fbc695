"""One exam for blocks in memory and in Redis, written by the detector's own writer and user."""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from blocked_api.block_reader import (
    BlockReader,
    BlocksUnavailableError,
    LiveBlock,
    RedisBlockReader,
)
from flink_jobs.redis_writer import RedisBlockWriter
from login_blocking.blocks import RedisEntry
from login_blocking.names import block_hash, blocked_set
from login_blocking.subjects import Subject
from tests.support.block_entries import block, tombstone
from tests.support.blocked_api import InMemoryBlockReader
from tests.support.services import REPOSITORY, RedisServer, free_port

SCRIPT = (REPOSITORY / "redis" / "apply_block.lua").read_text()
ALICE, BOB = Subject("user", "alice"), Subject("user", "bob")
HOUR = 3_600_000
SINCE = time.time_ns() // 1_000_000
"""Redis drops by its own clock what has ended, so the exam happens at the present time."""


@dataclass
class Exam:
    """A reader, a way to fill what it reads, and its clock."""

    reader: BlockReader
    write: Callable[[Subject, dict[str, RedisEntry]], object]
    set_clock: Callable[[int], object]


@pytest.fixture
def in_redis(redis_server: RedisServer) -> Iterator[Exam]:
    now = [SINCE]
    reader = RedisBlockReader(redis_server.url("blocked_api"), 450, clock=lambda: now[0])
    writer = RedisBlockWriter(redis_server.url("detector"), SCRIPT)
    yield Exam(reader, writer.apply, lambda moment: now.__setitem__(0, moment))
    reader.close()
    writer.close()
    with redis_server.admin() as admin:
        admin.flushall()


@pytest.fixture(params=["in-memory", pytest.param("redis", marks=pytest.mark.service)])
def exam(request: pytest.FixtureRequest) -> Exam:
    if request.param == "redis":
        real: Exam = request.getfixturevalue("in_redis")
        return real
    reader = InMemoryBlockReader(SINCE)
    return Exam(
        reader,
        lambda subject, entries: reader.write(subject, **entries),
        lambda moment: setattr(reader, "now", moment),
    )


def test_nobody_is_blocked_at_first(exam: Exam) -> None:
    assert exam.reader.blocked("user") == []
    assert exam.reader.blocked("ip") == []
    assert exam.reader.blocks(ALICE) == []


def test_the_list_is_sorted_by_name(exam: Exam) -> None:
    for number, name in enumerate(["bob", "žofie", "alice", "a/b", "42"]):
        exam.write(Subject("user", name), {"failures": block(SINCE, SINCE + HOUR - number)})
    assert exam.reader.blocked("user") == ["42", "a/b", "alice", "bob", "žofie"]


def test_users_and_addresses_are_apart(exam: Exam) -> None:
    network = Subject("ip", "2001:db8::/64")
    exam.write(network, {"failures": block(SINCE, SINCE + HOUR)})
    exam.write(ALICE, {"failures": block(SINCE, SINCE + HOUR)})
    assert exam.reader.blocked("user") == ["alice"]
    assert exam.reader.blocked("ip") == ["2001:db8::/64"]
    assert len(exam.reader.blocks(network)) == 1
    assert exam.reader.blocks(Subject("user", "2001:db8::/64")) == []


def test_a_block_is_shown_as_it_was_decided(exam: Exam) -> None:
    exam.write(ALICE, {"failures": block(SINCE, SINCE + HOUR, level=3, reason="“a” | {b}")})
    expected = LiveBlock("failures", "“a” | {b}", SINCE, SINCE + HOUR, 3)
    assert exam.reader.blocks(ALICE) == [expected]


def test_a_block_is_shown_until_its_end_and_not_at_it(exam: Exam) -> None:
    exam.write(ALICE, {"failures": block(SINCE, SINCE + HOUR)})
    exam.set_clock(SINCE + HOUR - 1)
    assert exam.reader.blocked("user") == ["alice"]
    assert len(exam.reader.blocks(ALICE)) == 1
    exam.set_clock(SINCE + HOUR)
    assert exam.reader.blocked("user") == []
    assert exam.reader.blocks(ALICE) == []


def test_live_blocks_come_latest_end_first_and_by_rule_when_equal(exam: Exam) -> None:
    exam.write(
        ALICE,
        {
            "short": block(SINCE, SINCE + HOUR),
            "b-long": block(SINCE, SINCE + 2 * HOUR),
            "a-long": block(SINCE, SINCE + 2 * HOUR),
            "operator": block(SINCE, None),
        },
    )
    rules = [live.rule for live in exam.reader.blocks(ALICE)]
    assert rules == ["operator", "a-long", "b-long", "short"]
    exam.set_clock(SINCE + HOUR)
    rules = [live.rule for live in exam.reader.blocks(ALICE)]
    assert rules == ["operator", "a-long", "b-long"]


def test_for_ever_is_shown_at_any_time(exam: Exam) -> None:
    exam.write(ALICE, {"operator": block(SINCE, None)})
    exam.set_clock(SINCE + 1_000 * 365 * 24 * HOUR)
    assert exam.reader.blocked("user") == ["alice"]
    assert exam.reader.blocks(ALICE)[0].until is None


def test_an_unblocked_one_is_not_shown(exam: Exam) -> None:
    blocked = block(SINCE - 1, SINCE + HOUR)
    exam.write(ALICE, {"failures": blocked})
    exam.write(BOB, {"failures": blocked})
    exam.write(ALICE, {"failures": tombstone(blocked, SINCE + 60_000)})  # a clock that runs ahead
    assert exam.reader.blocked("user") == ["bob"]
    assert exam.reader.blocks(ALICE) == []


def test_ping_answers(exam: Exam) -> None:
    exam.reader.ping()


@pytest.mark.service
def test_an_end_that_no_calendar_holds_is_for_ever(in_redis: Exam) -> None:
    in_redis.write(ALICE, {"failures": block(SINCE, 253_402_300_800_000)})
    assert in_redis.reader.blocks(ALICE)[0].until is None


@pytest.mark.service
@pytest.mark.parametrize("entry", ["{", "[]", "null", "{}", '{"unblocked":false,"until":"soon"}'])
def test_an_entry_that_is_none_is_not_taken_for_no_block(
    in_redis: Exam, redis_server: RedisServer, entry: str
) -> None:
    with redis_server.admin() as admin:
        admin.hset(block_hash("user", "alice"), "failures", entry)
    with pytest.raises(BlocksUnavailableError):
        in_redis.reader.blocks(ALICE)
    assert in_redis.reader.blocked("user") == []


@pytest.mark.service
def test_connections_that_died_cost_no_answer(in_redis: Exam, redis_server: RedisServer) -> None:
    in_redis.write(ALICE, {"failures": block(SINCE, SINCE + HOUR)})
    in_redis.reader.ping()
    with redis_server.admin() as admin:
        admin.execute_command("CLIENT", "KILL", "USER", "blocked_api")
    assert in_redis.reader.blocked("user") == ["alice"]


@pytest.mark.service
def test_no_redis_and_a_wrong_password_are_an_unavailable_list(redis_server: RedisServer) -> None:
    nobody_there = f"redis://blocked_api:x@127.0.0.1:{free_port()}"
    wrong = redis_server.url("blocked_api").replace(
        redis_server.passwords["blocked_api"], "hunter2"
    )
    asks: list[Callable[[BlockReader], object]] = [
        lambda reader: reader.blocked("user"),
        lambda reader: reader.blocks(ALICE),
        lambda reader: reader.ping(),
    ]
    for url, ask in itertools.product((nobody_there, wrong), asks):
        reader = RedisBlockReader(url, 250)
        with pytest.raises(BlocksUnavailableError) as refusal:
            ask(reader)
        assert "hunter2" not in str(refusal.value)
        reader.close()


@pytest.mark.service
def test_a_redis_that_hangs_holds_one_question_for_a_moment_and_the_next_not_at_all(
    in_redis: Exam, redis_server: RedisServer
) -> None:
    in_redis.write(ALICE, {"failures": block(SINCE, SINCE + HOUR)})
    assert in_redis.reader.blocked("user") == ["alice"]
    redis_server.process.pause()
    try:
        waits = [_seconds_until_refused(in_redis.reader) for _ in range(3)]
    finally:
        redis_server.process.resume()
    assert waits[0] <= 1.0
    assert waits[1] < 0.1
    assert waits[2] < 0.1
    assert _first_answer(in_redis.reader, within_s=2.0) == ["alice"]


def _seconds_until_refused(reader: BlockReader) -> float:
    began = time.monotonic()
    with pytest.raises(BlocksUnavailableError):
        reader.blocked("user")
    return time.monotonic() - began


def _first_answer(reader: BlockReader, within_s: float) -> list[str]:
    deadline = time.monotonic() + within_s
    while True:
        try:
            return reader.blocked("user")
        except BlocksUnavailableError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.mark.service
def test_a_list_of_ten_thousand_leaves_out_those_that_ended(
    in_redis: Exam, redis_server: RedisServer
) -> None:
    ends = {f"user{number:05}": SINCE + number for number in range(10_000)}
    with redis_server.admin() as admin:
        admin.zadd(blocked_set("user"), {**ends, "for-ever": math.inf})
    in_redis.set_clock(SINCE + 9_000)
    listed = in_redis.reader.blocked("user")
    assert listed == ["for-ever", *(f"user{number:05}" for number in range(9_001, 10_000))]
