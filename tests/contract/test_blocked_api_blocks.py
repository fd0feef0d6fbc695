"""One exam for the list in memory and in Redis, written by the detector's own writer and user."""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from blocked_api.block_feed import RedisFeed, RedisQuestions
from blocked_api.block_list import KEPT_MARKS, BlockList
from blocked_api.blocks import (
    Blocks,
    BlocksUnavailableError,
    ListMissingError,
    LiveBlock,
    MalformedEntryError,
)
from blocked_api.changes import Delta, GapError, Version
from blocked_api.follower import Follower
from blocked_api.present import Present, Reading
from flink_jobs.redis_writer import RedisBlockWriter
from login_blocking.blocks import RedisEntry
from login_blocking.names import BLOCK_CHANGES, BLOCK_STATE, block_hash, blocked_set
from login_blocking.subjects import Subject, SubjectType
from tests.support.block_entries import block, tombstone
from tests.support.blocked_api import InMemoryPresent
from tests.support.services import REPOSITORY, RedisServer, free_port
from tests.support.waiting import eventually

SCRIPT = (REPOSITORY / "redis" / "apply_block.lua").read_text()
ALICE, BOB = Subject("user", "alice"), Subject("user", "bob")
HOUR = 3_600_000
SINCE = time.time_ns() // 1_000_000
"""Redis drops by its own clock what has ended, so the exam happens at the present time."""


@dataclass
class Exam:
    """A present, a way to fill what it reads, and its clock."""

    present: Reading
    write: Callable[[Subject, dict[str, RedisEntry]], object]
    set_clock: Callable[[int], object]

    def blocked(self, subject_type: SubjectType) -> list[str]:
        return self.present.read(lambda blocks: blocks.names(subject_type))[1]

    def blocks(self, subject: Subject) -> list[LiveBlock]:
        return list(self.present.read(lambda blocks: blocks.get(subject))[1])

    def version(self) -> Version:
        return self.present.read(lambda blocks: blocks.version)[1]

    def since(self, version: Version) -> tuple[dict[Subject, Blocks], list[Subject]] | None:
        delta = self.present.read(lambda blocks: blocks.since(version))[1]
        return None if delta is None else ({**delta.added, **delta.changed}, delta.removed)


def _present(url: str, clock: Callable[[], int]) -> tuple[Present, Follower]:
    follower = Follower(RedisFeed(url, 450, clock), clock)
    return Present(RedisQuestions(url, 450), follower, clock), follower


@pytest.fixture
def in_redis(redis_server: RedisServer) -> Iterator[Exam]:
    now = [SINCE]
    with redis_server.admin() as admin:
        admin.hset(BLOCK_STATE, mapping={"generation": "1", "complete_at": "1"})
    present, follower = _present(redis_server.url("blocked_api"), lambda: now[0])
    follower.start()
    writer = RedisBlockWriter(redis_server.url("detector"), SCRIPT)
    eventually(lambda: follower.reloads, 10)
    yield Exam(present, writer.apply, lambda moment: now.__setitem__(0, moment))
    follower.stop()
    writer.close()
    with redis_server.admin() as admin:
        admin.flushall()


@pytest.fixture(params=["in-memory", pytest.param("redis", marks=pytest.mark.service)])
def exam(request: pytest.FixtureRequest) -> Exam:
    if request.param == "redis":
        real: Exam = request.getfixturevalue("in_redis")
        return real
    present = InMemoryPresent(SINCE)
    return Exam(
        present,
        lambda subject, entries: present.write(subject, **entries),
        lambda moment: setattr(present, "at", moment),
    )


def test_nobody_is_blocked_at_first(exam: Exam) -> None:
    assert exam.blocked("user") == []
    assert exam.blocked("ip") == []
    assert exam.blocks(ALICE) == []


def test_the_list_is_sorted_by_name(exam: Exam) -> None:
    for number, name in enumerate(["bob", "žofie", "alice", "a/b", "42"]):
        exam.write(Subject("user", name), {"failures": block(SINCE, SINCE + HOUR - number)})
    assert exam.blocked("user") == ["42", "a/b", "alice", "bob", "žofie"]


def test_users_and_addresses_are_apart(exam: Exam) -> None:
    network = Subject("ip", "2001:db8::/64")
    exam.write(network, {"failures": block(SINCE, SINCE + HOUR)})
    exam.write(ALICE, {"failures": block(SINCE, SINCE + HOUR)})
    assert exam.blocked("user") == ["alice"]
    assert exam.blocked("ip") == ["2001:db8::/64"]
    assert len(exam.blocks(network)) == 1
    assert exam.blocks(Subject("user", "2001:db8::/64")) == []


