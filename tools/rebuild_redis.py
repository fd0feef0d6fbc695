"""Fills Redis at once from the block events in Kafka; the detector would do it within a minute.

Safe at any time: a write that is not newer than what Redis holds changes nothing.
"""

import argparse
import sys
import time
from pathlib import Path

from rich.progress import track

from flink_jobs.redis_writer import BlockWriteError, RedisBlockWriter
from login_blocking.blocks import redis_entries
from login_blocking.names import BLOCK_EVENTS
from login_blocking.rebuilding import from_events
from tools.replay import read_events
from tools.stack import layout
from tools.stack.layout import ROOT, NoStackError, Stack


def main() -> int:
    """Runs the command line; its exit status."""
    parser = argparse.ArgumentParser(prog="tools.rebuild_redis", description=__doc__)
    parser.add_argument("--state-dir", type=Path, default=layout.DEFAULT_STATE_DIR)
    try:
        stack = layout.load(parser.parse_args().state_dir)
        began = time.monotonic()
        subjects, changed = rebuild(stack)
    except (NoStackError, BlockWriteError) as error:
        sys.stderr.write(f"{error}; is the stack up? make status\n")
        return 1
    seconds = time.monotonic() - began
    print(f"{subjects:,} blocked subjects, {changed:,} of them were missing; {seconds:.1f} s")
    return 0


def rebuild(stack: Stack) -> tuple[int, int]:
    """How many subjects have something to be kept, and of how many Redis had not known it."""
    now = time.time_ns() // 1_000_000
    states = from_events(read_events(stack, BLOCK_EVENTS))
    entries = {subject: redis_entries(state, now) for subject, state in states.items()}
    kept = {subject: found for subject, found in entries.items() if found}
    script = (ROOT / "redis" / "apply_block.lua").read_text(encoding="utf-8")
    writer = RedisBlockWriter(stack.redis_url("detector"), script)
    try:
        changed = sum(
            writer.apply(subject, found) for subject, found in track(kept.items(), "writing")
        )
    finally:
        writer.close()
    return len(kept), changed


if __name__ == "__main__":
    sys.exit(main())
