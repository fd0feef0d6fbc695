"""What a refused login costs, against the same server that answers a constant.

Both are Granian with Flask and as many workers; the client is the same, on the same cores, so that
the ratio of requests a second flatters the dearer one: the server's own CPU time a request is
printed beside it.
"""

import argparse
import json
import multiprocessing
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.queues import Queue
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Final

import psutil
import requests

from tools.stack import binaries, layout
from tools.stack.layout import NoStackError, Ports, Stack
from tools.stack.parts import parts

_WORKERS: Final = 2
_PROCESSES: Final = 2
_THREADS: Final = 8
_READY_WITHIN_S: Final = 60

if TYPE_CHECKING:
    _Results = Queue[tuple[list[float], list[int]]]

CONSTANT: Final = """
from flask import Flask
app = Flask("constant")
@app.post("/login")
def login():
    return {"error": "User blocked", "blocked_until": None}, 403
@app.get("/readyz")
def ready():
    return {}
"""


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="tools.bench_refusal", description=__doc__)
    parser.add_argument("--seconds", type=int, default=15, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=2, help="of both servers, in turn")
    parser.add_argument("--state-dir", type=Path, default=layout.DEFAULT_STATE_DIR)
    arguments = parser.parse_args()
    try:
        stack = layout.load(arguments.state_dir)
        print("server             answers/s  p50 ms  p99 ms  CPU us/answer  answers", flush=True)
        for _ in range(arguments.rounds):
            with _constant() as (url, server):
                _measure("constant", url, server, arguments.seconds)
            with _login_api(stack) as (url, server):
                user = f"refused-{secrets.token_hex(6)}"
                body = {"user": user, "pass": "guess"}
                statuses = [
                    requests.post(f"{url}/login", json=body, timeout=30).status_code
                    for _ in range(6)
                ]
                _measure("refused login", url, server, arguments.seconds, user)
                if statuses[:5] != [401] * 5:
                    print(f"  not five guesses before: {statuses}")
    except (NoStackError, requests.RequestException) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _measure(name: str, url: str, server: psutil.Process, seconds: int, user: str = "u") -> None:
    port = int(url.rpartition(":")[2])
    results: _Results = multiprocessing.Queue()
    before = _cpu_s(server)
    clients = [
        multiprocessing.Process(target=_client, args=(port, user, seconds, results))
        for _ in range(_PROCESSES)
    ]
    for client in clients:
        client.start()
    found = [results.get() for _ in clients]
    for client in clients:
        client.join()
    taken = [ms for times, _ in found for ms in times]
    statuses = [status for _, told in found for status in told]
    used = _cpu_s(server) - before
    cuts = quantiles(taken, n=100)
    counted = {status: statuses.count(status) for status in sorted(set(statuses))}
    print(
        f"{name:18} {len(taken) / seconds:9,.0f} {cuts[49]:7.1f} {cuts[98]:7.1f} "
        f"{used / len(taken) * 1e6:14.0f}  {counted}",
        flush=True,
    )


def _client(port: int, user: str, seconds: int, results: "_Results") -> None:
    body = json.dumps({"user": user, "pass": "guess"}).encode()
    request = (
        b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    taken: list[float] = []
    statuses: list[int] = []

    def ask() -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            until = time.perf_counter() + seconds
            while (began := time.perf_counter()) < until:
                connection.sendall(request)
                answer = connection.recv(65_536)
                while b"\r\n\r\n" not in answer or not answer.rstrip().endswith(b"}"):
                    answer += connection.recv(65_536)
                taken.append((time.perf_counter() - began) * 1_000)
                statuses.append(int(answer[9:12]))

    threads = [threading.Thread(target=ask) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put((taken, statuses))


def _cpu_s(server: psutil.Process) -> float:
    return sum(sum(it.cpu_times()[:2]) for it in [server, *server.children(recursive=True)])


@contextmanager
def _login_api(stack: Stack) -> Iterator[tuple[str, psutil.Process]]:
    part = next(it for it in parts(stack) if it.name == "login-api")
    environment = {**(part.environment or os.environ), "LOGIN_API_WORKERS": str(_WORKERS)}
    port = Ports.free().login_api
    with _running(part.command, {**environment, "LOGIN_API_PORT": str(port)}, port) as found:
        yield found


@contextmanager
def _constant() -> Iterator[tuple[str, psutil.Process]]:
    port = Ports.free().login_api
    with tempfile.TemporaryDirectory(prefix="constant-") as folder:
        (Path(folder) / "constant.py").write_text(CONSTANT)
        command = [
            str(Path(binaries.python()).parent / "granian"), "--interface", "wsgi",
            "--host", "127.0.0.1", "--port", str(port), "--workers", str(_WORKERS),
            "--blocking-threads", "32", "--no-ws",
            "--working-dir", folder, "constant:app",
        ]  # fmt: skip
        with _running(command, dict(os.environ), port) as found:
            yield found


@contextmanager
def _running(
    command: list[str], environment: dict[str, str], port: int
) -> Iterator[tuple[str, psutil.Process]]:
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + _READY_WITHIN_S
        while not _is_ready(url):
            if time.monotonic() > deadline:
                raise requests.ConnectionError(f"{url} is not ready")
            time.sleep(0.1)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def _is_ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/readyz", timeout=5).ok
    except requests.ConnectionError:
        return False


if __name__ == "__main__":
    sys.exit(main())
