"""The Blocked API around a list in memory, and one that always fails."""

from collections.abc import Callable
from typing import NoReturn, TypeVar

from blocked_api.block_feed import ListState
from blocked_api.block_list import BlockList
from blocked_api.blocks import BlocksUnavailableError, live_blocks_of
from blocked_api.changes import NOWHERE, Change, Place
from login_blocking.blocks import RedisEntry
from login_blocking.subjects import Subject

NOW = 1_795_478_400_123
"""2026-11-24T00:00:00.123Z"""

T = TypeVar("T")


class InMemoryPresent:
    """What Redis would hold, and the list that follows it without delay."""

    def __init__(self, now: int = NOW) -> None:
        self.at = now
        self.heartbeat: int | None = now
        self.complete_at: int | None = now
        self.lag_ms: int | None = 0
        self.list = BlockList("1")
        self.begun_in: dict[int, dict[str, int]] = {}
        self._entries: dict[Subject, dict[str, RedisEntry]] = {}

    def write(self, subject: Subject, **entries: RedisEntry) -> None:
        self._entries.setdefault(subject, {}).update(entries)
        place = self.list.version.place
        texts = {rule: e.to_json().encode() for rule, e in self._entries[subject].items()}
        moment = max(self.at, place.ms)
        following = Place(moment, place.number + 1 if moment == place.ms else 0)
        previous = None if place == NOWHERE else place
        self.list.apply(Change(following, previous, subject, live_blocks_of(texts, self.at)))

    def now(self) -> int:
        return self.at

    def state(self) -> ListState:
        place = self.list.version.place
        return ListState("1", place, self.complete_at, self.heartbeat, self.lag_ms)

    def read(self, question: Callable[[BlockList], T]) -> tuple[ListState, T]:
        self.list.advance(self.at)
        return self.state(), question(self.list)

    def begun(self, minutes: list[int]) -> list[dict[str, int]]:
        return [self.begun_in.get(minute, {}) for minute in minutes]


class FailingPresent(InMemoryPresent):
    def state(self) -> NoReturn:
        raise BlocksUnavailableError("Redis did not answer")

    def read(self, question: Callable[[BlockList], T]) -> NoReturn:
        raise BlocksUnavailableError("Redis did not answer")
