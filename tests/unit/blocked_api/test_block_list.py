"""The list in memory against a model, in any order of changes, ends and questions."""

from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from blocked_api import block_list
from blocked_api.block_list import BlockList
from blocked_api.blocks import Blocks, LiveBlock
from blocked_api.changes import NOWHERE, Change, Delta, GapError, Place, Version
from login_blocking.subjects import Subject

ALICE, BOB = Subject("user", "alice"), Subject("user", "bob")
ADDRESS = Subject("ip", "198.51.100.7")
SUBJECTS: Final = [ALICE, BOB, Subject("user", "a/b"), ADDRESS, Subject("ip", "2001:db8::/64")]
NOW = 1_000_000


def live(until: int | None, since: int = NOW, rule_name: str = "failures") -> LiveBlock:
    return LiveBlock(rule_name, "guesses", since, until, 1)


def change(blocks: BlockList, subject: Subject, *live_blocks: LiveBlock, at: int = NOW) -> Change:
    place = blocks.version.place
    following = Place(at, place.number + 1) if place.ms == at else Place(at, 0)
    previous = None if place == NOWHERE else place
    ordered = tuple(sorted(live_blocks, key=lambda b: (-b.end, b.rule)))
    return Change(following, previous, subject, ordered)


class Following(RuleBasedStateMachine):
    """A copy that is kept by deltas is the list, from whatever version it goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.list = BlockList("1")
        self.model: dict[Subject, dict[str, int | None]] = {}
        self.copies: list[tuple[Version, dict[Subject, Blocks]]] = []
        self.stream: dict[Subject, Blocks] = {}

    @rule(
        subject=st.sampled_from(SUBJECTS),
        ends=st.dictionaries(
            st.sampled_from(["failures", "spraying", "operator"]),
            st.one_of(st.none(), st.integers(1, 50)),
            max_size=3,
        ),
    )
    def change(self, subject: Subject, ends: dict[str, int | None]) -> None:
        given = {name: None if end is None else self.now + end for name, end in ends.items()}
        self.model[subject] = given
        blocks = [live(end, self.now, name) for name, end in given.items()]
        self._told(self.list.apply(change(self.list, subject, *blocks, at=self.now)))

    @rule(milliseconds=st.integers(1, 30))
    def wait(self, milliseconds: int) -> None:
        self.now += milliseconds
        self._told(self.list.advance(self.now))

    @rule()
    def copy(self) -> None:
        self.copies.append((self.list.version, dict(self.list.items())))

    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        if not self.copies:
            return
        index = data.draw(st.integers(0, len(self.copies) - 1))
        version, copied = self.copies.pop(index)
        delta = self.list.since(version)
        assert delta is not None
        assert not delta.added.keys() & copied.keys()
        assert delta.changed.keys() <= copied.keys()
        assert set(delta.removed) <= copied.keys()
        _apply(copied, delta)
        assert copied.keys() == dict(self.list.items()).keys()
        assert {s: b[0] for s, b in copied.items()} == {s: b[0] for s, b in self.list.items()}

    def _told(self, delta: Delta) -> None:
        assert set(delta.removed) <= self.stream.keys()
        assert not delta.added.keys() & self.stream.keys()
        _apply(self.stream, delta)

    @invariant()
    def tells_what_the_model_says(self) -> None:
        blocked = {
            subject: {name for name, end in ends.items() if end is None or end > self.now}
            for subject, ends in self.model.items()
        }
        blocked = {subject: rules for subject, rules in blocked.items() if rules}
        assert {s: {b.rule for b in blocks} for s, blocks in self.list.items()} == blocked
        assert self.stream.keys() == blocked.keys()
        users = sorted(subject.key for subject in blocked if subject.type == "user")
        assert self.list.names("user") == users
        assert self.list.count("user") == len(users)
        counted = {name: n for name, n in self.list.by_rule.items() if n}
        assert sum(counted.values()) == sum(map(len, blocked.values()))
        assert len(self.list) == len(blocked)


def _apply(copied: dict[Subject, Blocks], delta: Delta) -> None:
    copied.update(delta.added)
    copied.update(delta.changed)
    for subject in delta.removed:
        del copied[subject]


TestFollowing = Following.TestCase
TestFollowing.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_missing_change_is_noticed() -> None:
    blocks = BlockList("1")
    blocks.apply(change(blocks, ALICE, live(None)))
    for previous in (None, Place(NOW, 7)):
        with pytest.raises(GapError):
            blocks.apply(Change(Place(NOW + 1, 0), previous, BOB, (live(None),)))
    assert blocks.names("user") == ["alice"]


def test_a_block_ends_at_its_end_and_not_before() -> None:
    blocks = BlockList("1")
    blocks.apply(change(blocks, ALICE, live(NOW + 10)))
    assert blocks.next_end == NOW + 10
    assert not blocks.advance(NOW + 9)
    assert blocks.advance(NOW + 10).removed == [ALICE]
    assert not blocks.advance(NOW + 11)


def test_of_two_blocks_the_later_end_lifts_the_subject() -> None:
    blocks = BlockList("1")
    blocks.apply(change(blocks, ALICE, live(NOW + 10), live(NOW + 20, rule_name="spraying")))
    assert not blocks.advance(NOW + 10)
    assert [block.rule for block in blocks.get(ALICE)] == ["spraying"]
    assert [event.event for event in blocks.history(ALICE)] == ["expired", "blocked", "blocked"]
    assert blocks.advance(NOW + 20).removed == [ALICE]


def test_a_block_in_place_of_another_is_no_unblock() -> None:
    blocks = BlockList("1")
    blocks.apply(change(blocks, ALICE, live(None, rule_name="operator")))
    blocks.apply(change(blocks, ALICE, live(None, NOW + 5, "operator"), at=NOW + 5))
    assert [event.event for event in blocks.history(ALICE)] == ["blocked", "blocked"]


def test_a_longer_block_outlives_the_end_it_had() -> None:
    blocks = BlockList("1")
    blocks.apply(change(blocks, ALICE, live(NOW + 10)))
    blocks.apply(change(blocks, ALICE, live(NOW + 30)))
    assert not blocks.advance(NOW + 29)
    assert blocks.names("user") == ["alice"]


def test_versions_reach_back_over_so_many_changes_and_no_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(block_list, "KEPT_MARKS", 3)
    blocks = BlockList("1")
    versions = []
    for number in range(5):
        versions.append(blocks.version)
        blocks.apply(change(blocks, Subject("user", f"user{number}"), live(None)))
    assert blocks.since(versions[0]) is None
    assert blocks.since(versions[1]) is None
    known = blocks.since(versions[2])
    assert known is not None
    assert [subject.key for subject in known.added] == ["user2", "user3", "user4"]


def test_ends_reach_back_as_far_as_they_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_list, "KEPT_MARKS", 2)
    blocks = BlockList("1")
    for number, subject in enumerate(SUBJECTS[:2]):
        blocks.apply(change(blocks, subject, live(NOW + 1 + number)))
    before = blocks.version
    blocks.advance(NOW + 2)
    found = blocks.since(before)
    assert found is not None
    assert found.removed == [ALICE, BOB]
    blocks.apply(change(blocks, ADDRESS, live(NOW + 9), at=NOW + 3))
    between = blocks.version
    blocks.advance(NOW + 9)
    assert blocks.since(before) is None
    assert blocks.since(between) is not None


def test_the_memory_for_ends_and_events_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_list, "KEPT_MARKS", 10)
    blocks = BlockList("1")
    for number in range(1_000):
        blocks.apply(change(blocks, SUBJECTS[number % 5], live(NOW + 10_000 + number)))
    assert len(blocks._ends) <= 4 * 5 + 10
    assert len(blocks._change_marks) == 10
    assert sum(map(len, blocks._by_subject.values())) <= 10


def test_an_end_that_had_passed_when_the_change_came_is_told() -> None:
    """Two processes: one has seen another end pass before the change, the other has not."""
    early, late = BlockList("1"), BlockList("1")
    first, second = change(early, ALICE, live(NOW + 10)), None
    for blocks in (early, late):
        blocks.apply(first)
    late.advance(NOW + 10)
    second = change(early, BOB, live(NOW + 10), at=NOW + 5)
    early.apply(second)
    told = early.version  # bob is blocked, as this process told
    late.apply(second)
    found = late.since(told)
    assert found is not None
    assert sorted(found.removed) == [ALICE, BOB]
    assert late.since(late.version) == Delta()


def test_who_is_far_behind_takes_the_full_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_list, "MOST_SINCE", 3)
    blocks = BlockList("1")
    versions = []
    for number in range(5):
        versions.append(blocks.version)
        blocks.apply(change(blocks, Subject("user", f"user{number}"), live(None)))
    assert blocks.since(versions[1]) is None
    assert blocks.since(versions[2]) is not None


def test_those_that_stay_longer_than_a_moment_are_counted() -> None:
    blocks = BlockList("1")
    for number in range(50):
        blocks.apply(change(blocks, Subject("user", f"user{number}"), live(NOW + number)))
    blocks.apply(change(blocks, ALICE, live(NOW + 5), live(None, rule_name="operator")))
    blocks.apply(change(blocks, ADDRESS, live(NOW + 5)))
    blocks.advance(NOW)
    for moment in (NOW, NOW + 5, NOW + 48, NOW + 100):
        longer = [s for s, held in blocks.items() if s.type == "user" and held[0].end > moment]
        assert blocks.count("user", moment) == len(longer)


def test_a_large_delta_is_told_in_pieces() -> None:
    subjects = [Subject("user", f"user{number}") for number in range(7)]
    delta = Delta(added=dict.fromkeys(subjects[:3], (live(None),)), removed=subjects[3:])
    parts = list(delta.parts(2))
    assert [len(part.added) + len(part.removed) for part in parts] == [2, 1, 2, 2]
    together = Delta()
    for part in parts:
        together.update(part)
    assert together == delta
    assert list(Delta().parts(2)) == []


@pytest.mark.parametrize(
    "text", ["", "1", "1.2.3", "1.2-3", "1.2-3.x", "1.2-3.4.5", "1.-2-3.4", "²1.2-3.4", "1.2-3.+4"]
)
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 — of several kinds
        Version.parse(text)


def test_a_version_reads_as_it_is_written() -> None:
    version = Version("1764150000123456", Place(1_764_150_000_123, 4), 1_764_150_000_000)
    assert Version.parse(str(version)) == version
