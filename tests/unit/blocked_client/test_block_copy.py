import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocked_client.answers import Changes, ListStatus, ToldBlock
from blocked_client.block_copy import BlockCopy
from login_blocking.subjects import Subject, SubjectType

NOW = 1_000.0
NOT_COMPLETE: list[ListStatus] = ["refilling", "stale"]


class Clock:
    def __init__(self) -> None:
        self.now_s = NOW

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def copy(clock: Clock) -> BlockCopy:
    return BlockCopy(clock)


def told(name: str, ends_at_s: float = NOW + 60, subject_type: SubjectType = "user") -> ToldBlock:
    return ToldBlock(subject_type, name, ends_at_s, "rule")


def changes(*blocked: ToldBlock, removed: str = "") -> Changes:
    return Changes(
        "v", full=False, blocked=[*blocked], removed=[Subject("user", n) for n in removed]
    )


def test_changes_are_applied_and_types_are_kept_apart(copy: BlockCopy) -> None:
    copy.take_full([told("a"), told("b"), told("a", subject_type="ip")], "complete")
    copy.apply(changes(told("c"), told("b", math.inf), removed="az"), "complete")
    assert copy.blocked("user") == ["b", "c"]
    assert copy.blocked("ip") == ["a"]
    assert copy.users["b"].ends_at_s == math.inf
    assert not copy.owes_drops


def test_a_block_ends_at_its_end_by_this_clock(copy: BlockCopy, clock: Clock) -> None:
    copy.take_full([told("a", NOW + 1)], "complete")
    clock.now_s = NOW + 0.999
    assert copy.blocked("user") == ["a"]
    clock.now_s = NOW + 1
    assert copy.blocked("user") == []


def test_a_complete_list_takes_the_place_of_all(copy: BlockCopy) -> None:
    copy.take_full([told("a", NOW + 90), told("b")], "complete")
    copy.take_full([told("a", NOW + 30), told("c")], "complete")
    assert copy.blocked("user") == ["a", "c"]
    assert copy.users["a"].ends_at_s == NOW + 30


@pytest.mark.parametrize("status", NOT_COMPLETE)
def test_a_list_that_may_lack_blocks_adds_and_drops_none(
    copy: BlockCopy, clock: Clock, status: ListStatus
) -> None:
    copy.take_full([told("a", NOW + 90), told("b", NOW + 1), told("c")], "complete")
    clock.now_s = NOW + 1
    copy.take_full([told("a", NOW + 30), told("d")], status)
    assert copy.blocked("user") == ["a", "c", "d"]
    assert copy.users["a"].ends_at_s == NOW + 90
    assert "b" not in copy.users
    assert copy.owes_drops


@pytest.mark.parametrize("status", NOT_COMPLETE)
def test_while_blocks_may_lack_no_removal_holds_but_of_what_has_ended(
    copy: BlockCopy, clock: Clock, status: ListStatus
) -> None:
    copy.take_full([told("a"), told("b", NOW + 1), told("c")], "complete")
    clock.now_s = NOW + 1
    copy.apply(changes(removed="b"), status)
    assert "b" not in copy.users
    assert not copy.owes_drops
    copy.apply(changes(told("c", NOW + 30), told("d"), removed="a"), status)
    assert copy.blocked("user") == ["a", "c", "d"]
    assert copy.users["c"].ends_at_s == NOW + 60
    assert copy.owes_drops


def test_the_next_complete_list_makes_good_what_was_not_dropped(copy: BlockCopy) -> None:
    copy.take_full([told("a")], "complete")
    copy.apply(changes(removed="a"), "refilling")
    copy.take_full([], "complete")
    assert copy.blocked("user") == []
    assert not copy.owes_drops


def test_while_blocks_may_lack_an_end_may_come_later(copy: BlockCopy) -> None:
    copy.take_full([told("a")], "complete")
    copy.apply(changes(told("a", math.inf)), "refilling")
    assert copy.users["a"].ends_at_s == math.inf
    assert not copy.owes_drops


blocks = st.dictionaries(
    st.sampled_from("abcdef"), st.sampled_from([NOW - 1, NOW + 1, NOW + 2, math.inf])
)


@given(blocks, st.lists(blocks))
def test_whoever_follows_the_changes_holds_the_list(
    first: dict[str, float], lists: list[dict[str, float]]
) -> None:
    copy = BlockCopy(Clock())
    copy.take_full([told(*it) for it in first.items()], "complete")
    for before, now in zip([first, *lists], lists, strict=False):
        differ = [told(*it) for it in now.items() if before.get(it[0]) != it[1]]
        copy.apply(changes(*differ, removed="".join(before.keys() - now.keys())), "complete")
        assert {name: held.ends_at_s for name, held in copy.users.items()} == now


@given(blocks, st.lists(st.tuples(blocks, st.booleans())))
def test_until_it_is_complete_nobody_goes_free_early(
    first: dict[str, float], lists: list[tuple[dict[str, float], bool]]
) -> None:
    copy = BlockCopy(Clock())
    copy.take_full([told(*it) for it in first.items()], "complete")
    known = dict(first)
    for now, whole in lists:
        if whole:
            copy.take_full([told(*it) for it in now.items()], "refilling")
        else:
            gone = "".join(known.keys() - now.keys())
            copy.apply(changes(*(told(*it) for it in now.items()), removed=gone), "refilling")
        for name, end in now.items():
            known[name] = max(end, known.get(name, end))
        live = sorted(name for name, end in known.items() if end > NOW)
        assert copy.blocked("user") == live
        assert all(copy.users[name].ends_at_s == known[name] for name in live)
