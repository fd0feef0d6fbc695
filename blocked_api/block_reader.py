"""Reads blocks from Redis. It cannot write: its Redis user may not."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar, cast

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from login_blocking.moments import LATEST_MS
from login_blocking.names import block_hash, blocked_set
from login_blocking.subjects import Subject, SubjectType

_AWAY_MS: Final = 500
"""How long a Redis that did not answer is left alone: see `RedisBlockReader`."""

T = TypeVar("T")


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
    """What the routes need; all methods raise BlocksUnavailableError.

    A block that ends at this moment has ended.
    """

    def blocked(self, subject_type: SubjectType) -> list[str]:
        """Sorted subjects of that type that are blocked now."""

    def blocks(self, subject: Subject) -> list[LiveBlock]:
        """The live blocks of a subject, the one that ends last first; empty if not blocked."""

    def ping(self) -> None:
        """Returns if the list can be read."""


def now_ms() -> int:
    """The wall clock in ms since the epoch."""
    return time.time_ns() // 1_000_000


def latest_end_first(block: LiveBlock) -> tuple[float, str]:
    """Sorts live blocks in the order in which BlockReader gives them."""
    return (-math.inf if block.until is None else -block.until, block.rule)


class RedisBlockReader:
    """Blocks as Redis holds them.

    Ends are compared with this host's clock, as the Login API does: an end is a moment of wall
    time that was fixed on yet another host, and Redis's own clock would cost a second round trip.

    No question takes longer than `timeout_ms` twice. While Redis is away, questions fail at once
    and only one of them every `_AWAY_MS` really asks: threads that all wait for Redis would keep
    the other clients, and the health check, waiting for a thread.
    """

    def __init__(self, url: str, timeout_ms: int, clock: Callable[[], int] = now_ms) -> None:
        timeout_s = timeout_ms / 1_000
        self._redis = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 1),
            retry_on_error=[redis.ConnectionError, redis.TimeoutError],
        )
        self._clock = clock
        self._ask_again_at_ms: float | None = None

    def blocked(self, subject_type: SubjectType) -> list[str]:
        """See BlockReader."""
        key, later_than_now = blocked_set(subject_type), f"({self._clock()}"
        subjects = self._ask(lambda: self._redis.zrangebyscore(key, later_than_now, "+inf"))
        return sorted(cast("list[str]", subjects))

    def blocks(self, subject: Subject) -> list[LiveBlock]:
        """See BlockReader."""
        key = block_hash(subject.type, subject.key)
        entries = cast("dict[str, str]", self._ask(lambda: self._redis.hgetall(key)))
        try:
            read = [_live_block(rule, text, self._clock()) for rule, text in entries.items()]
        except (ValueError, TypeError, KeyError) as error:
            raise BlocksUnavailableError("an entry that is none") from error
        return sorted((block for block in read if block is not None), key=latest_end_first)

    def ping(self) -> None:
        """See BlockReader."""
        self._ask(self._redis.ping)

    def close(self) -> None:
        """Closes the connections that nobody uses."""
        self._redis.close()

    def _ask(self, question: Callable[[], T]) -> T:
        ask_again_at_ms, moment_ms = self._ask_again_at_ms, _monotonic_ms()
        if ask_again_at_ms is not None:
            if moment_ms < ask_again_at_ms:
                raise BlocksUnavailableError("Redis was away a moment ago")
            self._ask_again_at_ms = moment_ms + _AWAY_MS
        try:
            answer = question()
        except RedisError as error:
            self._ask_again_at_ms = _monotonic_ms() + _AWAY_MS
            raise BlocksUnavailableError("Redis did not answer") from error
        self._ask_again_at_ms = None
        return answer


def _monotonic_ms() -> float:
    return time.monotonic() * 1_000


def _live_block(rule: str, text: str, now: int) -> LiveBlock | None:
    entry: dict[str, Any] = json.loads(text)
    until = entry["until"]
    if entry["unblocked"] or (until is not None and until <= now):
        return None
    if until is not None and until > LATEST_MS:  # without a date: for ever
        until = None
    return LiveBlock(rule, entry["reason"], entry["since"], until, entry["level"])
