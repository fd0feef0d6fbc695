import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from login_blocking.blocks import (
    Decision,
    Hit,
    SubjectBlocks,
    on_command,
    on_hit,
    on_time,
    redis_entries,
)
from login_blocking.commands import Action, Command, MalformedCommandError, decode
from login_blocking.events import BlockEvent, EventKind
from login_blocking.policy import OPERATOR_RULE, Exemptions, Policy, Rule
from login_blocking.subjects import Subject

ALICE = Subject("user", "alice")
FAST = Rule("fast", "user", "failures", 5, 60_000, (100_000, 500_000))
SLOW = Rule("slow", "user", "failures", 9, 600_000, (900_000,))
POLICY = Policy((FAST, SLOW), 30 * 86_400_000)
UNBLOCK = Command("c1", 50_000, Action.UNBLOCK, ALICE, "eve", "called us")
BLOCK = Command("c2", 50_000, Action.BLOCK, ALICE, "eve", "seen in a leak", until=80_000)


def hit(ts: int, rule: Rule = FAST, oldest: int | None = None) -> Hit:
    return Hit(ALICE, rule.name, ts, ts - 10 if oldest is None else oldest, f"a{ts}")


def play(*steps: Hit | Command) -> Decision:
    state, events = SubjectBlocks(), list[BlockEvent]()
    for step in steps:
        if isinstance(step, Hit):
            rule = POLICY.rule(step.rule)
            assert rule is not None
            state, more = on_hit(state, step, rule, POLICY)
        else:
            state, more = on_command(state, step, POLICY)
        events += more
    return state, events


def facts(events: list[BlockEvent]) -> list[tuple[str, str, int, int]]:
    return [(event.event.value, event.rule, event.ts, event.level) for event in events]


def test_command_survives_encoding() -> None:
    for command in (UNBLOCK, BLOCK, replace(UNBLOCK, reset_levels=True)):
        assert decode(command.encode()) == command


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"v": 2}, "v"), ({"v": True}, "v"), ({"id": ""}, "id"), ({"id": None}, "id"),
        ({"ts": "1"}, "ts"), ({"ts": -1}, "ts"), ({"ts": True}, "ts"), ({"ts": 2**60}, "ts"),
        ({"action": "ban"}, "action"), ({"subject_type": "host"}, "subject_type"),
        ({"subject_type": []}, "subject_type"), ({"subject": " "}, "subject"),
        ({"subject_type": "ip", "subject": "nowhere"}, "subject"), ({"by": ""}, "by"),
        ({"by": "e\ud800"}, "by"), ({"reason": "a\nb"}, "reason"), ({"reason": "\x85"}, "reason"),
        ({"subject": "\ufdfa" * 30}, "subject"),  # 540 characters in normal form
        ({"reason": "x" * 501}, "reason"), ({"until": 50_000}, "until"), ({"until": "x"}, "until"),
        ({"reset_levels": 1}, "reset_levels"), ({"action": "unblock"}, "until"),
    ],
)  # fmt: skip
def test_malformed_command_is_refused_with_its_field(change: dict[str, Any], field: str) -> None:
    document = {**json.loads(BLOCK.encode()), **change}

    with pytest.raises(MalformedCommandError, match=f"^{field}:"):
        decode(json.dumps(document))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"subject_type": "ip", "subject": "nowhere"}, "subject: not an IPv4 or IPv6 address"),
        ({"subject_type": "user", "subject": " "}, "subject: a user name may not be blank"),
    ],
)
def test_what_is_no_subject_is_told_in_words(change: dict[str, Any], told: str) -> None:
    document = {**json.loads(BLOCK.encode()), **change}
    with pytest.raises(MalformedCommandError) as refused:
        decode(json.dumps(document))
    assert str(refused.value) == told


@pytest.mark.parametrize("value", [b"", b"[]", b"\xff", b"{", b"[" * 100_000])
def test_no_json_object_is_no_command(value: bytes) -> None:
    with pytest.raises(MalformedCommandError):
        decode(value)


def test_unblock_ends_all_blocks_at_once_and_says_who_and_why() -> None:
    state, events = play(hit(10_000), hit(20_000, SLOW), BLOCK, replace(UNBLOCK, ts=60_000))

    ended = events[3:]
    assert facts(ended) == [
        ("unblocked", "fast", 60_000, 1),
        ("unblocked", "slow", 60_000, 1),
        ("unblocked", OPERATOR_RULE, 60_000, 1),
    ]
    assert {(event.by, event.reason) for event in ended} == {("eve", "called us")}
    assert all(entry.unblocked for entry in redis_entries(state, 60_000).values())


