"""Another policy for the live job under load, and back, by REST: what is lost, and the pause.

Every user that attacks fails five times over 24 s, so the fifth failure, and no other attempt, must
begin a block: a lost attempt would cost its user's block, one that is judged twice would begin it
early. At any moment hundreds of users are between their first failure and their fifth, and so
cross the threshold with counts of both jobs. Redis is asked all the while whether it still holds
every block that it ever showed.
"""

import argparse
import heapq
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count, pairwise, repeat
from pathlib import Path
from typing import Final

import redis
from kafka import KafkaProducer
from kafka.errors import KafkaError

from flink_control import live_job
from flink_control.rest import FlinkError, FlinkRest
from login_blocking.attempts import Attempt, Outcome
from login_blocking.events import EventKind
from login_blocking.events import decode as decode_event
from login_blocking.kafka_access import KafkaAccess
from login_blocking.names import BLOCK_EVENTS, LOGIN_ATTEMPTS, block_hash
from tools.stack import job, layout, live
from tools.stack.layout import NoStackError, Stack
from tools.topic_records import records_of

_GUESSES: Final = 5
_BETWEEN_GUESSES_S: Final = 6.0
_LAST_VERDICT_S: Final = 120.0
_LOOK_EVERY_S: Final = 0.1
_UNCHANGED: Final = "count: failures, threshold: 20"
_CHANGED: Final = "count: failures, threshold: 25"


@dataclass(slots=True)
class Load:
    """What was sent, and what became of it."""

    sent: int = 0
    fifths: dict[str, tuple[str, float]] = field(default_factory=dict)
    """User → id of its fifth failure, and the moment it was sent."""
    verdicts: list[tuple[str, float]] = field(default_factory=list)
    """User, and the moment its block was in Redis; in order."""
    lost: set[str] = field(default_factory=set)
    """Users whose block Redis showed, and then no more."""
    latest_s: float = 0.0
    """How long after its moment an attempt was sent at worst: what the load itself stood still."""


@dataclass(frozen=True, slots=True)
class Round:
    """One upgrade under load."""

    what: str
    command_s: float
    pause_s: float
    gap_s: float
    slowest_s: float


@dataclass(frozen=True, slots=True)
class Findings:
    """All rounds, and the sum of what they cost."""

    rounds: list[Round]
    sent: int
    blocks: int
    missing: int
    early: int
    lost: int
    latest_s: float

    @property
    def nothing_lost(self) -> bool:
        """Whether every attempt was judged once, and every block stayed."""
        return self.missing == self.early == self.lost == 0


