"""The client library under a stream of changes: does its copy stay the server's list, and how soon.

Starts a Redis and a Blocked API of its own on free ports, fills them with blocks, then lets one
process write changes as the detector does: new blocks, other ends, unblocks, and blocks that end by
themselves. Now and then it pauses, and the copy is compared with `GET /blocked` and `/blocked/ips`.
All of it shares the machine's cores.
"""

import argparse
import multiprocessing
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from statistics import median, quantiles
from typing import Final, NamedTuple, Self

import psutil
import redis
import requests

from blocked_client import BlockedClient
from flink_jobs.redis_writer import RedisBlockWriter
from login_blocking.blocks import TOMBSTONE_KEPT_MS, RedisEntry
from login_blocking.subjects import Subject
from tools import list_servers

_READY_WITHIN_S: Final = 60.0
_EQUAL_WITHIN_S: Final = 30.0
_BATCH: Final = 1_000
_BATCH_EVERY_S: Final = 0.05
_QUIET_BATCHES: Final = 500
_NAMES_ASKED: Final = 10_000
_PROBE_EVERY: Final = 20
"""One change in so many is a new block that the reader waits for."""
_PROBE_POLL_S: Final = 0.0002
_LONG_MS: Final = 24 * 3_600_000
_BRIEF_MS: Final = 2_000
_RULE: Final = "user-failures"
_AT_ONCE: Final = 500
_TARGET_NS: Final = 2_000


def main() -> int:
    """Runs the command line; 1 if the copy differed."""
    parser = argparse.ArgumentParser(prog="tools.bench_client", description=__doc__)
    parser.add_argument("--blocks", type=int, default=100_000, help="at the start")
    parser.add_argument("--rate", type=int, default=1_000, help="changes a second")
    parser.add_argument("--seconds", type=int, default=30, help="of changes, in all")
    parser.add_argument("--checkpoints", type=int, default=3, help="pauses for a comparison")
    arguments = parser.parse_args()
    with list_servers.redis_server() as stack:
        list_servers.report(stack)
        with (
            list_servers.blocked_api(stack, {}),
            _writer(stack.redis_url("detector")) as writer,
        ):
            return _bench(stack.blocked_url, writer, arguments)


def _bench(url: str, writer: Connection, arguments: argparse.Namespace) -> int:
    for filled in _filling(writer, arguments.blocks):
        _progress(f"{filled:,} of {arguments.blocks:,} blocks written")
    _progress("")
    before_bytes = psutil.Process().memory_info().rss
    began_s = time.monotonic()
    with BlockedClient(url) as client:
        if not client.wait_until_ready(_READY_WITHIN_S) or not client.status.users:
            print(f"no list: {client.status}")
            return 1
        print(f"first list of {client.status.users:,} users, {client.status.ips:,} addresses: "
              f"{1_000 * (time.monotonic() - began_s):,.0f} ms", flush=True)  # fmt: skip
        _print_memory("after it", before_bytes)
        reader = _Reader(client, arguments.blocks)
        _print_batches("nothing else going on", reader.ask(_QUIET_BATCHES))
        with reader:
            equal = _follow(url, client, writer, reader, arguments)
        _print_memory("in the end", before_bytes)
        cold_ns = _cold_ns(client)
        status = client.status
    _print_lags(reader)
    _print_batches("while changes come in", reader.batches)
    print(f"is_blocked, names never seen: {cold_ns:,.0f} ns")
    print(f"full lists {status.full_lists}, connections {status.connections}, "
          f"malformed {status.malformed}, events {status.changes:,}")  # fmt: skip
    return 0 if equal else 1


def _follow(
    url: str,
    client: BlockedClient,
    writer: Connection,
    reader: "_Reader",
    arguments: argparse.Namespace,
) -> bool:
    equal = True
    print("checkpoint  changes/s   users  addresses  reached ms  equal", flush=True)
    for number in range(1, arguments.checkpoints + 1):
        seconds = arguments.seconds / arguments.checkpoints
        writer.send(("change", seconds, arguments.rate))
        until_s = time.monotonic() + seconds
        while not writer.poll(1):
            _progress(f"{max(0.0, until_s - time.monotonic()):3.0f} s to the next checkpoint")
        written, took_s, sent_s = writer.recv()
        paused_s = time.monotonic()
        reader.sent_s += sent_s
        same = _becomes_equal(url, client)
        equal = equal and same
        users, ips = len(client.blocked("user")), len(client.blocked("ip"))
        _progress("")
        print(f"{number:10} {written / took_s:10,.0f} {users:7,} {ips:10,} "
              f"{1_000 * (time.monotonic() - paused_s):11,.0f}  {'yes' if same else 'NO'}",
              flush=True)  # fmt: skip
    return equal


