"""What the detector does to Redis, without a detector: its writes and its heartbeat."""

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from flink_jobs.heartbeat import HeartbeatError, RedisHeartbeat, server_run_id
from flink_jobs.redis_writer import RedisBlockWriter
from login_blocking.blocks import RedisEntry
from login_blocking.names import BLOCK_STATE
from login_blocking.subjects import Subject
from tests.support.block_entries import block, tombstone
from tests.support.services import REPOSITORY, RedisServer

HOUR_MS = 3_600_000
_BEAT_EVERY_S = 1.0


def _script(name: str) -> str:
    return (REPOSITORY / "redis" / name).read_text()


class Detector:
    """Writes through the job's own writer, as the job's Redis user."""

    def __init__(self, server: RedisServer) -> None:
        self._url = server.url("detector")
        self._writer = RedisBlockWriter(self._url, _script("apply_block.lua"))
        self._heartbeat = RedisHeartbeat(self._url, _script("heartbeat.lua"), timeout_s=1.0)
        self._written: dict[tuple[Subject, str], RedisEntry] = {}
        self.reports = True
        """False: as if it were gone."""

    def block(
        self,
        subject: Subject,
        *,
        rule: str = "user-failures",
        since: int | None = None,
        for_ms: int | None = HOUR_MS,
        level: int = 1,
        reason: str = "5 failures within 1m",
    ) -> RedisEntry:
        """Blocks from `since` (now) on; `for_ms` None: for ever."""
        began = now_ms() if since is None else since
        until = None if for_ms is None else began + for_ms
        entry = block(began, until, level=level, reason=reason)
        self._written[subject, rule] = entry
        assert self._writer.apply(subject, {rule: entry})
        return entry

    def unblock(self, subject: Subject, rule: str = "user-failures") -> None:
        """Ends a block that this one has written."""
        entry = tombstone(self._written[subject, rule], now_ms())
        assert self._writer.apply(subject, {rule: entry})

    def beat(self, lag_ms: int = 40) -> None:
        self._heartbeat.beat(lag_ms)

    def declare_complete(self) -> None:
        """As after a rebuild, instead of 65 s later."""
        with redis.Redis.from_url(self._url, decode_responses=True) as client:
            run_id, rebuilt = server_run_id(client), _script("rebuilt.lua")
            generation = client.eval(rebuilt, 1, BLOCK_STATE, run_id, "")
            assert client.eval(rebuilt, 1, BLOCK_STATE, run_id, str(generation))

    def close(self) -> None:
        self._writer.close()
        self._heartbeat.close()


@contextmanager
def running_detector(server: RedisServer) -> Iterator[Detector]:
    """One that reports every second, on a list that is complete."""
    detector, ended = Detector(server), threading.Event()

    def report() -> None:
        while not ended.wait(_BEAT_EVERY_S):
            with contextlib.suppress(HeartbeatError):  # as the job does: the next one follows
                if detector.reports:
                    detector.beat()

    detector.beat()
    detector.declare_complete()
    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield detector
    finally:
        ended.set()
        thread.join()
        detector.close()


def now_ms() -> int:
    return time.time_ns() // 1_000_000
