from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from login_blocking.blocks import (
    REASSERT_EVERY_MS,
    TOMBSTONE_KEPT_MS,
    Block,
    Hit,
    SubjectBlocks,
    decode_state,
    encode_state,
    next_wakeup,
    on_hit,
    on_time,
    redis_entries,
)
from login_blocking.events import BlockEvent, EventKind
from login_blocking.policy import Exemptions, Policy, Rule
from login_blocking.subjects import Subject

ALICE = Subject("user", "alice")
DAY = 86_400_000
FORGET = 30 * DAY
RULE = Rule("user-failures", "user", "failures", 5, 60_000, (1_000, 5_000))
FOREVER = replace(RULE, block_ms=(None,))
POLICY = Policy((RULE,), FORGET)


def hit(ts: int, oldest: int | None = None) -> Hit:
    return Hit(ALICE, RULE.name, ts, ts if oldest is None else oldest, f"a{ts}")


def judge(*hits: Hit, rule: Rule = RULE) -> tuple[SubjectBlocks, list[BlockEvent]]:
    state, events = SubjectBlocks(), list[BlockEvent]()
    for one in hits:
        state, more = on_hit(state, one, rule, POLICY)
        events += more
    return state, events


def kinds(events: list[BlockEvent]) -> list[EventKind]:
    return [event.event for event in events]


def test_first_hit_blocks_from_its_own_time_at_level_one() -> None:
    state, events = judge(hit(10_000))

    assert state.blocks[RULE.name] == Block(10_000, 11_000, 1, RULE.reason, 10_000, "a10000")
    assert kinds(events) == [EventKind.BLOCKED]
    assert (events[0].ts, events[0].until, events[0].attempt_id) == (10_000, 11_000, "a10000")


@pytest.mark.parametrize("ts", [9_999, 10_000, 10_500, 10_999, 11_000])
def test_hit_until_block_end_is_not_fresh(ts: int) -> None:
    before, _ = judge(hit(10_000))

    assert on_hit(before, hit(ts), RULE, POLICY) == (before, [])


def test_hit_just_after_block_end_is_fresh_and_expires_the_block_first() -> None:
    state, events = judge(hit(10_000), hit(11_001))

    assert kinds(events) == [EventKind.BLOCKED, EventKind.EXPIRED, EventKind.BLOCKED]
    assert events[1].ts == 11_000
    assert state.blocks[RULE.name].level == 2


@pytest.mark.parametrize(("oldest", "blocks"), [(10_999, 1), (11_000, 1), (11_001, 2)])
def test_hit_needs_all_its_failures_after_block_end(oldest: int, blocks: int) -> None:
    _, events = judge(hit(10_000), hit(12_000, oldest))

    assert kinds(events).count(EventKind.BLOCKED) == blocks


@pytest.mark.parametrize(("oldest", "starts"), [(4_999, False), (5_000, False), (5_001, True)])
def test_hit_needs_all_its_failures_after_the_last_unblock(oldest: int, starts: bool) -> None:  # noqa: FBT001
    _, events = on_hit(SubjectBlocks({}, 5_000), hit(6_000, oldest), RULE, POLICY)

    assert bool(events) is starts


def test_late_hit_before_its_oldest_failure_rests_on_its_own_time() -> None:
    state, events = judge(hit(10_000), hit(10_900, 11_500))

    assert len(events) == 1
    assert state.blocks[RULE.name].level == 1


def test_last_duration_repeats() -> None:
    state, _ = judge(hit(10_000), hit(12_000), hit(20_000))

    assert state.blocks[RULE.name] == Block(20_000, 25_000, 3, RULE.reason, 20_000, "a20000")


@pytest.mark.parametrize(("after", "level"), [(FORGET - 1, 2), (FORGET, 1), (FORGET + 1, 1)])
def test_level_is_forgotten_exactly_forget_level_after_the_end(after: int, level: int) -> None:
    state, _ = judge(hit(10_000), hit(11_000 + after))

    assert state.blocks[RULE.name].level == level


def test_level_survives_until_late_attempts_have_met_it() -> None:
    state, _ = judge(hit(10_000))
    state, _ = on_time(state, ALICE, 11_000 + FORGET, POLICY)

    state, _ = on_hit(state, hit(11_000 + FORGET - 1), RULE, POLICY)

    assert state.blocks[RULE.name].level == 2


@pytest.mark.parametrize(("before", "left"), [(1, 1), (0, 0)])
def test_block_is_forgotten_after_level_and_lateness(before: int, left: int) -> None:
    state, _ = judge(hit(10_000))

    state, _ = on_time(state, ALICE, 11_000 + FORGET + DAY - before, POLICY)

    assert len(state.blocks) == left


@pytest.mark.parametrize(("before", "remembered"), [(1, True), (0, False)])
def test_unblock_is_forgotten_after_window_and_lateness(before: int, remembered: bool) -> None:  # noqa: FBT001
    state = SubjectBlocks({}, 11_000)
    after = 11_000 + RULE.within_ms + DAY

    assert next_wakeup(state, ALICE, 11_001, POLICY) == after
    state, _ = on_time(state, ALICE, after - before, POLICY)

    assert (state.unblocked_at is not None) is remembered