def test_a_block_is_shown_as_it_was_decided(exam: Exam) -> None:
    exam.write(ALICE, {"failures": block(SINCE, SINCE + HOUR, level=3, reason="“a” | {b}")})
    expected = LiveBlock("failures", "“a” | {b}", SINCE, SINCE + HOUR, 3)
    assert exam.blocks(ALICE) == [expected]


def test_a_block_is_shown_until_its_end_and_not_at_it(exam: Exam) -> None:
    exam.write(ALICE, {"failures": block(SINCE, SINCE + HOUR)})
    exam.set_clock(SINCE + HOUR - 1)
    assert exam.blocked("user") == ["alice"]
    assert len(exam.blocks(ALICE)) == 1
    exam.set_clock(SINCE + HOUR)
    assert exam.blocked("user") == []
    assert exam.blocks(ALICE) == []


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
    rules = [live.rule for live in exam.blocks(ALICE)]
    assert rules == ["operator", "a-long", "b-long", "short"]
    exam.set_clock(SINCE + HOUR)
    rules = [live.rule for live in exam.blocks(ALICE)]
    assert rules == ["operator", "a-long", "b-long"]


def test_for_ever_is_shown_at_any_time(exam: Exam) -> None:
    exam.write(ALICE, {"operator": block(SINCE, None)})
    exam.set_clock(SINCE + 1_000 * 365 * 24 * HOUR)
    assert exam.blocked("user") == ["alice"]
    assert exam.blocks(ALICE)[0].until is None


def test_an_unblocked_one_is_not_shown(exam: Exam) -> None:
    blocked = block(SINCE - 1, SINCE + HOUR)
    exam.write(ALICE, {"failures": blocked})
    exam.write(BOB, {"failures": blocked})
    exam.write(ALICE, {"failures": tombstone(blocked, SINCE + 60_000)})  # a clock that runs ahead
    assert exam.blocked("user") == ["bob"]
    assert exam.blocks(ALICE) == []


@pytest.mark.service
def test_an_end_that_no_calendar_holds_is_for_ever(in_redis: Exam) -> None:
    in_redis.write(ALICE, {"failures": block(SINCE, 253_402_300_800_000)})
    assert in_redis.blocks(ALICE)[0].until is None


@pytest.mark.service
@pytest.mark.parametrize("entry", ["{", "[]", "null", "{}", '{"unblocked":false,"until":"soon"}'])
def test_an_entry_that_is_none_is_not_taken_for_no_block(
    in_redis: Exam, redis_server: RedisServer, entry: str
) -> None:
    with redis_server.admin() as admin:
        admin.zadd(blocked_set("user"), {"alice": SINCE + HOUR})
        admin.hset(block_hash("user", "alice"), "failures", entry)
    feed = RedisFeed(redis_server.url("blocked_api"), 450, lambda: SINCE)
    state = feed.state()
    assert state is not None
    with pytest.raises(MalformedEntryError):
        feed.load(state)
    feed.close()


@pytest.mark.service
def test_connections_that_died_cost_no_answer(in_redis: Exam, redis_server: RedisServer) -> None:
    in_redis.write(ALICE, {"failures": block(SINCE, SINCE + HOUR)})
    assert in_redis.blocked("user") == ["alice"]
    with redis_server.admin() as admin:
        admin.execute_command("CLIENT", "KILL", "USER", "blocked_api")
    assert len(in_redis.blocks(ALICE)) == 1
    assert in_redis.blocked("user") == ["alice"]


@pytest.mark.service
def test_no_redis_and_a_wrong_password_are_an_unavailable_list(redis_server: RedisServer) -> None:
    nobody_there = f"redis://blocked_api:x@127.0.0.1:{free_port()}"
    wrong = redis_server.url("blocked_api").replace(
        redis_server.passwords["blocked_api"], "hunter2"
    )
    asks: list[Callable[[Reading], object]] = [
        lambda present: present.read(len),
        lambda present: present.begun([1]),
        lambda present: present.state(),
    ]
    for url, ask in itertools.product((nobody_there, wrong), asks):
        present, follower = _present(url, lambda: SINCE)
        follower.start()
        with pytest.raises(BlocksUnavailableError) as refusal:
            ask(present)
        assert "hunter2" not in str(refusal.value)
        follower.stop()


