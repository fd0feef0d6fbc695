"""The copy of the block list. Does no I/O; knows nothing of how the list is heard of."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from blocked_client.answers import Changes, ListStatus, ToldBlock
from login_blocking.subjects import SubjectType


@dataclass(frozen=True, slots=True)
class Block:
    """A subject's block that ends last; `until` None means for ever."""

    subject_type: SubjectType
    subject: str
    until: datetime | None
    rule: str


class Held(NamedTuple):
    """What is kept of a block."""

    ends_at_s: float
    rule: str


class BlockCopy:
    """What is blocked, by its normal form (`user_key`, `ip_key`), as one thread writes it.

    Any thread may read without a lock: entries come and go by single operations on a dictionary,
    which are atomic, and a whole list takes the old one's place by one assignment. An entry whose
    end has come blocks nobody, whether or not the server has told.

    While the list is not `complete`, what it lacks may be blocked all the same: nothing is dropped
    then, and no end comes earlier. `owes_drops` says that there is a difference for which a full
    list has to be taken once it is complete.
    """

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self.users: dict[str, Held] = {}
        self.ips: dict[str, Held] = {}
        self.owes_drops = False
        self._clock_s = clock_s

    def take_full(self, blocked: Iterable[ToldBlock], status: ListStatus) -> None:
        """Takes the place of all that was there, or joins it."""
        held: dict[SubjectType, dict[str, Held]] = {"user": {}, "ip": {}}
        for block in blocked:
            held[block.subject_type][block.subject] = Held(block.ends_at_s, block.rule)
        if status != "complete":
            for before, now in ((self.users, held["user"]), (self.ips, held["ip"])):
                self._join(before, now)
        else:
            self.owes_drops = False
        self.users, self.ips = held["user"], held["ip"]

    def apply(self, changes: Changes, status: ListStatus) -> None:
        """Applies what differs from the version before."""
        for subject_type, subject in changes.removed:
            held = self._of(subject_type)
            block = held.get(subject)
            if block is None:
                continue
            if status == "complete" or block.ends_at_s <= self._clock_s():
                del held[subject]
            else:
                self.owes_drops = True
        for told in changes.blocked:
            held = self._of(told.subject_type)
            now = Held(told.ends_at_s, told.rule)
            held[told.subject] = now if status == "complete" else self._later(held, told, now)

    def blocked(self, subject_type: SubjectType) -> list[str]:
        """Sorted subjects of that type that are blocked now."""
        now_s = self._clock_s()
        held = self._of(subject_type).copy()  # atomic; iterating over the original is not
        return sorted(subject for subject, block in held.items() if block.ends_at_s > now_s)

    def _of(self, subject_type: SubjectType) -> dict[str, Held]:
        return self.users if subject_type == "user" else self.ips

    def _join(self, before: dict[str, Held], now: dict[str, Held]) -> None:
        now_s = self._clock_s()
        for subject, block in before.items():
            if block.ends_at_s > now_s and block.ends_at_s > _end_s(now.get(subject)):
                now[subject] = block
                self.owes_drops = True

    def _later(self, held: dict[str, Held], told: ToldBlock, now: Held) -> Held:
        before = held.get(told.subject)
        if before is None or before.ends_at_s <= now.ends_at_s:
            return now
        self.owes_drops = True
        return before


def block_of(subject_type: SubjectType, subject: str, held: Held) -> Block:
    """A kept block as callers see it."""
    forever = math.isinf(held.ends_at_s)
    until = None if forever else datetime.fromtimestamp(held.ends_at_s, UTC)
    return Block(subject_type, subject, until, held.rule)


def _end_s(held: Held | None) -> float:
    return -math.inf if held is None else held.ends_at_s
