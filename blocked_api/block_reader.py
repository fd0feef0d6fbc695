"""Reads blocks from Redis. It cannot write: its Redis user may not."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from login_blocking.names import block_hash, blocked_set
from login_blocking.subjects import Subject, SubjectType


class BlocksUnavailableError(Exception):
    """The list could not be read; an empty one in its place would be a lie."""


@dataclass(frozen=True, slots=True)
class LiveBlock:
    """One rule's block that has not ended; times in ms since the epoch, `until` None for ever."""

    rule: str
    reason: str
    since: int
    until: int | None
    level: int


class BlockReader(Protocol):
    """What the routes need; all methods raise BlocksUnavailableError."""

    def blocked(self, subject_type: SubjectType) -> list[str]:
        """Sorted subjects of that type that are blocked now."""

    def blocks(self, subject: Subject) -> list[LiveBlock]:
        """The live blocks of a subject, the one that ends last first; empty if not blocked."""

    def ping(self) -> None:
        """Returns if the list can be read."""


def now_ms() -> int:
    """The wall clock in ms since the epoch."""
    return time.time_ns() // 1_000_000


class RedisBlockReader:
    """Blocks as Redis holds them. An end is compared with this host's clock, as the writers do."""

    def __init__(self, url: str, timeout_ms: int, clock: Callable[[], int] = now_ms) -> None:
        timeout_s = timeout_ms / 1_000
        self._redis = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 1),
        )
        self._clock = clock

    def blocked(self, subject_type: SubjectType) -> list[str]:
        """See BlockReader."""
        try:
            subjects = self._redis.zrangebyscore(
                blocked_set(subject_type), f"({self._clock()}", "+inf"
            )
        except RedisError as error:
            raise BlocksUnavailableError from error
        return sorted(cast("list[str]", subjects))

    def blocks(self, subject: Subject) -> list[LiveBlock]:
        """See BlockReader."""
        try:
            entries = self._redis.hgetall(block_hash(subject.type, subject.key))
        except RedisError as error:
            raise BlocksUnavailableError from error
        now = self._clock()
        live = []
        for rule, text in cast("dict[str, str]", entries).items():
            entry: dict[str, Any] = json.loads(text)
            until = entry["until"]
            if not entry["unblocked"] and (until is None or until > now):
                live.append(LiveBlock(rule, entry["reason"], entry["since"], until, entry["level"]))
        return sorted(live, key=_latest_end_first)

    def ping(self) -> None:
        """See BlockReader."""
        try:
            self._redis.ping()
        except RedisError as error:
            raise BlocksUnavailableError from error


def _latest_end_first(block: LiveBlock) -> tuple[float, str]:
    return (float("-inf") if block.until is None else -block.until, block.rule)
