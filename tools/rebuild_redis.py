"""Fills Redis at once from the block events in Kafka; the detector would do it within a minute.

Safe at any time: a write that is not newer than what Redis holds changes nothing. Of the local
stack, or `--from-environment` of any: DETECTOR_REDIS_URL, and DETECTOR_KAFKA_… of a user that may
read the events (docs/kafka-security.md).
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import redis
from kafka.errors import KafkaError
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from rich.progress import track

from flink_jobs.heartbeat import server_run_id
from flink_jobs.redis_writer import BlockWriteError, RedisBlockWriter
from login_api.kafka_clients import refusal
from login_blocking.blocks import redis_entries
from login_blocking.complaints import complaints
from login_blocking.kafka_access import KafkaAccess, KafkaSettings
from login_blocking.names import BLOCK_EVENTS, BLOCK_STATE
from login_blocking.rebuilding import from_events
from login_blocking.redis_urls import with_verified_name
from tools.replay import events_of
from tools.stack import layout, live
from tools.stack.layout import ROOT, NoStackError, Stack

_PREFIX: Final = "DETECTOR_"
_REDIS_TIMEOUT_S: Final = 5.0


class _Settings(KafkaSettings, BaseSettings):
    """Where blocks are read and written; the names are the detector's."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, hide_input_in_errors=True)

    redis_url: SecretStr


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
    parser.add_argument("--from-environment", action="store_true", help="not the local stack")
    given = parser.parse_args()
    began = time.monotonic()
    try:
        if given.from_environment:
            settings = _Settings()
            access = settings.kafka()
            rebuilt = rebuild_from(access, settings.redis_url.get_secret_value())
        else:
            stack = live.load(given.state_dir)
            access = KafkaAccess(stack.kafka_bootstrap)
            rebuilt = rebuild(stack)
    except ValidationError as error:
        sys.stderr.writelines(f"{line}\n" for line in complaints(error, _PREFIX))
        return 2
    except KafkaError as error:
        why = refusal(access, error, f"{_PREFIX}KAFKA_") or f"does not answer: {error}"
        sys.stderr.write(f"Kafka at {access.bootstrap}: {why}\n")
        return 1
    except NoStackError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except (BlockWriteError, redis.RedisError) as error:
        status = layout.make("status", given.state_dir)
        remedy = f"look at {_PREFIX}REDIS_URL" if given.from_environment else status
        sys.stderr.write(f"{error}; is it up? {remedy}\n")
        return 1
    seconds = time.monotonic() - began
    found = f"{rebuilt.subjects:,} blocked subjects, {rebuilt.changed:,} of them were missing"
    print(f"{found}; {seconds:.1f} s")
    if not rebuilt.complete:
        sys.stderr.write("Redis was emptied or restarted meanwhile: run it again\n")
        return 1
    return 0


def rebuild(stack: Stack) -> Rebuilt:
    """The local stack's; see rebuild_from."""
    return rebuild_from(KafkaAccess(stack.kafka_bootstrap), stack.redis_url("detector"))


def rebuild_from(access: KafkaAccess, url: str) -> Rebuilt:
    """Writes what the events hold; raises BlockWriteError, RedisError or KafkaError."""
    writer = RedisBlockWriter(url, _script("apply_block.lua"))
    client = redis.Redis.from_url(
        with_verified_name(url),
        decode_responses=True,
        socket_timeout=_REDIS_TIMEOUT_S,
        socket_connect_timeout=_REDIS_TIMEOUT_S,
    )
    try:
        rebuilt = client.register_script(_script("rebuilt.lua"))
        # Before the events are read: what is emptied after that must not be called complete.
        generation = rebuilt([BLOCK_STATE], [server_run_id(client), ""])
        now = time.time_ns() // 1_000_000
        states = from_events(events_of(access, BLOCK_EVENTS))
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
