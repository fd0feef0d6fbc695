"""Measures from a failure's publication to its block in Redis, on the running stack.

A fifth of the attempts comes from attackers who fail five times in a row, the rest from users who
fail once. The block's moment is Redis' own notification of the write, the publication's moment is
just before the fifth failure is handed to the Kafka client.
"""

import argparse
import sys
import threading
import time
import uuid
from pathlib import Path
from statistics import quantiles
from typing import Final

import redis
from kafka import KafkaProducer

from login_blocking.attempts import Attempt, Outcome
from login_blocking.names import LOGIN_ATTEMPTS, block_hash
from tools.stack import layout, live
from tools.stack.layout import NoStackError, Stack

_GUESSES: Final = 5
_ATTACK_EVERY: Final = 25
_LAST_VERDICT_S: Final = 5.0


def main() -> int:
    """Runs the command line; 1 if a block never came."""
    parser = argparse.ArgumentParser(prog="tools.bench_latency", description=__doc__)
    parser.add_argument("--rates", type=int, nargs="+", default=[100, 500, 2_000])
    parser.add_argument("--seconds", type=int, default=60, help="at each rate")
    parser.add_argument("--state-dir", type=Path, default=layout.DEFAULT_STATE_DIR)
    arguments = parser.parse_args()
    try:
        stack = live.load(arguments.state_dir)
    except NoStackError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    missing = 0
    print("attempts/s   blocks  missing   p50 ms   p99 ms", flush=True)
    for rate in arguments.rates:
        latencies, sent, achieved = _measure(stack, rate, arguments.seconds)
        missing += sent - len(latencies)
        cuts = quantiles(latencies, n=100)
        print(
            f"{achieved:10.0f} {sent:8} {sent - len(latencies):8} {cuts[49]:8.1f} {cuts[98]:8.1f}",
            flush=True,
        )
    return 1 if missing else 0


def _measure(stack: Stack, rate: int, seconds: int) -> tuple[list[float], int, float]:
    seen: dict[str, float] = {}
    ending = threading.Event()
    with redis.Redis.from_url(stack.redis_url("admin"), decode_responses=True) as admin:
        admin.config_set("notify-keyspace-events", "Eh")
        notifications = admin.pubsub(ignore_subscribe_messages=True)
        notifications.psubscribe("__keyevent@0__:hset")
        listener = threading.Thread(target=_listen, args=(notifications, seen, ending))
        listener.start()
        try:
            published, achieved = _publish(stack, rate, seconds)
            deadline = time.monotonic() + _LAST_VERDICT_S
            while not published.keys() <= seen.keys() and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            ending.set()
            listener.join()
            notifications.close()
            admin.config_set("notify-keyspace-events", "")
    latencies = [(seen[key] - at) * 1_000 for key, at in published.items() if key in seen]
    return latencies, len(published), achieved


def _listen(
    notifications: redis.client.PubSub, seen: dict[str, float], ending: threading.Event
) -> None:
    while not ending.is_set():
        message = notifications.get_message(timeout=0.1)
        if message is not None:
            seen.setdefault(message["data"], time.perf_counter())


def _publish(stack: Stack, rate: int, seconds: int) -> tuple[dict[str, float], float]:
    """Sends at a steady rate; Redis key of each attacker → moment of its fifth failure."""
    run = uuid.uuid4().hex[:8]
    published: dict[str, float] = {}
    producer = KafkaProducer(bootstrap_servers=stack.kafka_bootstrap, acks="all", linger_ms=0)
    try:
        began = time.perf_counter()
        total = rate * seconds
        for number in range(total):
            wait = began + number / rate - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            attack, step = divmod(number, _ATTACK_EVERY)
            attacks = step < _GUESSES
            user = f"bench-{run}-a{attack}" if attacks else f"bench-{run}-u{number}"
            ts = time.time_ns() // 1_000_000
            # Each user from a place of its own: one place alone would be blocked after ten names.
            place = attack if attacks else number
            ip = f"10.{place >> 16 & 255}.{place >> 8 & 255}.{place & 255}"
            attempt = Attempt(str(uuid.uuid4()), ts, user, ip, Outcome.FAILURE)
            if step == _GUESSES - 1:
                published[block_hash("user", user)] = time.perf_counter()
            producer.send(
                LOGIN_ATTEMPTS, key=attempt.key(), value=attempt.encode(), timestamp_ms=ts
            )
        producer.flush(timeout=30)
        return published, total / (time.perf_counter() - began)
    finally:
        producer.close(timeout=5)


if __name__ == "__main__":
    sys.exit(main())
