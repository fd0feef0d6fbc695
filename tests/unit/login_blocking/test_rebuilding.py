from dataclasses import replace
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from login_blocking.blocks import Hit, SubjectBlocks, on_command, on_hit, on_time, redis_entries
from login_blocking.commands import Action, Command
from login_blocking.events import BlockEvent
from login_blocking.policy import Policy, Rule
from login_blocking.rebuilding import from_events
from login_blocking.subjects import Subject

ALICE = Subject("user", "alice")
RULE = Rule("fast", "user", "failures", 5, 60_000, (10_000, None))
POLICY = Policy((RULE,), 30 * 86_400_000)
UNBLOCK = Command("c", 0, Action.UNBLOCK, ALICE, "eve", "asked")


def play(steps: list[tuple[str, int]]) -> tuple[SubjectBlocks, list[BlockEvent]]:
    state, events = SubjectBlocks(), list[BlockEvent]()
    for kind, ts in steps:
        if kind == "hit":
            state, more = on_hit(state, Hit(ALICE, "fast", ts, ts, f"a{ts}"), RULE, POLICY)
        elif kind == "unblock":
            state, more = on_command(state, replace(UNBLOCK, ts=ts), POLICY)
        else:
            state, more = on_time(state, ALICE, ts, POLICY)
        events += more
    return state, events


STEPS = st.lists(
    st.tuples(st.sampled_from(["hit", "hit", "unblock", "time"]), st.integers(1, 60_000)),
    max_size=12,
).map(lambda steps: sorted(steps, key=lambda step: step[1]))


@given(STEPS, st.integers(60_000, 90_000))
def test_rebuilt_redis_holds_what_the_detector_would_write(
    steps: list[tuple[str, int]], now: int
) -> None:
    state, events = play(steps)

    rebuilt = from_events(events).get(ALICE, SubjectBlocks())

    assert redis_entries(rebuilt, now) == redis_entries(state, now)


def test_order_of_events_does_not_matter() -> None:
    state, events = play([("hit", 1_000), ("unblock", 2_000), ("hit", 3_000)])

    for order in permutations(events):
        assert redis_entries(from_events(order)[ALICE], 4_000) == redis_entries(state, 4_000)
