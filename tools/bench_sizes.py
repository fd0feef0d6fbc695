"""Measures bytes: of Redis a block, a guard, a place; of Kafka an attempt; of Postgres an account.

And the processor time that Redis takes to admit an attempt.

Redis is a server of its own, written by the real scripts and by the users who may. Attempts are
published by the Login API's own producer into a topic of its own, on the running stack's broker.
"""

import argparse
import os
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import psycopg2
import redis

from login_api.guard import RedisGuard, Request
from login_api.places import Places
from login_api.record_publisher import Fate, KafkaRecordPublisher
from login_api.records import Record
from login_blocking.attempts import Attempt, Outcome
from login_blocking.blocks import RedisEntry
from login_blocking.kafka_access import KafkaAccess
from login_blocking.policy_file import parse_policy
from login_blocking.subjects import Subject
from tools import list_servers
from tools.list_servers import redis_server
from tools.stack import layout, live, topics
from tools.stack.layout import ROOT, NoStackError, Stack

_AT_ONCE: Final = 500
_HOUR_MS: Final = 3_600_000
_HASH_LENGTH: Final = 97
"""Of argon2's text with the shipped parameters."""


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="tools.bench_sizes", description=__doc__)
    parser.add_argument("--blocks", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--users", type=int, default=5_000, help="of the guard and of places")
    parser.add_argument("--attempts", type=int, default=2_000, help="published in each way")
    parser.add_argument("--accounts", type=int, default=50_000)
    parser.add_argument("--state-dir", type=Path, default=layout.DEFAULT_STATE_DIR)
    arguments = parser.parse_args()
    with redis_server() as stack:
        print(f"{'bytes of Redis':38} {'how many':>9} {'each':>6}")
        for count in arguments.blocks:
            _print("live block of a user", count, _used(stack, _blocks(stack, count)))
        for failures in (1, 5):
            name = f"guarded user, {failures} failed, and address"
            used = _used(stack, _guarded(stack, arguments.users, failures))
            _print(name, arguments.users, used)
        _print("user with one known place", arguments.users, _used(stack, _known(stack, arguments)))
        microseconds = _admitting(stack, arguments.users)
        print(f"\n{microseconds:.0f} us of Redis' one core for an attempt: admitted and settled")
    try:
        running = live.load(arguments.state_dir)
    except NoStackError as error:
        sys.stderr.write(f"Kafka is not measured: {error}\n")
        return 1
    print(f"\n{'bytes of Kafka, one replica':38} {'how many':>9} {'each':>6}")
    for together in (1, 10, 100):
        size = _published(running, arguments.attempts, together)
        _print(f"attempt, {together} in a batch", arguments.attempts, size)
    print(f"\n{'bytes of Postgres':38} {'how many':>9} {'each':>6}")
    _print("account with its indexes", arguments.accounts, _accounts(running, arguments.accounts))
    return 0


def _print(what: str, count: int, size: int) -> None:
    print(f"{what:38} {count:9,} {size / count:6.0f}", flush=True)


def _used(stack: Stack, write: Callable[[], None]) -> int:
    """What writing adds to the memory of an empty Redis."""
    with redis.Redis.from_url(stack.redis_url("admin")) as admin:
        admin.execute_command("FLUSHALL", "SYNC")  # else it frees what is measured behind our back
        list_servers.report(stack)
        before = _settled(admin)
        write()
        return _settled(admin) - before


def _settled(admin: redis.Redis) -> int:
    """The memory in use, but for buffers of clients and of the AOF, when all is freed that will."""
    while True:
        info = cast("dict[str, Any]", admin.info("memory"))
        if not info["lazyfree_pending_objects"]:
            buffers = info["mem_clients_normal"] + info["mem_aof_buffer"]
            return int(info["used_memory"] - buffers)
        time.sleep(0.05)


def _blocks(stack: Stack, count: int) -> Callable[[], None]:
    """As the detector writes them, then without the changes: those are bounded, see redis.conf."""

    def write() -> None:
        now = time.time_ns() // 1_000_000
        names = [_name() for _ in range(count)]
        with redis.Redis.from_url(stack.redis_url("detector")) as detector:
            for n in range(0, count, _AT_ONCE):
                chunk = [(Subject("user", name), _entry(now)) for name in names[n : n + _AT_ONCE]]
                list_servers.apply(detector, chunk)
        with redis.Redis.from_url(stack.redis_url("admin")) as admin:
            admin.delete("blocked:changes")

    return write


def _admitting(stack: Stack, attempts: int) -> float:
    guard, places = _guard(stack), Places(b"of a benchmark")
    with redis.Redis.from_url(stack.redis_url("admin")) as admin:
        before = _cpu_s(admin)
        for _ in range(attempts):
            user, address = _name(), _address()
            request = Request(str(uuid.uuid4()), user, address, places.name(user, address))
            guard.admit(request)
            guard.succeed(request, known=False)
        return (_cpu_s(admin) - before) / attempts * 1e6


def _cpu_s(admin: redis.Redis) -> float:
    info = cast("dict[str, Any]", admin.info("cpu"))
    return float(info["used_cpu_user_main_thread"]) + float(info["used_cpu_sys_main_thread"])


def _accounts(stack: Stack, count: int) -> int:
    """What that many rows take, in a table of the same make that goes with the connection."""
    connection = psycopg2.connect(stack.database_url, connect_timeout=10)
    try:
        with connection.cursor() as cursor:
            cursor.execute("CREATE TEMPORARY TABLE made (LIKE accounts INCLUDING ALL)")
            cursor.execute(
                "INSERT INTO made (user_key, password_hash) "
                "SELECT substr(md5(n::text), 1, 12), repeat('x', %s) FROM generate_series(1, %s) n",
                (_HASH_LENGTH, count),
            )
            cursor.execute("SELECT pg_total_relation_size('made')")
            (size,) = cast("tuple[int]", cursor.fetchone())
    finally:
        connection.close()
    return size


def _name() -> str:
    return uuid.uuid4().hex[:12]


def _address() -> str:
    return ".".join(map(str, os.urandom(4)))


def _entry(now: int) -> RedisEntry:
    until = now + _HOUR_MS
    reason = "5 failures within 1m from unknown places"
    return RedisEntry(2 * now, now, until, 1, reason, str(uuid.uuid4()), False, until)


def _guarded(stack: Stack, users: int, failures: int) -> Callable[[], None]:
    """Attempts that failed and so keep their places; each user has an address of its own."""

    def write() -> None:
        guard = _guard(stack)
        for _ in range(users):
            user, address = _name(), _address()
            for _ in range(failures):
                guard.admit(Request(str(uuid.uuid4()), user, address, ""))

    return write


def _known(stack: Stack, arguments: argparse.Namespace) -> Callable[[], None]:
    def write() -> None:
        guard, places = _guard(stack), Places(b"of a benchmark")
        for _ in range(arguments.users):
            user, address = _name(), _address()
            request = Request(str(uuid.uuid4()), user, address, places.name(user, address))
            guard.succeed(request, known=False)

    return write


def _guard(stack: Stack) -> RedisGuard:
    policy = parse_policy((ROOT / "policies" / "default.yaml").read_text(encoding="utf-8"))
    return RedisGuard(stack.redis_url("login_api"), 5_000, lambda: policy)


def _published(stack: Stack, attempts: int, together: int) -> int:
    """What a topic's log takes on disk."""
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    topics.create_topics(stack.kafka_bootstrap, {topic: {}}, partitions=1)
    publisher = KafkaRecordPublisher(KafkaAccess(stack.kafka_bootstrap), 10_000)
    try:
        for n in range(0, attempts, together):
            records = [_record(topic) for _ in range(min(together, attempts - n))]
            fates = publisher.publish_all(records)
            if set(fates) != {Fate.PUBLISHED}:
                raise RuntimeError(f"Kafka did not take them: {fates[0]}")
    finally:
        publisher.close()
        size = sum(file.stat().st_size for file in _log_files(stack, topic))
        topics.delete_topics(stack.kafka_bootstrap, [topic])
    return size


def _log_files(stack: Stack, topic: str) -> list[Path]:
    return list((stack.data / "kafka" / "log" / f"{topic}-0").glob("*.log"))


def _record(topic: str) -> Record:
    user = _name()
    now = time.time_ns() // 1_000_000
    attempt = Attempt(str(uuid.uuid4()), now, user, _address(), Outcome.FAILURE)
    return Record(topic, user.encode(), attempt.encode(), now)


if __name__ == "__main__":
    sys.exit(main())