def _becomes_equal(url: str, client: BlockedClient) -> bool:
    """Whether copy and server come to show the same (ends may fall in between two answers)."""
    deadline_s = time.monotonic() + _EQUAL_WITHIN_S
    while time.monotonic() < deadline_s:
        users = requests.get(f"{url}/blocked", timeout=30).json()["users-blocked"]
        ips = requests.get(f"{url}/blocked/ips", timeout=30).json()["ips-blocked"]
        if (client.blocked("user"), client.blocked("ip")) == (users, ips):
            return True
        time.sleep(0.1)
    return False


class _Reader:
    """A thread that waits for probes, and one that asks as an application would."""

    def __init__(self, client: BlockedClient, blocks: int) -> None:
        self.batches: list[_Batch] = []
        self.seen_s: list[float] = []
        self.sent_s: list[float] = []
        self._client = client
        self._names = [_name(number).title() for number in range(0, 2 * blocks, 2)][:_NAMES_ASKED]
        self._chance = random.Random(1)  # noqa: S311 — not a secret
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=it) for it in (self._wait_for_probes, self._ask_on)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _wait_for_probes(self) -> None:
        while not self._ending.is_set():
            if self._client.is_blocked(_probe(len(self.seen_s))):
                self.seen_s.append(time.monotonic())
            else:
                time.sleep(_PROBE_POLL_S)

    def _ask_on(self) -> None:
        while not self._ending.wait(_BATCH_EVERY_S):
            self.batches += self.ask(1)

    def ask(self, batches: int) -> "list[_Batch]":
        """What questions about names cost that were asked about before."""
        is_blocked = self._client.is_blocked
        if not self.batches:
            for name in self._names:
                is_blocked(name)
        measured = []
        for _ in range(batches):
            names = self._chance.choices(self._names, k=_BATCH)
            began_ns, began_cpu_ns = time.perf_counter_ns(), time.thread_time_ns()
            for name in names:
                is_blocked(name)
            cpu_ns = time.thread_time_ns() - began_cpu_ns
            measured.append(_Batch((time.perf_counter_ns() - began_ns) / _BATCH, cpu_ns / _BATCH))
        return measured


class _Batch(NamedTuple):
    """For each question: time on the clock, which waits of all kinds lengthen, and of the CPU."""

    clock_ns: float
    cpu_ns: float


def _cold_ns(client: BlockedClient) -> float:
    names = [f"Never-Seen-{number}" for number in range(10_000)]
    began_ns = time.perf_counter_ns()
    for name in names:
        client.is_blocked(name)
    return (time.perf_counter_ns() - began_ns) / len(names)


def _print_lags(reader: _Reader) -> None:
    pairs = zip(reader.sent_s, reader.seen_s, strict=False)
    lags_ms = [1_000 * (seen_s - sent_s) for sent_s, seen_s in pairs]
    cuts = quantiles(lags_ms, n=100)
    print(f"lag from before the write to Redis until is_blocked says so: p50 {cuts[49]:.1f} ms, "
          f"p99 {cuts[98]:.1f} ms, longest {max(lags_ms):.1f} ms ({len(lags_ms):,} probes)",
          flush=True)  # fmt: skip
    if len(reader.seen_s) != len(reader.sent_s):
        print(f"probes written {len(reader.sent_s):,}, seen {len(reader.seen_s):,}")


def _print_batches(when: str, batches: list[_Batch]) -> None:
    told = [
        f"median {median(times):,.0f} ns, p99 {quantiles(times, n=100)[98]:,.0f} ns"
        for times in zip(*batches, strict=True)
    ]
    print(f"is_blocked, {when}: {told[0]} on the clock; {told[1]} of CPU "
          f"(target {_TARGET_NS:,}; batches of {_BATCH:,})", flush=True)  # fmt: skip


def _print_memory(when: str, before_bytes: int) -> None:
    grown = psutil.Process().memory_info().rss - before_bytes
    print(f"memory {when}: {grown / 1e6:,.0f} MB more than before the client", flush=True)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


def _name(number: int) -> str:
    return f"user-{number:07}"


def _probe(number: int) -> str:
    return f"probe-{number:07}"


# The writer's process: it shares no interpreter lock with the client.


def _filling(writer: Connection, blocks: int) -> Iterator[int]:
    writer.send(("fill", blocks))
    filled = 0
    while filled < blocks:
        filled = writer.recv()
        yield filled


