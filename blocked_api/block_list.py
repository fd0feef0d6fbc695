"""The whole list in memory, and what has changed in it. Pure: no clock, no I/O.

Why in memory, and why versions look as they do: docs/decisions/0009-changes.md.
"""

import heapq
import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import count, islice, takewhile
from typing import Final, NamedTuple

from sortedcontainers import SortedList

from blocked_api.blocks import Blocks, LiveBlock
from blocked_api.changes import NOWHERE, Change, Delta, Event, GapError, Place, Version
from login_blocking.subjects import SUBJECT_TYPES, Subject, SubjectType

KEPT_MARKS: Final = 50_000
"""How many changes and ends are remembered, and how many events: as many as Redis keeps."""
MOST_SINCE: Final = 10_000
"""Changes and ends that `since` goes over."""


class _Mark(NamedTuple):
    """That a subject's blocks differ from here on: by the change `at`, or by an end (ms, 0)."""

    number: int
    subject: Subject
    was_listed: bool
    at: Place


_serials: Final = count(1)


class BlockList:
    """Who is blocked, kept up by `apply` (changes) and `advance` (ends)."""

    def __init__(self, generation: str, place: Place = NOWHERE, ended: int = 0) -> None:
        self.serial = next(_serials)
        """Tells this list from any other of this process."""
        self._generation = generation
        self._place = self._oldest_place = place
        self._ended = self._oldest_ended = ended
        self._subjects: dict[Subject, Blocks] = {}
        self._names: dict[SubjectType, SortedList[str]] = {k: SortedList() for k in SUBJECT_TYPES}
        self._ends: list[tuple[int, Subject]] = []
        self._change_marks: deque[_Mark] = deque()
        self._end_marks: deque[_Mark] = deque()
        self._marks_made = 0
        self._unknown: set[Subject] = set()
        self._events: deque[Event] = deque(maxlen=KEPT_MARKS)
        self._by_subject: dict[Subject, list[Event]] = {}
        self.by_rule: Counter[str] = Counter()
        """Rule → live blocks."""
        self.edits = 0
        """Counts the changes of anybody's blocks."""
        self.revisions: dict[SubjectType, int] = dict.fromkeys(SUBJECT_TYPES, 0)
        """Counts the changes of who is on the list of that type, whatever else changes."""

    def __len__(self) -> int:
        return len(self._subjects)

    @property
    def version(self) -> Version:
        """Where the list stands."""
        return Version(self._generation, self._place, self._ended)

    @property
    def next_end(self) -> float:
        """When `advance` has something to do, epoch ms; infinite when nothing ends."""
        return self._ends[0][0] if self._ends else math.inf

    def get(self, subject: Subject) -> Blocks:
        """The live blocks of a subject; empty if not blocked."""
        return self._subjects.get(subject, ())

    def names(self, subject_type: SubjectType) -> list[str]:
        """A sorted copy."""
        return list(self._names[subject_type])

    def count(self, subject_type: SubjectType, later_than: int | None = None) -> int:
        """How many are listed; of those only who is blocked for longer than that moment."""
        listed = len(self._names[subject_type])
        return listed if later_than is None else listed - self._ending_by(subject_type, later_than)

    def items(self) -> list[tuple[Subject, Blocks]]:
        """A copy of all, in no order."""
        return list(self._subjects.items())

    def page(
        self, subject_type: SubjectType, limit: int, after: str | None
    ) -> tuple[list[str], bool]:
        """At most `limit` names later than `after` in the sort order; whether there are more."""
        names = self._names[subject_type]
        start = 0 if after is None else names.bisect_right(after)
        return list(names.islice(start, start + limit)), start + limit < len(names)

    def fill(self, subject: Subject, blocks: Blocks) -> None:
        """Puts in what stood in Redis already: no change, no event."""
        self._set(subject, blocks)

    def begin(self, now: int, unknown: set[Subject]) -> None:
        """After `fill`: what ended before is unknown, so `since` does not reach back over it.

        Of the `unknown`, whose changes follow, nobody knows whether they were listed before: they
        are told as if they had been, which does no harm to who does not know them.
        """
        self._ended = self._oldest_ended = max(self._ended, now)
        self._unknown = unknown

    def apply(self, change: Change) -> Delta:
        """The next change; raises GapError if one is missing before it."""
        if change.previous != (None if self._place == NOWHERE else self._place):
            raise GapError
        subject, before = change.subject, self.get(change.subject)
        was_listed = bool(before) or subject in self._unknown
        self._unknown.discard(subject)
        blocks = tuple(block for block in change.blocks if block.end > self._ended)
        self._place = change.place
        self._mark_change(subject, change.place, was_listed=was_listed)
        if change.blocks and not blocks:
            # Its end has passed here already, and may have been told nowhere: who goes on from
            # the change itself, as another process told it, must hear of the end.
            self._mark_end(subject, self._ended)
        self._note_events(change, before)
        self._set(subject, blocks)
        delta = Delta()
        delta.put(subject, blocks, was_listed=was_listed)
        return delta

    def advance(self, now: int) -> Delta:
        """Lifts what has ended at `now`; a clock that goes back changes nothing."""
        delta = Delta()
        while self._ends and self._ends[0][0] <= now:
            end, subject = heapq.heappop(self._ends)
            before = self.get(subject)
            ended = [block for block in before if block.until == end]
            if not ended:  # another change came first
                continue
            for block in ended:
                self._note(Event(end, "expired", subject, block))
            left = tuple(block for block in before if block.end > end)
            if left:
                self._set(subject, left)
                continue
            self._mark_end(subject, end)
            self._set(subject, ())
            delta.put(subject, (), was_listed=True)
        self._ended = max(self._ended, now)
        return delta

    def since(self, version: Version) -> Delta | None:
        """What leads from a version to the present.

        None if it is of another list, too old, or so far behind that the full list costs less.
        """
        if (
            version.generation != self._generation
            or version.place < self._oldest_place
            or version.ended < self._oldest_ended
        ):
            return None
        changes = takewhile(lambda mark: mark.at > version.place, reversed(self._change_marks))
        ends = takewhile(lambda mark: mark.at > Place(version.ended, 0), reversed(self._end_marks))
        later = [*islice(changes, MOST_SINCE + 1), *islice(ends, MOST_SINCE + 1)]
        if len(later) > MOST_SINCE:
            return None
        first: dict[Subject, bool] = {}
        for mark in sorted(later):
            first.setdefault(mark.subject, mark.was_listed)
        delta = Delta()
        for subject, was_listed in first.items():
            delta.put(subject, self.get(subject), was_listed=was_listed)
        return delta

    def newest_events(self, limit: int) -> list[Event]:
        """The newest first."""
        return list(islice(reversed(self._events), limit))

    def history(self, subject: Subject) -> list[Event]:
        """The events of a subject, the newest first."""
        return self._by_subject.get(subject, [])[::-1]

    def _ending_by(self, subject_type: SubjectType, moment: int) -> int:
        """How many of a type end by then: only that part of the heap is walked."""
        found: set[Subject] = set()
        places = [0]
        while places:
            place = places.pop()
            if place >= len(self._ends) or self._ends[place][0] > moment:
                continue
            subject = self._ends[place][1]
            blocks = self._subjects.get(subject)
            if subject.type == subject_type and blocks and blocks[0].end <= moment:
                found.add(subject)
            places += (2 * place + 1, 2 * place + 2)
        return len(found)

    def _set(self, subject: Subject, blocks: Blocks) -> None:
        names = self._names[subject.type]
        self.edits += 1
        self.by_rule.subtract(block.rule for block in self.get(subject))
        self.by_rule.update(block.rule for block in blocks)
        if blocks:
            if subject not in self._subjects:
                names.add(subject.key)
                self.revisions[subject.type] += 1
            self._subjects[subject] = blocks
            for block in blocks:
                if block.until is not None:
                    heapq.heappush(self._ends, (block.until, subject))
        elif self._subjects.pop(subject, None) is not None:
            names.remove(subject.key)
            self.revisions[subject.type] += 1
        if len(self._ends) > 4 * len(self._subjects) + KEPT_MARKS:
            self._drop_ends_of_earlier_changes()

    def _drop_ends_of_earlier_changes(self) -> None:
        self._ends = [
            (block.until, subject)
            for subject, blocks in self._subjects.items()
            for block in blocks
            if block.until is not None
        ]
        heapq.heapify(self._ends)

    def _mark_change(self, subject: Subject, place: Place, *, was_listed: bool) -> None:
        self._change_marks.append(_Mark(self._next_mark(), subject, was_listed, place))
        if len(self._change_marks) > KEPT_MARKS:
            self._oldest_place = self._change_marks.popleft().at

    def _mark_end(self, subject: Subject, end: int) -> None:
        self._end_marks.append(_Mark(self._next_mark(), subject, True, Place(end, 0)))
        if len(self._end_marks) > KEPT_MARKS:
            self._oldest_ended = self._end_marks.popleft().at.ms

    def _next_mark(self) -> int:
        self._marks_made += 1
        return self._marks_made

    def _note_events(self, change: Change, before: Blocks) -> None:
        known = {(block.rule, block.since) for block in before}
        kept = {(block.rule, block.since) for block in change.blocks}
        replaced = {block.rule for block in change.blocks}  # by another block: no end of it
        lifted: Iterable[LiveBlock | None] = [
            block
            for block in before
            if (block.rule, block.since) not in kept and block.rule not in replaced
        ]
        if not before and not change.blocks:
            lifted = [None]
        for gone in lifted:
            if gone is not None and gone.until is not None and gone.until <= change.place.ms:
                self._note(Event(gone.until, "expired", change.subject, gone))
            else:
                self._note(Event(change.place.ms, "unblocked", change.subject, gone))
        for block in change.blocks:
            if (block.rule, block.since) not in known:
                self._note(Event(change.place.ms, "blocked", change.subject, block))

    def _note(self, event: Event) -> None:
        if len(self._events) == KEPT_MARKS:
            oldest = self._events.popleft()
            of_subject = self._by_subject[oldest.subject]
            del of_subject[0]
            if not of_subject:
                del self._by_subject[oldest.subject]
        self._events.append(event)
        self._by_subject.setdefault(event.subject, []).append(event)


def matching(
    items: Iterable[tuple[Subject, Blocks]],
    *,
    subject_type: SubjectType | None,
    part: str,
    rule: str | None,
    level: int | None,
) -> Iterator[tuple[Subject, Blocks]]:
    """Those whose key holds `part` and that a block of that rule and one of that level block."""
    for subject, blocks in items:
        if subject_type is not None and subject.type != subject_type:
            continue
        if part and part not in subject.key:
            continue
        if rule is not None and all(block.rule != rule for block in blocks):
            continue
        if level is not None and all(block.level != level for block in blocks):
            continue
        yield subject, blocks


def newest_first(item: tuple[Subject, Blocks]) -> tuple[int, str, str]:
    """Sorts by the begin of the block that ends last, then by subject."""
    subject, blocks = item
    return (-blocks[0].since, subject.type, subject.key)
