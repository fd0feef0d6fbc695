"""Says in Redis once a second that the job judges, and how far behind it is: nobody else may."""

from typing import Final

import redis
from redis.exceptions import RedisError

from login_blocking.names import BLOCK_STATE
from login_blocking.redis_urls import with_verified_name

TICK: Final = "tick"
"""Where a hit has its subject's type, a row that only shows that rows arrive has this."""


class HeartbeatError(Exception):
    """Redis did not take a heartbeat; it is not told again, the next one follows in a second."""


class RedisHeartbeat:
    """Calls redis/heartbeat.lua. Connects at the first beat.

    `timeout_s` bounds each wait for Redis: one that is frozen holds a beat for that long, once.
    """

    def __init__(self, url: str, script: str, *, timeout_s: float = 0.2) -> None:
        self._redis = redis.Redis.from_url(
            with_verified_name(url), socket_timeout=timeout_s, socket_connect_timeout=timeout_s
        )
        self._script = self._redis.register_script(script)

    def beat(self, lag_ms: int | None) -> None:
        """Tells that the job judges; `lag_ms` None: not known. Raises HeartbeatError."""
        try:
            run_id = server_run_id(self._redis)
            self._script([BLOCK_STATE], [run_id, "" if lag_ms is None else lag_ms])
        except RedisError as error:
            raise HeartbeatError(f"Redis took no heartbeat: {type(error).__name__}") from error

    def close(self) -> None:
        """Closes the connection."""
        self._redis.close()


class Seconds:
    """Lets one tick of each second pass, however many come, and none twice after a pause."""

    def __init__(self) -> None:
        self._last: int | None = None

    def begins(self, now_ms: int) -> bool:
        """Whether no tick of this second was here before."""
        second = now_ms // 1_000
        if second == self._last:
            return False
        self._last = second
        return True


def server_run_id(client: redis.Redis) -> str:
    """Names one run of the server: another after each start. Raises RedisError."""
    return str(client.info("server")["run_id"])  # type: ignore[index]


def lag_ms(now_ms: int, watermark_ms: int, behind_ms: int) -> int | None:
    """How far event time is behind, beyond what it always keeps; None before there is any.

    Flink begins far below the epoch, the clock's first ticks are the epoch (docs/decisions/0004).
    """
    if watermark_ms <= 0:
        return None
    return max(0, now_ms - watermark_ms - behind_ms)
