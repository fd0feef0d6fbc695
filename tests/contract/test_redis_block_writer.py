"""What the one write of Redis promises: any order, any repetition, one result. On a real server."""

import itertools
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from flink_jobs.redis_writer import BlockWriteError, RedisBlockWriter
from login_blocking.blocks import RedisEntry
from login_blocking.names import block_hash, blocked_set
from login_blocking.subjects import Subject
from tests.support.block_entries import block, tombstone
from tests.support.services import REPOSITORY, RedisServer, free_port
from tests.support.waiting import eventually

pytestmark = pytest.mark.service

SCRIPT = (REPOSITORY / "redis" / "apply_block.lua").read_text()
MINUTE = 60_000
HOUR = 60 * MINUTE
_subject_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class State:
    """All that Redis holds of a subject: score on the list, entries, and when they expire."""

    listed_until: float | None
    entries: dict[str, str]
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class Written:
    """A writer, and the eyes of the administrator on what it wrote."""

    writer: RedisBlockWriter
    admin: redis.Redis
    subject: Subject

    def apply(self, **entries: RedisEntry) -> bool:
        return self.writer.apply(self.subject, entries)

    def state(self) -> State:
        key = block_hash(self.subject.type, self.subject.key)
        expires_at = int(self.admin.pexpiretime(key))
        return State(
            self.admin.zscore(blocked_set(self.subject.type), self.subject.key),  # type: ignore[arg-type]
            self.admin.hgetall(key),  # type: ignore[arg-type]
            expires_at if expires_at >= 0 else None,
        )


@pytest.fixture
def writer(redis_server: RedisServer) -> Iterator[RedisBlockWriter]:
    writer = RedisBlockWriter(redis_server.url("detector"), SCRIPT)
    yield writer
    writer.close()


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis_server.admin() as client:
        yield client
        client.flushall()


@pytest.fixture
def about(writer: RedisBlockWriter, admin: redis.Redis) -> Written:
    """A subject that nobody has written about."""
    return Written(writer, admin, Subject("user", f"user-{next(_subject_numbers)}"))


@pytest.fixture
def now() -> int:
    return time.time_ns() // 1_000_000


NOTHING = State(None, {}, None)


def test_a_block_is_listed_and_kept_until_its_end(about: Written, now: int) -> None:
    entry = block(now, now + HOUR, level=2, reason="5 failures within 60 s — “žluťoučký”")
    assert about.apply(failures=entry)
    assert about.state() == State(now + HOUR, {"failures": entry.to_json()}, now + HOUR)
    stored = json.loads(about.state().entries["failures"])
    assert stored == {
        "version": 2 * now,
        "since": now,
        "until": now + HOUR,
        "level": 2,
        "reason": "5 failures within 60 s — “žluťoučký”",
        "attempt_id": "attempt-1",
        "unblocked": False,
        "keep_until": now + HOUR,
        "places": "any",
    }


def test_users_and_addresses_have_lists_of_their_own(about: Written, now: int) -> None:
    address = Subject("ip", "2001:db8::/64")
    about.writer.apply(address, {"failures": block(now, now + HOUR)})
    assert about.admin.zscore("blocked:ips", "2001:db8::/64") == now + HOUR
    assert about.admin.exists("block:ip:2001:db8::/64")
    assert about.admin.zcard("blocked:users") == 0


def test_a_replay_reports_that_nothing_changed(about: Written, now: int) -> None:
    entry = block(now, now + HOUR)
    assert about.apply(failures=entry)
    before = about.state()
    assert not about.apply(failures=entry)
    assert about.state() == before


def test_an_older_version_changes_nothing(about: Written, now: int) -> None:
    about.apply(failures=block(now, now + HOUR))
    before = about.state()
    assert not about.apply(failures=block(now - 1, now + 24 * HOUR))
    assert not about.apply(failures=block(now - 1, None))
    assert about.state() == before


def test_an_equal_version_changes_nothing(about: Written, now: int) -> None:
    about.apply(failures=block(now, now + HOUR, reason="first"))
    before = about.state()
    assert not about.apply(failures=block(now, now + HOUR, reason="second"))
    assert about.state() == before


def test_an_unblock_beats_the_block_and_outlives_it(about: Written, now: int) -> None:
    blocked = block(now - MINUTE, now + 2 * MINUTE)
    unblocked = tombstone(blocked, now)
    assert about.apply(failures=blocked)
    assert about.apply(failures=unblocked)
    lifted = State(None, {"failures": unblocked.to_json()}, now + HOUR)
    assert about.state() == lifted
    assert not about.apply(failures=blocked)
    assert not about.apply(failures=block(now - MINUTE, None))
    assert about.state() == lifted


def test_an_unblock_in_the_millisecond_of_the_block_wins(about: Written, now: int) -> None:
    blocked = block(now, now + HOUR)
    about.apply(failures=tombstone(blocked, now))
    assert not about.apply(failures=blocked)
    assert about.state().listed_until is None