def test_for_ever_block_never_ends_and_is_never_forgotten() -> None:
    state, events = judge(hit(10_000), hit(99 * FORGET), rule=FOREVER)

    assert kinds(events) == [EventKind.BLOCKED]
    assert on_time(state, ALICE, 99 * FORGET, POLICY) == (state, [])
    assert redis_entries(state, 99 * FORGET)[RULE.name].keep_until is None


def test_exempt_subject_is_not_blocked() -> None:
    policy = replace(POLICY, exempt=Exemptions(frozenset({"alice"})))
    before = SubjectBlocks()

    assert on_hit(before, hit(10_000), RULE, policy) == (before, [])


def test_rules_block_independently() -> None:
    other = replace(RULE, name="other")
    state, _ = judge(hit(10_000))

    state, events = on_hit(state, replace(hit(10_000), rule="other"), other, POLICY)

    assert set(state.blocks) == {RULE.name, "other"}
    assert kinds(events) == [EventKind.BLOCKED]


@pytest.mark.parametrize(("now", "expired"), [(10_999, 0), (11_000, 1), (11_001, 1)])
def test_block_expires_exactly_at_its_end_and_once(now: int, expired: int) -> None:
    state, _ = judge(hit(10_000))

    state, events = on_time(state, ALICE, now, POLICY)

    assert kinds(events) == [EventKind.EXPIRED] * expired
    if expired:
        assert on_time(state, ALICE, now + 1, POLICY) == (state, [])
        assert kinds(on_hit(state, hit(12_000), RULE, POLICY)[1]) == [EventKind.BLOCKED]


def test_wakeup_is_the_end_when_it_comes_before_the_reassertion() -> None:
    state, _ = judge(hit(10_000))
    reassert = next_wakeup(judge(hit(10_000), rule=FOREVER)[0], ALICE, 10_000, POLICY)

    assert reassert is not None
    assert next_wakeup(state, ALICE, 10_000, POLICY) == min(11_000, reassert)


def test_reassertion_is_at_the_subjects_own_moment_of_every_minute() -> None:
    state, _ = judge(hit(10_000), rule=FOREVER)
    first = next_wakeup(state, ALICE, 10_000, POLICY)

    assert first is not None
    assert 10_000 < first <= 10_000 + REASSERT_EVERY_MS
    assert next_wakeup(state, ALICE, first - 1, POLICY) == first
    assert next_wakeup(state, ALICE, first, POLICY) == first + REASSERT_EVERY_MS


def test_block_that_ended_before_it_was_seen_is_due_at_once() -> None:
    state, _ = judge(hit(10_000))

    assert next_wakeup(state, ALICE, 500_000, POLICY) == 500_001


def test_ended_block_wakes_only_to_be_forgotten() -> None:
    state, _ = on_time(judge(hit(10_000))[0], ALICE, 11_000, POLICY)

    assert next_wakeup(state, ALICE, 11_000, POLICY) == 11_000 + FORGET + DAY


def test_nothing_remembered_never_wakes() -> None:
    assert next_wakeup(SubjectBlocks(), ALICE, 1, POLICY) is None


@pytest.mark.parametrize(("now", "held"), [(10_999, 1), (11_000, 0), (11_001, 0)])
def test_redis_holds_a_block_until_its_end(now: int, held: int) -> None:
    assert len(redis_entries(judge(hit(10_000))[0], now)) == held


@pytest.mark.parametrize(("before", "held"), [(1, 1), (0, 0)])
def test_redis_holds_a_tombstone_for_its_time(before: int, held: int) -> None:
    block = Block(10_000, None, 1, "r", 10_000, unblocked_at=10_000, closed=True)
    state = SubjectBlocks({RULE.name: block}, 10_000)

    entries = redis_entries(state, 10_000 + TOMBSTONE_KEPT_MS - before)

    assert len(entries) == held
    assert all(entry.unblocked and entry.version == 20_001 for entry in entries.values())


HITS = st.lists(
    st.tuples(st.integers(0, 40_000), st.integers(0, 3_000)).map(
        lambda pair: hit(pair[0], pair[0] - pair[1])
    ),
    max_size=30,
)


@given(HITS)
def test_replaying_the_same_hits_changes_nothing(hits: list[Hit]) -> None:
    ordered = sorted(hits, key=lambda one: one.ts)
    state, _ = judge(*ordered)

    for one in ordered:
        assert on_hit(state, one, RULE, POLICY) == (state, [])


@given(HITS)
def test_event_ids_are_unique_and_the_same_in_every_run(hits: list[Hit]) -> None:
    ids = [event.id for event in judge(*hits)[1]]

    assert len(set(ids)) == len(ids)
    assert [event.id for event in judge(*hits)[1]] == ids


@given(HITS, st.none() | st.integers(0, 40_000))
def test_state_survives_encoding(hits: list[Hit], unblocked_at: int | None) -> None:
    state = replace(judge(*hits)[0], unblocked_at=unblocked_at)

    assert decode_state(encode_state(state)) == state


@given(HITS)
def test_version_of_entries_never_falls(hits: list[Hit]) -> None:
    state, version = SubjectBlocks(), 0
    for one in hits:
        state, _ = on_hit(state, one, RULE, POLICY)
        for entry in redis_entries(state, -1).values():
            assert entry.version >= version
            version = entry.version
