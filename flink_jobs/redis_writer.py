"""Writes the blocks of a subject to Redis: one Lua call, bounded in time, safe to repeat."""

import hashlib
import time
from collections.abc import Callable, Mapping

import redis
from redis.exceptions import NoScriptError, RedisError

from login_blocking.blocks import RedisEntry
from login_blocking.names import BLOCK_CHANGES, BLOCK_STATE, block_hash, blocked_set, guard
from login_blocking.redis_urls import with_verified_name
from login_blocking.subjects import Subject

_TRIES = 2


class BlockWriteError(Exception):
    """Redis did not take the write; nothing is lost, the next reassertion brings it."""


class RedisBlockWriter:
    """Applies entries by the script of redis/apply_block.lua. Connects at the first write.

    `timeout_s` bounds each wait for Redis, so a Redis that hangs holds a write for about twice as
    long. It holds one: for `pause_s` all others then fail at once, and the next that comes is tried
    once, until one succeeds. `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        url: str,
        script: str,
        *,
        timeout_s: float = 0.5,
        pause_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = redis.Redis.from_url(
            with_verified_name(url), socket_timeout=timeout_s, socket_connect_timeout=timeout_s
        )
        self._script = script
        self._sha = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        self._pause_s = pause_s
        self._clock = clock
        self._away = False
        self._paused_until = 0.0

    def apply(self, subject: Subject, entries: Mapping[str, RedisEntry]) -> bool:
        """Writes what is newer than what Redis holds; whether readers now see something else.

        (A first try whose answer was lost may have done it already: then False.) Without entries
        it still lifts a block that has ended off the list. Raises BlockWriteError after two tries,
        or at once in a pause.
        """
        if self._away and self._clock() < self._paused_until:
            raise BlockWriteError("Redis did not answer a moment ago")
        keys = [blocked_set(subject.type), block_hash(*subject), guard(*subject)]
        keys += [BLOCK_CHANGES, BLOCK_STATE]
        arguments = [subject.key]
        for rule, entry in entries.items():
            arguments += [rule, entry.to_json()]
        error: Exception | None = None
        for _ in range(1 if self._away else _TRIES):
            try:
                changed = self._call(keys, arguments)
            except RedisError as failure:
                error = failure
            else:
                self._away = False
                return changed
        # What Redis says of one block alone tells nothing of the others.
        self._away = isinstance(error, (redis.ConnectionError, redis.TimeoutError))
        self._paused_until = self._clock() + self._pause_s
        raise BlockWriteError(f"Redis did not take a block: {type(error).__name__}") from error

    def close(self) -> None:
        """Closes the connection."""
        self._redis.close()

    def _call(self, keys: list[str], arguments: list[str]) -> bool:
        try:
            changed = self._redis.evalsha(self._sha, len(keys), *keys, *arguments)
        except NoScriptError:
            changed = self._redis.eval(self._script, len(keys), *keys, *arguments)
        return bool(changed)