def main() -> int:
    """Runs the command line; 1 if an attempt or a block was lost."""
    parser = argparse.ArgumentParser(prog="tools.bench_upgrade", description=__doc__)
    parser.add_argument("--rate", type=int, default=200, help="attempts a second")
    parser.add_argument("--rounds", type=int, default=3, help="each to the other policy and back")
    parser.add_argument(
        "--around", type=float, default=20.0, help="seconds of load before and after"
    )
    parser.add_argument("--state-dir", type=Path, default=layout.DEFAULT_STATE_DIR)
    arguments = parser.parse_args()
    print("                 command  stop to run  no verdict for  slowest block", flush=True)
    try:
        stack = live.load(arguments.state_dir)
        found = measure(stack, arguments.rate, arguments.rounds, arguments.around, _show)
    except (NoStackError, FlinkError, KafkaError, redis.RedisError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    print(
        f"{found.sent:,} attempts sent, {found.blocks:,} blocks due: {found.missing} missing, "
        f"{found.early} at another attempt than the fifth, {found.lost} lost from Redis meanwhile; "
        f"the load itself stood still for at most {found.latest_s:.1f} s"
    )
    return 0 if found.nothing_lost else 1


def _show(one: Round) -> None:
    print(
        f"{one.what:15} {one.command_s:7.1f} s {one.pause_s:10.1f} s {one.gap_s:13.1f} s "
        f"{one.slowest_s:12.1f} s",
        flush=True,
    )


def measure(
    stack: Stack, rate: int, rounds: int, around_s: float, show: Callable[[Round], None]
) -> Findings:
    """Upgrades under load; the job ends with the policy it had."""
    flink = FlinkRest(stack.flink_url)
    own = stack.policy_file.read_text(encoding="utf-8")
    other = own.replace(_UNCHANGED, _CHANGED)
    if other == own:
        raise FlinkError(f"the policy in force has no rule with {_UNCHANGED!r} to change")
    run = f"upgrade-{uuid.uuid4().hex[:8]}"
    load, ending = Load(), threading.Event()
    threads = ThreadPoolExecutor(3)
    sender = threads.submit(_send, stack, run, rate, load, ending)
    watchers = [
        threads.submit(watch, stack, run, load, sender)
        for watch in (_watch_verdicts, _watch_blocks)
    ]
    measured = []
    try:
        time.sleep(_BETWEEN_GUESSES_S * (_GUESSES - 1))  # until the rate is reached
        for _ in range(rounds):
            for what, policy in (("other policy", other), ("and back", own)):
                measured.append(_one(flink, what, policy, load, around_s))
                show(measured[-1])
    finally:
        ending.set()
        threads.shutdown()
        (running,) = flink.alive(job.JOB_NAME) or (None,)
        if running and flink.parameters(running)[live_job.POLICY_PARAMETER] != own:
            job.upgrade(stack, own)
    for ended in (sender, *watchers):
        ended.result()  # one that failed has seen nothing, and so nothing that was lost
    begun = _blocks_begun(stack, run)
    due = {user: attempt for user, (attempt, _) in load.fifths.items()}
    return Findings(
        rounds=measured,
        sent=load.sent,
        blocks=len(due),
        missing=len(due.keys() - begun.keys()),
        early=sum(1 for user, attempts in begun.items() if attempts != {due.get(user)}),
        lost=len(load.lost),
        latest_s=load.latest_s,
    )


def _one(flink: FlinkRest, what: str, policy: str, load: Load, around_s: float) -> Round:
    time.sleep(around_s)
    began = time.perf_counter()
    upgraded = live_job.upgrade(flink, job.JAR, policy_text=policy, say=lambda _: None)
    ended = time.perf_counter()
    time.sleep(around_s)
    moments = [at for _, at in load.verdicts if began - 1.0 <= at]
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    slowest = max(
        (at - load.fifths[user][1] for user, at in load.verdicts if at >= began), default=0.0
    )
    return Round(what, ended - began, upgraded.pause_s, max(gaps, default=0.0), slowest)


def _send(stack: Stack, run: str, rate: int, load: Load, ending: threading.Event) -> None:
    """A steady rate of failures; after `ending` only what completes the users that have begun."""
    producer = KafkaProducer(bootstrap_servers=stack.kafka_bootstrap, acks="all", linger_ms=5)
    schedule = heapq.merge(
        *(zip(_due(rate, guess), count(), repeat(guess)) for guess in range(_GUESSES))
    )
    began, users, complete = time.perf_counter(), 0, False
    try:
        for due, number, guess in schedule:
            wait = began + due - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            load.latest_s = max(load.latest_s, -wait)
            complete = complete or ending.is_set()
            if guess == 0 and not complete:
                users = number + 1
            if number < users:
                _fail(producer, run, number, guess, load)
            elif guess == _GUESSES - 1:
                break
        producer.flush(timeout=60)
    finally:
        producer.close(timeout=10)


def _due(rate: int, guess: int) -> Iterator[float]:
    """When the first, second, … user makes this guess: seconds after the begin."""
    return (number * _GUESSES / rate + guess * _BETWEEN_GUESSES_S for number in count())


def _fail(producer: KafkaProducer, run: str, number: int, guess: int, load: Load) -> None:
    user, ip = f"{run}-{number}", f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    ts = time.time_ns() // 1_000_000
    attempt = Attempt(str(uuid.uuid4()), ts, user, ip, Outcome.FAILURE)
    if guess == _GUESSES - 1:
        load.fifths[user] = (attempt.id, time.perf_counter())
    producer.send(LOGIN_ATTEMPTS, key=attempt.key(), value=attempt.encode(), timestamp_ms=ts)
    load.sent += 1


def _watch_verdicts(stack: Stack, run: str, load: Load, sender: Future[None]) -> None:
    """Redis' own notifications of blocks that are written, until the last that is due."""
    prefix, seen, silent_since = block_hash("user", run), set[str](), time.monotonic()
    with redis.Redis.from_url(stack.redis_url("admin"), decode_responses=True) as admin:
        admin.config_set("notify-keyspace-events", "Eh")
        notifications = admin.pubsub(ignore_subscribe_messages=True)
        notifications.psubscribe("__keyevent@0__:hset")
        try:
            while not sender.done() or (
                len(seen) < len(load.fifths) and time.monotonic() - silent_since < _LAST_VERDICT_S
            ):
                message = notifications.get_message(timeout=0.1)
                key = "" if message is None else str(message["data"])
                user = f"{run}{key.removeprefix(prefix)}"
                if key.startswith(prefix) and user not in seen:
                    seen.add(user)
                    silent_since = time.monotonic()
                    load.verdicts.append((user, time.perf_counter()))
        finally:
            notifications.close()
            admin.config_set("notify-keyspace-events", "")


def _watch_blocks(stack: Stack, run: str, load: Load, sender: Future[None]) -> None:
    """Whether a block that was there is there still; it lasts longer than all rounds."""
    ever: set[str] = set()
    with redis.Redis.from_url(stack.redis_url("admin"), decode_responses=True) as admin:
        while not sender.done():
            time.sleep(_LOOK_EVERY_S)
            now = {user for user in admin.zrange("blocked:users", 0, -1) if user.startswith(run)}
            load.lost |= ever - now
            ever |= now


def _blocks_begun(stack: Stack, run: str) -> dict[str, set[str]]:
    """User → the attempts at which a block of it began, by the audit trail."""
    begun: dict[str, set[str]] = {}
    for record in records_of(KafkaAccess(stack.kafka_bootstrap), BLOCK_EVENTS):
        event = decode_event(record.value)
        if event.event is EventKind.BLOCKED and event.subject.startswith(run):
            begun.setdefault(event.subject, set()).add(str(event.attempt_id))
    return begun


if __name__ == "__main__":
    sys.exit(main())
