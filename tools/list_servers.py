"""A Redis and a Blocked API of their own, filled with blocks, for benchmarks."""

import hashlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil
import redis
from rich.progress import track

from login_blocking.blocks import RedisEntry
from login_blocking.names import BLOCK_CHANGES, BLOCK_STATE, block_hash, blocked_set, guard
from login_blocking.subjects import Subject
from tools import http_load
from tools.stack import layout, prepare
from tools.stack.layout import ROOT, Ports, Stack
from tools.stack.parts import Part, parts

SCRIPT: Final = (ROOT / "redis" / "apply_block.lua").read_text(encoding="utf-8")
_SHA: Final = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
_AT_ONCE: Final = 500
_HOUR_MS: Final = 3_600_000


@contextmanager
def redis_server() -> Iterator[Stack]:
    """A stack of which only Redis runs, in a folder that goes away."""
    with tempfile.TemporaryDirectory(prefix="bench-list-") as folder:
        policy = ROOT / "policies" / "default.yaml"
        stack = layout.create(Path(folder), Ports.free(), policy)
        (stack.data / "redis").mkdir(parents=True)
        prepare.write_redis_users(stack)
        part = _part(stack, "redis")
        process = subprocess.Popen(part.command, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 30
            while not _is_ready(part):
                if time.monotonic() > deadline:
                    raise TimeoutError("Redis does not start")
                time.sleep(0.05)
            yield stack
        finally:
            process.terminate()
            process.wait()


@contextmanager
def blocked_api(
    stack: Stack, settings: Mapping[str, str], port: int | None = None
) -> Iterator[psutil.Process]:
    """A Blocked API of that stack, ready; no bound on how often lists are asked for."""
    port = port or stack.ports.blocked_api
    part = _part(stack, "blocked-api")
    environment = {
        **(part.environment or os.environ),
        "BLOCKED_API_LISTS_A_MINUTE": "0",
        "BLOCKED_API_PORT": str(port),
        **settings,
    }
    with http_load.running(part.command, environment, port) as server:
        yield server


def report(stack: Stack) -> None:
    """What a detector's heartbeats would leave, for a day to come."""
    now = time.time_ns() // 1_000_000
    with redis.Redis.from_url(stack.redis_url("admin")) as admin:
        admin.hsetnx(BLOCK_STATE, "generation", str(now))
        admin.hset(BLOCK_STATE, mapping={"complete_at": 1, "heartbeat": now + 24 * _HOUR_MS})


def fill(stack: Stack, count: int) -> None:
    """Empties it and blocks `count` users, by the detector's own script and user."""
    with redis.Redis.from_url(stack.redis_url("admin")) as admin:
        admin.flushall()
    report(stack)
    now = time.time_ns() // 1_000_000
    names = [f"user{number:07}" for number in range(count)]
    chunks = [names[n : n + _AT_ONCE] for n in range(0, count, _AT_ONCE)]
    with redis.Redis.from_url(stack.redis_url("detector")) as detector:
        for chunk in track(chunks, f"{count:,} blocks", transient=True):
            apply(detector, [(Subject("user", name), hour_from(now)) for name in chunk])


def hour_from(now: int) -> RedisEntry:
    """A block of an hour."""
    until = now + _HOUR_MS
    return RedisEntry(2 * now, now, until, 1, "5 failures within 1m", "a", False, until)


def apply(detector: redis.Redis, changes: Iterable[tuple[Subject, RedisEntry]]) -> None:
    """Many writes of the detector in one round trip."""
    detector.script_load(SCRIPT)
    pipeline = detector.pipeline(transaction=False)
    for subject, entry in changes:
        keys = [blocked_set(subject.type), block_hash(*subject), guard(*subject)]
        keys += [BLOCK_CHANGES, BLOCK_STATE]
        pipeline.evalsha(_SHA, len(keys), *keys, subject.key, "user-failures", entry.to_json())
    pipeline.execute()


def _part(stack: Stack, name: str) -> Part:
    return next(part for part in parts(stack) if part.name == name)


def _is_ready(part: Part) -> bool:
    try:
        return part.ready()
    except redis.RedisError:
        return False