@contextmanager
def _writer(redis_url: str) -> Iterator[Connection]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_write, args=(redis_url, there))
    process.start()
    there.close()
    try:
        yield here
    finally:
        here.close()
        process.join(10)
        if process.is_alive():
            process.terminate()
            process.join()


def _write(redis_url: str, orders: Connection) -> None:
    """Does what it is told until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    writer = RedisBlockWriter(redis_url, list_servers.SCRIPT, timeout_s=5)
    changes = _Changes()
    while True:
        try:
            order = orders.recv()
        except EOFError:
            writer.close()
            return
        if order[0] == "fill":
            _fill(redis_url, changes, order[1], orders)
        else:
            orders.send(_change_for(writer, changes, *order[1:]))


def _fill(redis_url: str, changes: "_Changes", blocks: int, told: Connection) -> None:
    with redis.Redis.from_url(redis_url) as detector:
        for start in range(0, blocks, _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, blocks))
            list_servers.apply(detector, [changes.first(number) for number in numbers])
            told.send(numbers.stop)


def _change_for(
    writer: RedisBlockWriter, changes: "_Changes", seconds: float, rate: int
) -> tuple[int, float, list[float]]:
    """Changes written, seconds that it took, and when each probe was."""
    sent_s: list[float] = []
    began_s = time.monotonic()
    wanted = int(seconds * rate)
    for number in range(wanted):
        due_s = began_s + number / rate
        left_s = due_s - time.monotonic()
        if left_s > 0:
            time.sleep(left_s)
        if number % _PROBE_EVERY == 0:
            change = changes.probe()
            sent_s.append(time.monotonic())
        else:
            change = changes.next()
        subject, entry = change
        writer.apply(subject, {_RULE: entry})
    return wanted, time.monotonic() - began_s, sent_s


class _Changes:
    """Changes as the detector decides them: a mixture that lets the list grow but slowly."""

    def __init__(self) -> None:
        self._chance = random.Random(7)  # noqa: S311 — not a secret
        self._standing: dict[Subject, RedisEntry] = {}
        self._subjects: list[Subject] = []
        self._names = 0
        self._probes = 0

    def first(self, number: int) -> tuple[Subject, RedisEntry]:
        """One of the blocks at the start: a tenth are addresses."""
        if number % 10 == 0:
            self._names += 1
            return self._block(Subject("ip", _address(number)), _LONG_MS)
        return self._block(self._new_user(), _LONG_MS)

    def probe(self) -> tuple[Subject, RedisEntry]:
        """A new block whose name the reader knows beforehand."""
        subject = Subject("user", _probe(self._probes))
        self._probes += 1
        return self._block(subject, _LONG_MS, lasting=False)

    def next(self) -> tuple[Subject, RedisEntry]:
        """A new block, an unblock, another end, or a block that ends soon."""
        what = self._chance.random()
        if what < 0.35:  # noqa: PLR2004 — shares of the mixture
            return self._block(self._new_user(), _LONG_MS)
        if what < 0.5:  # noqa: PLR2004
            return self._block(self._new_user(), _BRIEF_MS, lasting=False)
        place = self._chance.randrange(len(self._subjects))
        subject = self._subjects[place]
        if what < 0.6:  # noqa: PLR2004
            return self._block(subject, 2 * _LONG_MS)
        self._subjects[place] = self._subjects[-1]
        self._subjects.pop()
        return self._unblock(subject)

    def _new_user(self) -> Subject:
        self._names += 1
        return Subject("user", _name(self._names))

    def _block(
        self, subject: Subject, for_ms: int, *, lasting: bool = True
    ) -> tuple[Subject, RedisEntry]:
        now = time.time_ns() // 1_000_000
        until = now + for_ms
        entry = RedisEntry(
            version=2 * now, since=now, until=until, level=1, reason="5 failures within 1m",
            attempt_id=None, unblocked=False, keep_until=until,
        )  # fmt: skip
        if lasting:
            if subject not in self._standing:
                self._subjects.append(subject)
            self._standing[subject] = entry
        return subject, entry

    def _unblock(self, subject: Subject) -> tuple[Subject, RedisEntry]:
        now = time.time_ns() // 1_000_000
        entry = replace(
            self._standing.pop(subject), version=2 * now + 1, until=now, unblocked=True,
            keep_until=now + TOMBSTONE_KEPT_MS,
        )  # fmt: skip
        return subject, entry


def _address(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


if __name__ == "__main__":
    sys.exit(main())