@pytest.mark.service
def test_a_redis_that_hangs_holds_one_question_for_a_moment_and_the_next_not_at_all(
    in_redis: Exam, redis_server: RedisServer
) -> None:
    in_redis.write(ALICE, {"failures": block(SINCE, SINCE + HOUR)})
    assert in_redis.blocked("user") == ["alice"]
    redis_server.process.pause()
    try:
        waits = [_seconds_until_refused(in_redis) for _ in range(3)]
    finally:
        redis_server.process.resume()
    # Two tries of 450 ms, not three; afterwards less than one.
    assert waits[0] < 1.3
    assert waits[1] < 0.4
    assert waits[2] < 0.4
    eventually(lambda: _names_or_none(in_redis) == ["alice"], 3)


def _seconds_until_refused(exam: Exam) -> float:
    began = time.monotonic()
    with pytest.raises(BlocksUnavailableError):
        exam.blocked("user")
    return time.monotonic() - began


def _names_or_none(exam: Exam) -> list[str] | None:
    try:
        return exam.blocked("user")
    except BlocksUnavailableError:
        return None


@pytest.mark.service
def test_an_empty_redis_of_which_nobody_has_reported_is_no_empty_list(
    in_redis: Exam, redis_server: RedisServer
) -> None:
    in_redis.write(ALICE, {"failures": block(SINCE, SINCE + HOUR)})
    with redis_server.admin() as admin:
        admin.flushall()
    with pytest.raises(ListMissingError):
        in_redis.present.state()
    with pytest.raises(ListMissingError):
        in_redis.blocked("user")
    in_redis.write(BOB, {"failures": block(SINCE, SINCE + HOUR)})
    eventually(lambda: _names_or_none(in_redis) == ["bob"], 5)


def test_what_differs_since_a_version_is_told_once_a_subject(exam: Exam) -> None:
    exam.write(ALICE, {"failures": block(SINCE, SINCE + HOUR)})
    before = exam.version()
    assert exam.since(before) == ({}, [])
    exam.write(BOB, {"failures": block(SINCE, SINCE + HOUR)})
    exam.write(ALICE, {"spraying": block(SINCE, SINCE + 2 * HOUR)})
    found = exam.since(before)
    assert found is not None
    assert [(s.key, blocks[0].rule) for s, blocks in sorted(found[0].items())] == [
        ("alice", "spraying"),
        ("bob", "failures"),
    ]
    exam.write(BOB, {"failures": tombstone(block(SINCE, SINCE + HOUR), SINCE + 1)})
    after = exam.since(before)
    assert after is not None
    assert list(after[0]) == [ALICE]
    assert after[1] == []  # bob came and went


def test_an_end_by_expiry_is_a_change(exam: Exam) -> None:
    exam.write(ALICE, {"failures": block(SINCE, SINCE + HOUR)})
    before = exam.version()
    exam.set_clock(SINCE + HOUR - 1)
    assert exam.since(before) == ({}, [])
    exam.set_clock(SINCE + HOUR)
    assert exam.since(before) == ({}, [ALICE])
    assert exam.since(exam.version()) == ({}, [])


def test_a_version_of_another_list_is_none(exam: Exam) -> None:
    exam.write(ALICE, {"failures": block(SINCE, SINCE + HOUR)})
    version = exam.version()
    assert exam.since(version._replace(generation="2")) is None
    assert Version.parse(str(version)) == version


@pytest.mark.service
def test_a_reader_that_starts_later_knows_the_changes_before(
    in_redis: Exam, redis_server: RedisServer
) -> None:
    start = in_redis.version()
    in_redis.write(ALICE, {"failures": block(SINCE, SINCE + HOUR)})
    middle = in_redis.version()
    in_redis.write(BOB, {"failures": block(SINCE, SINCE + 2 * HOUR)})
    in_redis.write(ALICE, {"failures": tombstone(block(SINCE, SINCE + HOUR), SINCE + 1)})
    feed = RedisFeed(redis_server.url("blocked_api"), 450, lambda: SINCE)
    state = feed.state()
    assert state is not None
    later = feed.load(state)
    assert later.version == in_redis.version()
    assert later.names("user") == ["bob"]
    for version in (start, middle):
        delta = later.since(version)
        assert delta is not None
        assert ({**delta.added, **delta.changed}, delta.removed) == in_redis.since(version)
    assert [e.event for e in later.history(ALICE)] == ["unblocked", "blocked"]
    feed.close()


