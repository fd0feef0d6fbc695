"""Fills Redis at once from the block events in Kafka; the detector would do it within a minute.

Safe at any time: a write that is not newer than what Redis holds changes nothing.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import redis
from rich.progress import track

from flink_jobs.heartbeat import server_run_id
from flink_jobs.redis_writer import BlockWriteError, RedisBlockWriter
from login_blocking.blocks import redis_entries
from login_blocking.names import BLOCK_EVENTS, BLOCK_STATE
from login_blocking.rebuilding import from_events
from tools.replay import read_events
from tools.stack import layout
from tools.stack.layout import ROOT, NoStackError, Stack

_REDIS_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuilding did."""

    subjects: int
    """How many have something to be kept."""
    changed: int
    """Of how many Redis had not known it."""
    complete: bool
    """False: Redis was emptied or restarted meanwhile, what was written may be lost again."""


def main() -> int:
    """Runs the command line; its exit status."""
    parser = argparse.ArgumentParser(prog="tools.rebuild_redis", description=__doc__)
    parser.add_argument("--state-dir", type=Path, default=layout.DEFAULT_STATE_DIR)
    try:
        stack = layout.load(parser.parse_args().state_dir)
        began = time.monotonic()
        rebuilt = rebuild(stack)
    except (NoStackError, BlockWriteError, redis.RedisError) as error:
        sys.stderr.write(f"{error}; is the stack up? make status\n")
        return 1
    seconds = time.monotonic() - began
    found = f"{rebuilt.subjects:,} blocked subjects, {rebuilt.changed:,} of them were missing"
    print(f"{found}; {seconds:.1f} s")
    if not rebuilt.complete:
        sys.stderr.write("Redis was emptied or restarted meanwhile: run it again\n")
        return 1
    return 0


def rebuild(stack: Stack) -> Rebuilt:
    """Writes what the events hold; raises BlockWriteError or RedisError."""
    url = stack.redis_url("detector")
    writer = RedisBlockWriter(url, _script("apply_block.lua"))
    client = redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=_REDIS_TIMEOUT_S,
        socket_connect_timeout=_REDIS_TIMEOUT_S,
    )
    try:
        rebuilt = client.register_script(_script("rebuilt.lua"))
        # Before the events are read: what is emptied after that must not be called complete.
        generation = rebuilt([BLOCK_STATE], [server_run_id(client), ""])
        now = time.time_ns() // 1_000_000
        states = from_events(read_events(stack, BLOCK_EVENTS))
        entries = {subject: redis_entries(state, now) for subject, state in states.items()}
        kept = {subject: found for subject, found in entries.items() if found}
        changed = sum(
            writer.apply(subject, found) for subject, found in track(kept.items(), "writing")
        )
        complete = rebuilt([BLOCK_STATE], [server_run_id(client), generation]) is not None
    finally:
        writer.close()
        client.close()
    return Rebuilt(len(kept), changed, complete)


def _script(name: str) -> str:
    return (ROOT / "redis" / name).read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
