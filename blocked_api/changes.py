"""Places in the run of changes, and what leads from one to another. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Literal, NamedTuple

from blocked_api.blocks import Blocks, LiveBlock, summary_of, told_until
from login_blocking.moments import iso
from login_blocking.subjects import Subject


class Place(NamedTuple):
    """The id of a change in Redis' stream: ms and a number within it. Later ones are greater."""

    ms: int
    number: int

    @classmethod
    def parse(cls, text: str) -> "Place":
        """As Redis writes it; raises ValueError."""
        ms, number = text.split("-")
        return cls(_digits(ms), _digits(number))

    def __str__(self) -> str:
        return f"{self.ms}-{self.number}"


NOWHERE: Final = Place(0, 0)


class Version(NamedTuple):
    """Where in the run of changes an answer stands.

    `generation` is Redis' run of changes, `place` the last one, `ended` (epoch ms) the moment up to
    which ends have been told. It means the same to all processes, so any of them can go on.
    """

    generation: str
    place: Place
    ended: int

    @classmethod
    def parse(cls, text: str) -> "Version":
        """As `str` writes it; raises ValueError."""
        generation, place, ended = text.split(".")
        return cls(str(_digits(generation)), Place.parse(place), _digits(ended))

    def __str__(self) -> str:
        return f"{self.generation}.{self.place}.{self.ended}"


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of Redis' stream: the subject's live blocks after it; `previous` is the id before.

    `previous` is None for the first one ever.
    """

    place: Place
    previous: Place | None
    subject: Subject
    blocks: Blocks


@dataclass(slots=True)
class Delta:
    """What leads from one version to another. No subject stands in it twice."""

    added: dict[Subject, Blocks] = field(default_factory=dict)
    changed: dict[Subject, Blocks] = field(default_factory=dict)
    removed: list[Subject] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    def put(self, subject: Subject, blocks: Blocks, *, was_listed: bool) -> None:
        """Notes a subject, once."""
        if blocks:
            (self.changed if was_listed else self.added)[subject] = blocks
        elif was_listed:
            self.removed.append(subject)

    def update(self, other: "Delta") -> None:
        """Adds what happened to other subjects."""
        self.added.update(other.added)
        self.changed.update(other.changed)
        self.removed += other.removed

    def parts(self, most: int) -> Iterator["Delta"]:
        """The same in pieces of at most so many subjects."""
        if len(self.added) + len(self.changed) + len(self.removed) <= most:
            if self:
                yield self
            return
        for start in range(0, len(self.added), most):
            yield Delta(added=dict(islice(self.added.items(), start, start + most)))
        for start in range(0, len(self.changed), most):
            yield Delta(changed=dict(islice(self.changed.items(), start, start + most)))
        for start in range(0, len(self.removed), most):
            yield Delta(removed=self.removed[start : start + most])

    def document(self, version: Version, *, full: bool = False) -> dict[str, object]:
        """As the calls show it."""
        return {
            "version": str(version),
            "full": full,
            "added": [summary_of(*item) for item in self.added.items()],
            "changed": [summary_of(*item) for item in self.changed.items()],
            "removed": [{"subject_type": s.type, "subject": s.key} for s in self.removed],
        }


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a subject's block; `block` is None if nobody remembers it."""

    at: int
    event: Literal["blocked", "unblocked", "expired"]
    subject: Subject
    block: LiveBlock | None

    def document(self) -> dict[str, object]:
        """As the calls show it."""
        block = self.block
        return {
            "at": iso(self.at),
            "event": self.event,
            "subject_type": self.subject.type,
            "subject": self.subject.key,
            "rule": None if block is None else block.rule,
            "blocked_until": None if block is None else told_until(block),
            "level": None if block is None else block.level,
        }


class GapError(Exception):
    """A change is missing: the list must be read anew."""


def _digits(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 20):  # noqa: PLR2004 — 64 bits
        raise ValueError("not a number of at most 20 digits")
    return int(text)