@pytest.mark.service
def test_what_the_changes_no_longer_tell_is_read_from_the_list(
    in_redis: Exam, redis_server: RedisServer
) -> None:
    names = [f"user{number:04}" for number in range(50)]
    for name in names:
        in_redis.write(Subject("user", name), {"failures": block(SINCE, SINCE + HOUR)})
    in_redis.write(Subject("ip", "198.51.100.7"), {"operator": block(SINCE, None)})
    early = in_redis.version()
    in_redis.write(ALICE, {"failures": block(SINCE, SINCE + HOUR)})
    in_redis.write(
        Subject("user", "user0007"), {"failures": tombstone(block(SINCE, SINCE + HOUR), SINCE + 1)}
    )
    with redis_server.admin() as admin:
        admin.xtrim(BLOCK_CHANGES, maxlen=2, approximate=False)
    feed = RedisFeed(redis_server.url("blocked_api"), 450, lambda: SINCE)
    state = feed.state()
    assert state is not None
    later = feed.load(state)
    assert later.names("user") == in_redis.blocked("user")
    assert later.names("ip") == ["198.51.100.7"]
    assert len(later.names("user")) == 50
    delta = later.since(early)
    assert delta is not None
    assert ({**delta.added, **delta.changed}, delta.removed) == in_redis.since(early)
    # Ends before its start are unknown to it, so what was known before is too old.
    assert later.since(early._replace(ended=SINCE - 1)) is None
    feed.close()


@pytest.mark.service
def test_processes_that_started_at_other_moments_take_each_others_versions(
    in_redis: Exam, redis_server: RedisServer
) -> None:
    for number in range(5):
        subject = Subject("user", f"user{number}")
        in_redis.write(subject, {"failures": block(SINCE, SINCE + HOUR + number)})
    with redis_server.admin() as admin:
        admin.xtrim(BLOCK_CHANGES, maxlen=2, approximate=False)
    lists = []
    for started in (SINCE + 1_000, SINCE + 2_000):
        feed = RedisFeed(redis_server.url("blocked_api"), 450, lambda at=started: at)  # type: ignore[misc]
        state = feed.state()
        assert state is not None
        lists.append(feed.load(state))
        feed.close()
    for moment in (SINCE + 3_000, SINCE + HOUR + 2):
        for one, other in itertools.permutations(lists):
            before = one.version
            for blocks in lists:
                blocks.advance(moment)
            if before.ended >= SINCE + 2_000:
                assert other.since(before) is not None
            assert other.since(one.version) == Delta()