def test_unblock_of_nobody_blocked_says_nothing_but_forgets_failures() -> None:
    _, events = play(UNBLOCK, hit(50_020, oldest=50_000), hit(50_021, oldest=50_001))

    assert facts(events) == [("blocked", "fast", 50_021, 1)]


def test_block_that_rests_on_failures_before_the_unblock_ends_too() -> None:
    later_first, _ = play(hit(50_005, oldest=49_999), UNBLOCK)
    earlier_first, events = play(UNBLOCK, hit(50_005, oldest=49_999))

    assert events == []
    assert later_first.blocks["fast"].end == 50_005
    assert not any(not e.unblocked for e in redis_entries(later_first, 50_006).values())
    assert redis_entries(earlier_first, 50_006) == {}


def test_tombstone_of_such_a_block_is_newer_than_the_block() -> None:
    before, _ = play(hit(50_005, oldest=49_999))
    after, _ = on_command(before, UNBLOCK, POLICY)

    version = {r: e.version for r, e in redis_entries(before, 50_006).items()}
    assert redis_entries(after, 50_006)["fast"].version > version["fast"]


@pytest.mark.parametrize("ts", [50_000, 49_999])
def test_older_command_changes_nothing(ts: int) -> None:
    state, _ = play(hit(10_000), UNBLOCK)

    assert on_command(state, replace(BLOCK, ts=ts), POLICY) == (state, [])
    assert on_command(state, replace(UNBLOCK, ts=ts), POLICY) == (state, [])


def test_levels_stay_after_an_unblock() -> None:
    assert facts(play(hit(10_000), UNBLOCK, hit(60_000))[1])[-1] == ("blocked", "fast", 60_000, 2)


def test_levels_start_again_where_the_command_says_so() -> None:
    reset = replace(UNBLOCK, reset_levels=True)

    assert facts(play(hit(10_000), reset, hit(60_000))[1])[-1] == ("blocked", "fast", 60_000, 1)


def test_levels_of_ended_blocks_start_again_too() -> None:
    reset = replace(UNBLOCK, ts=200_000, reset_levels=True)

    assert facts(play(hit(10_000), reset, hit(210_000))[1])[-1] == ("blocked", "fast", 210_000, 1)


def test_operator_block_stands_beside_rules_and_shows_who_made_it() -> None:
    state, events = play(hit(10_000), BLOCK)

    assert set(state.blocks) == {"fast", OPERATOR_RULE}
    assert (events[-1].by, events[-1].reason, events[-1].attempt_id) == (
        "eve", "seen in a leak", None,
    )  # fmt: skip


def test_later_operator_block_takes_the_place_of_a_live_one() -> None:
    longer = replace(BLOCK, ts=60_000, until=None)

    _, events = play(BLOCK, longer, BLOCK)

    assert facts(events) == [
        ("blocked", OPERATOR_RULE, 50_000, 1),
        ("unblocked", OPERATOR_RULE, 60_000, 1),
        ("blocked", OPERATOR_RULE, 60_000, 2),
    ]


def test_operator_can_block_whom_rules_spare() -> None:
    policy = replace(POLICY, exempt=Exemptions(frozenset({"alice"})))

    assert on_command(SubjectBlocks(), BLOCK, policy)[1][0].event is EventKind.BLOCKED


def test_operator_block_ends_by_itself() -> None:
    state, _ = play(BLOCK)

    assert facts(on_time(state, ALICE, 80_000, POLICY)[1]) == [
        ("expired", OPERATOR_RULE, 80_000, 1)
    ]


STEPS = st.lists(
    st.one_of(
        st.integers(0, 400_000).map(hit),
        st.integers(0, 400_000).map(lambda ts: replace(UNBLOCK, ts=ts)),
        st.integers(0, 400_000).map(lambda ts: replace(BLOCK, ts=ts, until=ts + 1_000)),
    ),
    max_size=20,
)


@given(STEPS)
def test_doing_all_again_changes_nothing(steps: list[Hit | Command]) -> None:
    once, events = play(*steps)
    twice, again = play(*steps, *steps)

    known = {event.id for event in events}
    if steps == sorted(steps, key=lambda step: step.ts):
        assert twice == once
        assert {event.id for event in again} == known


@given(STEPS, st.integers(0, 500_000))
def test_nobody_is_blocked_right_after_an_unblock(steps: list[Hit | Command], ts: int) -> None:
    before = [step for step in steps if step.ts <= ts]
    state, _ = play(*before, replace(UNBLOCK, ts=ts + 1))

    assert not any(not e.unblocked for e in redis_entries(state, ts + 2).values())
