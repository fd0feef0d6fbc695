"""What logins cost and tell: accepted ones against bare hashes, equal time, and Redis frozen.

Runs against the stack of `make up`, on the same cores as all of it.
"""

import argparse
import http.client
import json
import random
import secrets
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median, quantiles
from typing import Final

import psutil
import requests
from argon2 import PasswordHasher

from login_api.settings import Settings
from tools.stack import layout, live
from tools.stack.layout import NoStackError, Stack

_THREADS: Final = 16
_GUESSES: Final = 4  # of each user: the fifth would block
_OUTAGE_RATE: Final = 50
_OUTAGE_S: Final = 10
_PASSWORD: Final = "correct horse of the benchmark"  # noqa: S105 — made up


class _Client:
    """One kept connection from one loopback address."""

    def __init__(self, stack: Stack, address: str = "127.0.0.1") -> None:
        host = stack.login_url.removeprefix("http://")
        self._connection = http.client.HTTPConnection(host, timeout=30, source_address=(address, 0))

    def post(self, path: str, user: str, password: str = _PASSWORD) -> tuple[int, float]:
        """Status and milliseconds."""
        body = json.dumps({"user": user, "pass": password})
        began = time.perf_counter()
        self._connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        answer.read()
        return answer.status, (time.perf_counter() - began) * 1_000

    def close(self) -> None:
        self._connection.close()


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="tools.bench_logins", description=__doc__)
    parser.add_argument("--seconds", type=int, default=15, help="of accepted logins")
    parser.add_argument("--calls", type=int, default=2_000, help="of each kind, for equal time")
    parser.add_argument("--cases", nargs="+", default=list(_CASES), choices=list(_CASES))
    parser.add_argument("--state-dir", type=Path, default=layout.DEFAULT_STATE_DIR)
    arguments = parser.parse_args()
    try:
        stack = live.load(arguments.state_dir)
        for case in arguments.cases:
            _CASES[case](stack, arguments)
    except (NoStackError, requests.RequestException, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _accepted(stack: Stack, arguments: argparse.Namespace) -> None:
    fields = Settings.model_fields
    hasher = PasswordHasher(
        memory_cost=fields["argon2_memory_kib"].default,
        time_cost=fields["argon2_time_cost"].default,
        parallelism=fields["argon2_parallelism"].default,
    )
    encoded = hasher.hash(_PASSWORD)
    began = time.process_time()
    for _ in range(20):
        hasher.verify(encoded, _PASSWORD)
    print(f"accepted: a hash costs {(time.process_time() - began) / 20 * 1e3:.1f} ms of one core")
    users = [f"bench-{secrets.token_hex(6)}" for _ in range(_THREADS)]
    for user in users:
        _registered(stack, user)
    for _ in range(2):
        bare = _rate(lambda _: hasher.verify(encoded, _PASSWORD), arguments.seconds)
        clients = [_Client(stack) for _ in users]
        statuses: Counter[int] = Counter()

        def log_in(
            number: int,
            clients: list[_Client] = clients,
            statuses: Counter[int] = statuses,
        ) -> None:
            statuses[clients[number].post("/login", users[number])[0]] += 1

        logins = _rate(log_in, arguments.seconds)
        told = dict(statuses)
        print(f"  bare {bare:.1f}/s, logins {logins:.1f}/s, ratio {logins / bare:.2f}, {told}")


def _rate(work: Callable[[int], object], seconds: int) -> float:
    done = [0] * _THREADS
    until = time.perf_counter() + seconds

    def go_on(number: int) -> None:
        while time.perf_counter() < until:
            work(number)
            done[number] += 1

    began = time.perf_counter()
    threads = [threading.Thread(target=go_on, args=(number,)) for number in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - began)


def _equal_time(stack: Stack, arguments: argparse.Namespace) -> None:
    taken: dict[str, list[float]] = {"wrong password": [], "unknown user": []}
    kinds = list(taken)
    while len(taken[kinds[0]]) < arguments.calls:
        token = secrets.token_hex(6)
        known, unknown = f"bench-{token}", f"nobody-{token}"
        _registered(stack, known)
        client = _Client(stack, f"127.{random.randint(1, 250)}.{random.randint(0, 250)}.9")  # noqa: S311
        for _ in range(_GUESSES):
            random.shuffle(kinds)
            for kind in kinds:
                user = known if kind == "wrong password" else unknown
                status, ms = client.post("/login", user, "a guess at it")
                if status != 401:  # noqa: PLR2004
                    raise requests.ConnectionError(f"{kind}: {status} in place of 401")
                taken[kind].append(ms)
        client.close()
        print(f"\r  {len(taken[kinds[0]]):,} of {arguments.calls:,} each", end="", flush=True)
    print("\requal time: " + ", ".join(
        f"{kind} {len(ms):,} calls, median {median(ms):.3f} ms" for kind, ms in taken.items()
    ))  # fmt: skip
    wrong, nobody = taken["wrong password"], taken["unknown user"]
    noise = [_shuffled_difference(wrong + nobody) for _ in range(1_000)]
    difference = median(wrong) - median(nobody)
    bound = quantiles(map(abs, noise), n=20)[-1]
    verdict = "below" if abs(difference) <= bound else "ABOVE"
    print(
        f"  difference of medians {difference:+.3f} ms; the same calls dealt at random stay below "
        f"{bound:.3f} ms in 95 of 100 deals: {verdict} noise"
    )


def _shuffled_difference(taken: list[float]) -> float:
    random.shuffle(taken)
    half = len(taken) // 2
    return median(taken[:half]) - median(taken[half:])


def _redis_frozen(stack: Stack, _: argparse.Namespace) -> None:
    user = f"bench-{secrets.token_hex(6)}"
    _registered(stack, user)
    state = json.loads(stack.state_file.read_text(encoding="utf-8"))
    redis = psutil.Process(state["parts"]["redis"]["identity"]["pid"])
    local = threading.local()

    def one() -> tuple[int, float]:
        if not hasattr(local, "client"):
            local.client = _Client(stack)
        client: _Client = local.client
        return client.post("/login", user)

    redis.send_signal(signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(64) as threads:
            began, asked = time.perf_counter(), []
            for number in range(_OUTAGE_RATE * _OUTAGE_S):
                time.sleep(max(0.0, began + number / _OUTAGE_RATE - time.perf_counter()))
                asked.append(threads.submit(one))
            answers = [it.result() for it in asked]
    finally:
        redis.send_signal(signal.SIGCONT)
    back, client = time.perf_counter(), _Client(stack)
    while client.post("/login", user)[0] != 200:  # noqa: PLR2004
        time.sleep(0.01)
    cuts = quantiles([ms for _, ms in answers], n=100)
    print(
        f"redis frozen for {_OUTAGE_S} s under {_OUTAGE_RATE} logins/s: p50 {cuts[49]:.0f} ms, "
        f"p99 {cuts[98]:.0f} ms, {dict(Counter(status for status, _ in answers))}; the first right "
        f"login {(time.perf_counter() - back) * 1e3:.0f} ms after it went on"
    )


def _registered(stack: Stack, user: str) -> None:
    status, _ = _Client(stack).post("/register", user)
    if status != 201:  # noqa: PLR2004
        raise requests.ConnectionError(f"{user} could not be registered: {status}")


_CASES: Final[dict[str, Callable[[Stack, argparse.Namespace], None]]] = {
    "accepted": _accepted,
    "equal-time": _equal_time,
    "redis-frozen": _redis_frozen,
}

if __name__ == "__main__":
    sys.exit(main())