@pytest.mark.service
@pytest.mark.parametrize("behind_ms", [0, 50, 5_000])
def test_a_clock_that_differs_is_no_reason_to_read_the_list_anew(
    redis_server: RedisServer, behind_ms: int
) -> None:
    url, now = redis_server.url("blocked_api"), time.time_ns() // 1_000_000
    with redis_server.admin() as admin:
        admin.hset(BLOCK_STATE, mapping={"generation": "1", "complete_at": "1"})
    writer = RedisBlockWriter(redis_server.url("detector"), SCRIPT)
    for number in range(20):
        subject = Subject("user", f"user{number}")
        writer.apply(subject, {"failures": block(now, now + (1_500 if number < 15 else HOUR))})
    feed = RedisFeed(url, 450)
    follower = Follower(feed, lambda: time.time_ns() // 1_000_000 - behind_ms)
    follower.follow_once(0)
    while time.time_ns() // 1_000_000 < now + 1_510:
        time.sleep(0.01)
    for number in range(15):  # as the detector lifts at the end, by Redis' clock
        writer.apply(Subject("user", f"user{number}"), {})
    blocks = follower._blocks
    assert blocks is not None
    assert blocks.count("user") == 20 if behind_ms else True
    follower._compare_counts(blocks)
    with redis_server.admin() as admin:
        admin.zrem(blocked_set("user"), "user19")
        with pytest.raises(GapError):
            follower._compare_counts(blocks)
        admin.flushall()
    writer.close()
    feed.close()


@pytest.mark.service
def test_a_lost_change_is_noticed_and_the_list_read_anew(
    in_redis: Exam, redis_server: RedisServer
) -> None:
    in_redis.write(ALICE, {"failures": block(SINCE, SINCE + HOUR)})
    assert in_redis.blocked("user") == ["alice"]
    assert isinstance(in_redis.present, Present)
    follower = in_redis.present._follower
    reloads = follower.reloads
    with redis_server.admin() as admin:
        newest = admin.xrevrange(BLOCK_CHANGES, count=1)[0][0]
        pipeline = admin.pipeline()
        pipeline.zadd(blocked_set("user"), {"carol": SINCE + HOUR})
        pipeline.hset(block_hash("user", "carol"), "failures", block(SINCE, SINCE + HOUR).to_json())
        # As if the change before the next one had gone: its predecessor is another one.
        pipeline.hset(BLOCK_STATE, "version", "1-1")
        pipeline.execute()
    in_redis.write(BOB, {"failures": block(SINCE, SINCE + HOUR)})
    assert newest
    eventually(lambda: follower.reloads > reloads, 5)


@pytest.mark.service
def test_a_change_that_is_none_is_passed_over_by_reading_the_list_anew(
    in_redis: Exam, redis_server: RedisServer
) -> None:
    in_redis.write(ALICE, {"failures": block(SINCE, SINCE + HOUR)})
    assert in_redis.blocked("user") == ["alice"]
    with redis_server.admin() as admin:
        fields = {"list": "blocked:users", "subject": "x", "entries": "{", "previous": "1-1"}
        admin.hset(BLOCK_STATE, "version", str(admin.xadd(BLOCK_CHANGES, fields)))
    eventually(lambda: _names_or_none(in_redis) == ["alice"], 5)
    in_redis.write(BOB, {"failures": block(SINCE, SINCE + HOUR)})
    eventually(lambda: _names_or_none(in_redis) == ["alice", "bob"], 5)


@pytest.mark.service
def test_another_generation_is_another_list(in_redis: Exam, redis_server: RedisServer) -> None:
    in_redis.write(ALICE, {"failures": block(SINCE, SINCE + HOUR)})
    before = in_redis.version()
    with redis_server.admin() as admin:
        admin.hset(BLOCK_STATE, "generation", "2")
    eventually(lambda: _names_or_none(in_redis) == ["alice"], 5)
    assert in_redis.version().generation == "2"
    assert in_redis.since(before) is None


@pytest.mark.service
def test_blocks_that_begin_are_counted_by_minute_and_rule_once(
    in_redis: Exam, redis_server: RedisServer
) -> None:
    minute = SINCE // 60_000
    one = block(SINCE, SINCE + HOUR)
    in_redis.write(ALICE, {"failures": one})
    in_redis.write(ALICE, {"failures": one})  # the minute's reassertion
    in_redis.write(BOB, {"failures": one, "spraying": block(SINCE, None)})
    in_redis.write(BOB, {"old": block(SINCE - 2 * HOUR, SINCE + HOUR)})
    assert in_redis.present.begun([minute - 1, minute]) == [{}, {"failures": 2, "spraying": 1}]
    with redis_server.admin() as admin:
        assert 0 < admin.pttl(f"blocked:begun:{minute}") <= 2 * HOUR


@pytest.mark.service
def test_changes_are_bounded(in_redis: Exam, redis_server: RedisServer) -> None:
    with redis_server.admin() as admin:
        pipeline = admin.pipeline()
        for _ in range(KEPT_MARKS + 1_000):
            pipeline.xadd(BLOCK_CHANGES, {"x": "y"})
        pipeline.execute()
        in_redis.write(ALICE, {"failures": block(SINCE, SINCE + HOUR)})
        assert admin.xlen(BLOCK_CHANGES) < KEPT_MARKS + 500


@pytest.mark.service
def test_a_list_of_ten_thousand_leaves_out_those_that_ended(
    in_redis: Exam, redis_server: RedisServer
) -> None:
    with redis_server.admin() as admin:
        pipeline = admin.pipeline()
        ends: dict[str, int | None] = {f"user{n:05}": SINCE + n for n in range(10_000)}
        for name, end in [*ends.items(), ("for-ever", None)]:
            entry = block(SINCE, end).to_json()
            pipeline.zadd(blocked_set("user"), {name: math.inf if end is None else end})
            pipeline.hset(block_hash("user", name), "failures", entry)
        pipeline.execute()
    feed = RedisFeed(redis_server.url("blocked_api"), 450, lambda: SINCE + 9_000)
    state = feed.state()
    assert state is not None
    listed: BlockList = feed.load(state)
    expected = ["for-ever", *(f"user{number:05}" for number in range(9_001, 10_000))]
    assert listed.names("user") == expected
    assert feed.count("user", SINCE + 9_000) == len(expected)
    assert listed.count("user", SINCE + 9_500) == feed.count("user", SINCE + 9_500) == 500
    feed.close()
