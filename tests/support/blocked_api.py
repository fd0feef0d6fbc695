"""The Blocked API around blocks in memory, and a reader that always fails."""

from typing import NoReturn

from blocked_api.block_reader import (
    BlocksUnavailableError,
    LiveBlock,
    latest_end_first,
)
from login_blocking.blocks import RedisEntry
from login_blocking.subjects import Subject, SubjectType

NOW = 1_795_478_400_123
"""2026-11-24T00:00:00.123Z"""


class InMemoryBlockReader:
    def __init__(self, now: int = NOW) -> None:
        self.now = now
        self.entries: dict[Subject, dict[str, RedisEntry]] = {}

    def write(self, subject: Subject, **entries: RedisEntry) -> None:
        self.entries.setdefault(subject, {}).update(entries)

    def blocked(self, subject_type: SubjectType) -> list[str]:
        return sorted(s.key for s in self.entries if s.type == subject_type and self.blocks(s))

    def blocks(self, subject: Subject) -> list[LiveBlock]:
        live = [
            LiveBlock(rule, entry.reason, entry.since, entry.until, entry.level)
            for rule, entry in self.entries.get(subject, {}).items()
            if not entry.unblocked and (entry.until is None or entry.until > self.now)
        ]
        return sorted(live, key=latest_end_first)

    def ping(self) -> None:
        pass


class FailingBlockReader:
    def blocked(self, subject_type: SubjectType) -> NoReturn:
        raise BlocksUnavailableError("Redis did not answer")

    def blocks(self, subject: Subject) -> NoReturn:
        raise BlocksUnavailableError("Redis did not answer")

    def ping(self) -> NoReturn:
        raise BlocksUnavailableError("Redis did not answer")