def test_an_unblock_by_a_clock_that_runs_ahead_holds_at_once(about: Written, now: int) -> None:
    blocked = block(now, now + HOUR)
    about.apply(failures=blocked)
    assert about.apply(failures=tombstone(blocked, now + MINUTE))
    assert about.state().listed_until is None


def test_a_newer_block_beats_the_tombstone(about: Written, now: int) -> None:
    first = block(now - HOUR // 2, now + HOUR)
    about.apply(failures=tombstone(first, now - MINUTE))
    again = block(now, now + HOUR, level=2)
    assert about.apply(failures=again)
    assert about.state() == State(now + HOUR, {"failures": again.to_json()}, now + HOUR)


def test_an_unblock_before_its_block_is_invisible_and_holds(about: Written, now: int) -> None:
    blocked = block(now - MINUTE, now + HOUR)
    assert not about.apply(failures=tombstone(blocked, now))
    assert not about.apply(failures=blocked)
    assert about.state().listed_until is None


def test_a_block_of_history_leaves_no_trace(about: Written, now: int) -> None:
    assert not about.apply(failures=block(now - HOUR, now - 1))
    assert about.state() == NOTHING


def test_a_block_ends_by_the_server_s_clock_and_leaves_no_entry(about: Written, now: int) -> None:
    until = now + 1_500  # not so soon that a machine with other work makes it history
    about.apply(failures=block(now, until))
    deadline = time.monotonic() + 10
    while about.state().entries:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert time.time_ns() // 1_000_000 >= until
    assert about.state().listed_until == until  # passed: readers skip it
    assert not about.apply()
    assert about.state() == NOTHING


def test_for_ever_has_no_end_and_does_not_expire(about: Written, now: int) -> None:
    entry = block(now, None)
    assert about.apply(failures=entry)
    assert about.state() == State(math.inf, {"failures": entry.to_json()}, None)
    assert not about.apply(failures=entry)


def test_for_ever_can_be_unblocked(about: Written, now: int) -> None:
    about.apply(failures=block(now - 1, None))
    assert about.apply(failures=tombstone(block(now - 1, None), now))
    assert about.state().listed_until is None
    assert about.state().expires_at == now + HOUR


@pytest.mark.parametrize("order", list(itertools.permutations(["failures", "spraying", "ended"])))
def test_of_several_rules_the_latest_end_counts(
    about: Written, now: int, order: tuple[str, ...]
) -> None:
    entries = {
        "failures": block(now, now + HOUR),
        "spraying": block(now - 1, now + 2 * HOUR),
        "ended": block(now - 2 * HOUR, now - 1),
    }
    for rule in order:
        about.apply(**{rule: entries[rule]})
    shown = {rule: entries[rule].to_json() for rule in ("failures", "spraying")}
    assert about.state() == State(now + 2 * HOUR, shown, now + 2 * HOUR)


def test_without_the_longest_block_the_next_one_counts(about: Written, now: int) -> None:
    operators = block(now - 1, None)
    about.apply(failures=block(now, now + HOUR), operator=operators)
    assert about.state().listed_until == math.inf
    assert about.apply(operator=tombstone(operators, now))
    assert about.state().listed_until == now + HOUR


def test_a_second_rule_within_the_longer_block_is_a_change_that_readers_see(
    about: Written, now: int
) -> None:
    about.apply(failures=block(now, now + 2 * HOUR))
    assert about.apply(spraying=block(now, now + HOUR))


def test_ends_of_any_size_keep_their_last_millisecond(about: Written, now: int) -> None:
    end = 253_402_300_799_999  # the end of the year 9999
    about.apply(failures=block(now, end))
    assert about.state().listed_until == end
    assert about.state().expires_at == end


def test_reassertion_fills_an_emptied_redis(about: Written, now: int) -> None:
    entries = {"failures": block(now, now + HOUR), "operator": block(now, None)}
    about.apply(**entries)
    before = about.state()
    about.admin.flushall()
    about.admin.script_flush()
    assert about.state() == NOTHING
    assert about.apply(**entries)
    assert about.state() == before


def test_reassertion_mends_a_list_that_lost_the_subject(about: Written, now: int) -> None:
    entry = block(now, now + HOUR)
    about.apply(failures=entry)
    about.admin.zrem(blocked_set("user"), about.subject.key)
    assert about.apply(failures=entry)
    assert about.state().listed_until == now + HOUR


def test_an_entry_that_is_none_writes_nothing(about: Written, now: int) -> None:
    keys = [blocked_set("user"), block_hash("user", about.subject.key)]
    good = block(now, now + HOUR).to_json()
    for bad in ("{", "{}", "[]", '{"version":"1"}'):
        arguments = [about.subject.key, "failures", good, "spraying", bad]
        with pytest.raises(redis.ResponseError):
            about.admin.eval(SCRIPT, 2, *keys, *arguments)
    assert about.state() == NOTHING


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, int | None, int | None]]:
    """One rule's blocks in the order of their decisions: since, until, unblocked; ms from now.

    As the lifecycle decides: a block begins after the end of the one before.
    """
    blocks: list[tuple[int, int | None, int | None]] = []
    at = -48 * HOUR
    for _ in range(draw(st.integers(0, 3))):
        since = at + draw(st.integers(1, HOUR))
        at = since + draw(st.integers(1, HOUR))
        blocks.append((since, at, None))
    ends = st.one_of(st.none(), st.integers(HOUR, 10**13))
    if draw(st.booleans()):
        unblocked = draw(st.integers(-HOUR // 2, -MINUTE))
        blocks.append((draw(st.integers(at + 1, unblocked)), draw(ends), unblocked))
        at = unblocked
    if draw(st.booleans()):
        blocks.append((draw(st.integers(at + 1, 0)), draw(ends), None))
    return blocks


@settings(max_examples=60, deadline=None)
@given(
    rules=st.dictionaries(
        st.sampled_from(["failures", "spraying", "operator", "ž|:{}"]), histories()
    ),
    chance=st.randoms(use_true_random=False),
)
def test_any_order_and_any_repetition_end_in_the_same_state(
    redis_server: RedisServer,
    rules: dict[str, list[tuple[int, int | None, int | None]]],
    chance: random.Random,
) -> None:
    now = time.time_ns() // 1_000_000
    decisions: list[tuple[str, RedisEntry]] = []
    for rule, blocks in rules.items():
        for level, (since, until, unblocked) in enumerate(blocks, start=1):
            end = None if until is None else now + until
            entry = block(now + since, end, level=level)
            decisions.append((rule, entry))
            if unblocked is not None:
                decisions.append((rule, tombstone(entry, now + unblocked)))
    newest = dict(sorted(decisions, key=lambda decision: decision[1].version))
    kept = {
        rule: entry
        for rule, entry in newest.items()
        if entry.keep_until is None or entry.keep_until > now
    }
    ends = [math.inf if e.until is None else e.until for e in kept.values() if not e.unblocked]
    keep = [math.inf if e.keep_until is None else e.keep_until for e in kept.values()]
    expected = State(
        max(ends, default=None),
        {rule: entry.to_json() for rule, entry in kept.items()},
        None if not keep or max(keep) == math.inf else int(max(keep)),
    )
    writer = RedisBlockWriter(redis_server.url("detector"), SCRIPT)
    with redis_server.admin() as admin:
        about = Written(writer, admin, Subject("user", f"user-{next(_subject_numbers)}"))
        calls = decisions * 2
        chance.shuffle(calls)
        while calls:
            batch = dict([calls.pop()])
            while calls and calls[-1][0] not in batch and chance.random() < 0.5:
                batch.update([calls.pop()])
            about.apply(**batch)
        assert about.state() == expected
        for rule, entry in decisions:
            assert not about.apply(**{rule: entry})
        assert about.state() == expected
        admin.delete(block_hash("user", about.subject.key), blocked_set("user"))
    writer.close()


def test_the_first_call_brings_the_script_and_the_next_only_name_it(
    about: Written, now: int
) -> None:
    about.admin.script_flush()
    about.admin.config_resetstat()
    for number in range(3):
        about.apply(failures=block(now + number, now + HOUR))
    calls = about.admin.info("commandstats")
    assert isinstance(calls, dict)
    assert calls["cmdstat_eval"]["calls"] == 1
    assert calls["cmdstat_evalsha"]["calls"] == 3


def test_connections_that_died_cost_no_write(about: Written, now: int) -> None:
    about.apply(failures=block(now, now + HOUR))
    about.admin.execute_command("CLIENT", "KILL", "USER", "detector")  # type: ignore[no-untyped-call]
    assert about.apply(failures=block(now + 1, now + HOUR))


def test_a_redis_that_hangs_refuses_the_write_in_time(
    about: Written, redis_server: RedisServer, now: int
) -> None:
    about.apply(failures=block(now, now + HOUR))
    redis_server.process.pause()
    try:
        began = time.monotonic()
        with pytest.raises(BlockWriteError):
            about.apply(failures=block(now + 1, now + HOUR))
        assert time.monotonic() - began < 1.5
    finally:
        redis_server.process.resume()

    def taken() -> bool:
        try:
            return about.apply(failures=block(now + 2, now + HOUR))
        except BlockWriteError:  # the pause after a failure
            return False

    eventually(taken)


def test_nobody_there_a_wrong_password_and_a_refusal_are_one_error(
    redis_server: RedisServer, admin: redis.Redis, now: int
) -> None:
    wrong = redis_server.url("detector").replace(redis_server.passwords["detector"], "hunter2")
    reader_only = redis_server.url("blocked_api")
    for url in (f"redis://127.0.0.1:{free_port()}", wrong, reader_only):
        writer = RedisBlockWriter(url, SCRIPT)
        with pytest.raises(BlockWriteError) as refusal:
            writer.apply(Subject("user", "alice"), {"failures": block(now, now + HOUR)})
        assert "hunter2" not in str(refusal.value)
        writer.close()
    assert admin.zcard(blocked_set("user")) == 0
