"""Counts the passwords that are checked when many clients guess at one name at once.

Four processes of the Login API run beside the stack's own. Each run attacks a fresh user; the
figure is what the processes themselves count, and it must be the policy's threshold: not one more.
"""

import argparse
import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Final

import psutil
import requests

from login_blocking.limits import limits
from login_blocking.policy_file import parse_policy
from login_blocking.subjects import Subject
from tools.stack import layout, live
from tools.stack.layout import NoStackError, Ports, Stack
from tools.stack.parts import parts

_CLIENTS: Final = 100
_GUESSES: Final = 2_000
_PROCESSES: Final = 4
_CHECKED: Final = "login_api_passwords_checked_total"
_READY_WITHIN_S: Final = 60
_RUNS: Final = 10
_LEFT_BEHIND: Final = (
    "It runs on the running stack, whose Flink and Kafka some cases stop for a moment. Each run"
    " leaves a user burst-… blocked, for as long as the policy in force says: by the default one"
    " forty users for a quarter of an hour."
)


def main() -> int:
    """Runs the command line; 1 if a single password too many, or too few, was checked."""
    parser = argparse.ArgumentParser(
        prog="tools.bench_burst", description=__doc__, epilog=_LEFT_BEHIND
    )
    parser.add_argument(
        "--runs", type=int, default=_RUNS, help=f"of each case; {_RUNS} unless told"
    )
    parser.add_argument(
        "--cases", nargs="+", default=list(_CASES), choices=list(_CASES), metavar="CASE",
        help=f"of {', '.join(_CASES)}",
    )  # fmt: skip
    parser.add_argument("--state-dir", type=Path, default=layout.DEFAULT_STATE_DIR)
    arguments = parser.parse_args()
    try:
        stack = live.load(arguments.state_dir)
        with _processes(stack) as urls:
            return _measure(stack, urls, arguments.cases, arguments.runs)
    except (NoStackError, requests.RequestException) as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _measure(stack: Stack, urls: list[str], cases: list[str], runs: int) -> int:
    policy = parse_policy(stack.policy_file.read_text(encoding="utf-8"))
    threshold = min(
        it.threshold for it in limits(policy, Subject("user", "u")) if it.places != "known"
    )
    wrong = 0
    print(f"{_CLIENTS} clients, {_GUESSES:,} guesses at one name, {_PROCESSES} processes")
    print(f"{'case':22} {'checked (threshold ' + str(threshold) + ')':32} answers")
    for case in cases:
        checked: list[int] = []
        answers: Counter[int] = Counter()
        for _ in range(runs):
            with _CASES[case](stack):
                before = _checked(urls)
                answers += _burst(urls, f"burst-{secrets.token_hex(6)}")
                checked.append(_checked(urls) - before)
        wrong += sum(count != threshold for count in checked)
        told = ", ".join(f"{status}: {count:,}" for status, count in sorted(answers.items()))
        print(f"{case:22} {' '.join(map(str, checked)):32} {told}", flush=True)
    return 1 if wrong else 0


def _burst(urls: list[str], user: str) -> Counter[int]:
    answers: Counter[int] = Counter()
    together, adding = threading.Barrier(_CLIENTS), threading.Lock()

    def guess(number: int) -> None:
        host = urls[number % len(urls)].removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.connect()
        mine: Counter[int] = Counter()
        together.wait()
        for turn in range(_GUESSES // _CLIENTS):
            body = json.dumps({"user": user, "pass": f"guess {number} {turn}"})
            connection.request("POST", "/login", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            mine[answer.status] += 1
        connection.close()
        with adding:
            answers.update(mine)

    clients = [threading.Thread(target=guess, args=(n,)) for n in range(_CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return answers


def _checked(urls: list[str]) -> int:
    count = 0.0
    for url in urls:
        for line in requests.get(f"{url}/metrics", timeout=60).text.splitlines():
            if line.startswith(f"{_CHECKED} "):
                count += float(line.split()[1])
    return int(count)


@contextmanager
def _processes(stack: Stack) -> Iterator[list[str]]:
    part = next(it for it in parts(stack) if it.name == "login-api")
    urls = []
    with ExitStack() as ending:
        for _ in range(_PROCESSES):
            port = Ports.free().login_api
            process = subprocess.Popen(
                part.command,
                env={**(part.environment or os.environ), "LOGIN_API_PORT": str(port)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            ending.callback(process.wait)
            ending.callback(process.terminate)
            urls.append(f"http://127.0.0.1:{port}")
        deadline = time.monotonic() + _READY_WITHIN_S
        for url in urls:
            while not _is_ready(url):
                if time.monotonic() > deadline:
                    raise requests.ConnectionError(f"{url} is not ready")
                time.sleep(0.1)
        yield urls


def _is_ready(url: str) -> bool:
    try:
        states = requests.get(f"{url}/readyz", timeout=5).json()
    except requests.ConnectionError:
        return False
    return bool(states["redis"] == states["postgres"] == states["kafka"] == "ok")


@contextmanager
def _as_it_is(_: Stack) -> Iterator[None]:
    yield


@contextmanager
def _stopped(stack: Stack, part: str) -> Iterator[None]:
    process = _process(stack, part)
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@contextmanager
def _delayed(stack: Stack) -> Iterator[None]:
    """No verdict for the first 300 ms."""
    process = _process(stack, "flink-taskmanager")
    process.send_signal(signal.SIGSTOP)
    going_on = threading.Timer(0.3, lambda: process.send_signal(signal.SIGCONT))
    going_on.start()
    try:
        yield
    finally:
        going_on.join()


def _process(stack: Stack, part: str) -> psutil.Process:
    state = json.loads(stack.state_file.read_text(encoding="utf-8"))
    return psutil.Process(state["parts"][part]["identity"]["pid"])


_CASES: Final[dict[str, Callable[[Stack], AbstractContextManager[None]]]] = {
    "as it is": _as_it_is,
    "300 ms delay": _delayed,
    "Flink stopped": lambda stack: _stopped(stack, "flink-taskmanager"),
    "Kafka stopped": lambda stack: _stopped(stack, "kafka"),
}

if __name__ == "__main__":
    sys.exit(main())
