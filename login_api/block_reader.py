"""Asks Redis whether a user or an address is blocked."""

import math
from dataclasses import dataclass
from typing import Final, Protocol

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from login_api.errors import PartUnavailableError
from login_blocking.names import blocked_set
from login_blocking.subjects import Subject

_LATEST_END: Final = 253_402_300_799_999
"""The end of the year 9999; what ends later has no date and counts as for ever."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """A block that holds now; `until` in ms since the epoch, None for ever."""

    until: int | None


class BlockReader(Protocol):
    """What the routes need; all methods raise PartUnavailableError("redis")."""

    def blocked(self, subjects: list[Subject], now: int) -> Blocked | None:
        """The block among these subjects' that ends last, None if none is blocked at `now`.

        A block that ends at `now` has ended.
        """

    def ping(self) -> None:
        """Returns if blocks can be read."""


class RedisBlockReader:
    """Reads the lists that the detector writes, in one round trip, and once more if that fails."""

    def __init__(self, url: str, timeout_ms: int) -> None:
        timeout_s = timeout_ms / 1_000
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 1),
            retry_on_error=[redis.ConnectionError, redis.TimeoutError],
        )

    def blocked(self, subjects: list[Subject], now: int) -> Blocked | None:
        """See BlockReader."""
        pipeline = self._redis.pipeline(transaction=False)
        for subject in subjects:
            pipeline.zscore(blocked_set(subject.type), subject.key)
        try:
            scores = pipeline.execute()
        except RedisError as error:
            raise PartUnavailableError("redis") from error
        end = max((score for score in scores if score is not None), default=-math.inf)
        if end <= now:
            return None
        return Blocked(None if end > _LATEST_END else int(end))

    def ping(self) -> None:
        """See BlockReader."""
        try:
            self._redis.ping()
        except RedisError as error:
            raise PartUnavailableError("redis") from error

    def close(self) -> None:
        """Closes the connections that nobody uses."""
        self._redis.close()
