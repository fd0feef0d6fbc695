"""Logins while Kafka stands still: how long they take, and whether every attempt arrives once.

Each login is of a user of its own, from an address of its own, except for a few users who try
again and again, whose order is looked at.
"""

import argparse
import json
import secrets
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import quantiles
from typing import Final

import psutil
import requests
from kafka import KafkaConsumer, TopicPartition
from requests.adapters import HTTPAdapter

from login_blocking.attempts import decode
from login_blocking.names import LOGIN_ATTEMPTS
from tools.stack import layout, live
from tools.stack.layout import NoStackError, Stack

_THREADS: Final = 64
_ARRIVED_WITHIN_S: Final = 120
_REPEATERS: Final = 5


def main() -> int:
    """Runs the command line; 1 if an attempt is missing, came twice or out of order."""
    parser = argparse.ArgumentParser(prog="tools.bench_outage", description=__doc__)
    parser.add_argument("--rate", type=int, default=50, help="logins a second")
    parser.add_argument("--seconds", type=int, default=60, help="of the outage")
    parser.add_argument("--state-dir", type=Path, default=layout.DEFAULT_STATE_DIR)
    arguments = parser.parse_args()
    try:
        stack = live.load(arguments.state_dir)
    except NoStackError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    run = f"outage-{secrets.token_hex(4)}"
    since = time.time_ns() // 1_000_000
    broker = _process(stack, "kafka")
    answered: dict[str, int] = {}
    print("                seconds  logins  p50 ms  p99 ms  answers")
    for told, seconds in (("before", 20), ("outage", arguments.seconds), ("after", 20)):
        if told == "outage":
            broker.send_signal(signal.SIGSTOP)
        try:
            taken, statuses = _log_in(stack, run, told, arguments.rate, seconds)
        finally:
            broker.send_signal(signal.SIGCONT)
        cuts = quantiles(taken, n=100)
        counted = {status: statuses.count(status) for status in sorted(set(statuses))}
        for status in set(statuses):
            answered[str(status)] = answered.get(str(status), 0) + counted[status]
        print(f"{told:15} {seconds:7} {len(taken):7} {cuts[49]:7.0f} {cuts[98]:7.0f}  {counted}")
    wanted = sum(count for status, count in answered.items() if status != "503")
    return _compare(stack, run, since, wanted)


def _log_in(
    stack: Stack, run: str, phase: str, rate: int, seconds: int
) -> tuple[list[float], list[int]]:
    taken: list[float] = []
    statuses: list[int] = []
    local = threading.local()

    def one(number: int) -> None:
        if not hasattr(local, "session"):
            local.session = requests.Session()
            local.session.mount("http://", HTTPAdapter(pool_maxsize=1))
        repeats = number % 10 == 0
        user = f"{run}-{number // 10 % _REPEATERS if repeats else f'{phase}-{number}'}"
        began = time.perf_counter()
        body = {"user": user, "pass": "guess"}
        answer = local.session.post(f"{stack.login_url}/login", json=body, timeout=30)
        taken.append((time.perf_counter() - began) * 1_000)
        statuses.append(answer.status_code)

    with ThreadPoolExecutor(_THREADS) as threads:
        began = time.perf_counter()
        for number in range(rate * seconds):
            wait = began + number / rate - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            threads.submit(one, number)
    return taken, statuses


def _compare(stack: Stack, run: str, since: int, wanted: int) -> int:
    began = time.monotonic()
    found: list[tuple[bytes, bytes]] = []
    while len(found) < wanted and time.monotonic() - began < _ARRIVED_WITHIN_S:
        time.sleep(1)
        found = _records(stack, run, since)
    attempts = [decode(value) for _, value in found]
    unique = {attempt.id for attempt in attempts}
    last: dict[str, int] = {}
    disordered = 0
    for attempt in attempts:
        disordered += attempt.ts < last.get(str(attempt.user), 0)
        last[str(attempt.user)] = max(attempt.ts, last.get(str(attempt.user), 0))
    print(
        f"{wanted:,} answered, {len(unique):,} arrived, {len(attempts) - len(unique)} twice, "
        f"{disordered} out of their user's order; all there after {time.monotonic() - began:.0f} s"
    )
    return 0 if len(unique) == len(attempts) == wanted and not disordered else 1


def _records(stack: Stack, run: str, since: int) -> list[tuple[bytes, bytes]]:
    consumer = KafkaConsumer(bootstrap_servers=stack.kafka_bootstrap)
    try:
        known = consumer.partitions_for_topic(LOGIN_ATTEMPTS) or ()
        partitions = [TopicPartition(LOGIN_ATTEMPTS, number) for number in known]
        starts = consumer.offsets_for_times(dict.fromkeys(partitions, since))
        reading = {it: start.offset for it, start in starts.items() if start is not None}
        consumer.assign(list(reading))
        for partition, offset in reading.items():
            consumer.seek(partition, offset)
        ends = consumer.end_offsets(list(reading))
        found = []
        while any(consumer.position(it) < end for it, end in ends.items()):
            for batch in consumer.poll(timeout_ms=500).values():
                found += [(r.key, r.value) for r in batch if r.key.startswith(run.encode())]
        return found
    finally:
        consumer.close()


def _process(stack: Stack, part: str) -> psutil.Process:
    state = json.loads(stack.state_file.read_text(encoding="utf-8"))
    return psutil.Process(state["parts"][part]["identity"]["pid"])


if __name__ == "__main__":
    sys.exit(main())
