"""What the Blocked API's answers cost, and a thousand clients that listen to its stream.

Compared with the same server that answers a constant, and with raw Redis.

The load comes from the same cores, so the ratio of answers a second flatters the dearer one: the
server's own CPU time an answer is printed beside it.
"""

import argparse
import gzip
import itertools
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import psutil
import redis
import requests

from login_blocking.names import block_hash, blocked_set
from login_blocking.subjects import Subject
from tools import bench_blocked_stream, http_load, list_servers
from tools.http_load import Ask, Figures
from tools.stack import binaries
from tools.stack.layout import Ports, Stack

_WORKERS: Final = 2
_THREADS: Final = 6
SIZES: Final = (1_000, 100_000)

CONSTANT: Final = """
from pathlib import Path
from flask import Flask, Response
from blocked_api.access import Access, Clients
from blocked_api.metrics import Metrics
from blocked_api.serving import Served
from blocked_api.shared_questions import SharedState
from blocked_api.stream import Stream
from login_blocking.client_address import ClientAddress
BYTES = Path(__file__).with_name("bytes").read_bytes()
application = Flask("constant")
@application.get("/constant")
def constant():
    return Response(b'{"error":"Not blocked"}\\n', content_type="application/json")
@application.get("/bytes")
def same_bytes():
    return Response(BYTES, content_type="application/json")
class Nobody:
    def listen(self, listener): pass
stream = Stream(None, Nobody(), most=1, most_each=1, share=bool)
clients = Clients(ClientAddress())
app = Served(application, stream=stream, state=SharedState(dict), access=Access(None),
             clients=clients, metrics=Metrics(), threads=THREADS, quick=bool)
"""


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="tools.bench_blocked", description=__doc__)
    parser.add_argument("--seconds", type=int, default=8, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=2, help="of all, in turn")
    parser.add_argument("--case", choices=["calls", "stream", "all"], default="all")
    parser.add_argument("--clients", type=int, default=1_000, help="that listen to the stream")
    parser.add_argument("--a-second", type=int, default=10, help="changes, while they listen")
    parser.add_argument("--stream-seconds", type=int, default=60)
    arguments = parser.parse_args()
    try:
        with list_servers.redis_server() as stack:
            if arguments.case != "stream":
                for size in SIZES:
                    _calls(stack, size, arguments.seconds, arguments.rounds)
            if arguments.case != "calls":
                list_servers.fill(stack, SIZES[0])
                bench_blocked_stream.run(
                    stack, arguments.clients, arguments.a_second, arguments.stream_seconds
                )
    except requests.RequestException as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _calls(stack: Stack, size: int, seconds: int, rounds: int) -> None:
    list_servers.fill(stack, size)
    settings = {"BLOCKED_API_WORKERS": str(_WORKERS), "BLOCKED_API_THREADS": str(_THREADS)}
    print(
        f"\n{size:,} live blocks; ratios of answers a second: to this server's own constant, to a "
        "bare Flask's\nconstant of as many bytes behind the same server, and to raw Redis"
    )
    print(_HEAD, flush=True)
    for _ in range(rounds):
        one = block_hash("user", f"user{size // 2:07}")
        redis_process = _redis_process(stack)
        subject_read = _redis_reads(stack, partial(_all_fields, one))
        raw_one = http_load.measure(subject_read, seconds, redis_process)
        _row("raw Redis, one subject", raw_one)
        raw_list = http_load.measure(_redis_reads(stack, _whole_list), seconds, redis_process)
        _row("raw Redis, the list", raw_list)
        with list_servers.blocked_api(stack, settings) as server:
            answer = requests.get(f"{stack.blocked_url}/blocked", timeout=60)
            with _constant(answer.content) as (constant_port, constant_server):
                small = _measured(constant_port, constant_server, "/constant", seconds)
                same = _measured(constant_port, constant_server, "/bytes", seconds)
            _row("constant, bare Flask", small)
            _row("constant, the list's bytes", same)
            own = _measured(stack.ports.blocked_api, server, "/constant", seconds)
            _row("constant, this server's 404", own, bare=small)
            checked = json.dumps({"users": [f"user{n:07}" for n in range(100)]}).encode()
            tag = answer.headers["ETag"]
            get, post = partial(http_load.request, "GET"), partial(http_load.request, "POST")
            one_path = f"/blocked/users/user{size // 2:07}"
            cases = [
                ("single check", get(one_path), 200, small, raw_one),
                ("single check, not blocked", get("/blocked/users/nobody"), 404, small, raw_one),
                ("check of 100", post("/blocked/check", body=checked), 200, small, None),
                ("304", get("/blocked", {"If-None-Match": tag}), 304, small, raw_list),
                ("full list", get("/blocked"), 200, same, raw_list),
                ("full list, gzip", get("/blocked", {"Accept-Encoding": "gzip"}), 200, same, None),
            ]
            for name, call, status, constant, raw in cases:
                asked = http_load.http(stack.ports.blocked_api, call)
                found = http_load.measure(asked, seconds, server)
                _row(name, found, own=own, bare=constant, raw=raw, status=status)
            with _changing(stack):
                asked = http_load.http(stack.ports.blocked_api, get("/blocked"))
                found = http_load.measure(asked, seconds, server)
                _row("full list, 10 changes/s", found, bare=same, raw=raw_list, status=200)
    zipped = len(gzip.compress(answer.content, 1))
    print(f"the list: {len(answer.content):,} bytes, gzip {zipped:,}")


def _measured(port: int, server: psutil.Process, path: str, seconds: int) -> Figures:
    return http_load.measure(http_load.http(port, http_load.request("GET", path)), seconds, server)


@contextmanager
def _changing(stack: Stack) -> Iterator[None]:
    """Ten users more a second, meanwhile."""
    over = threading.Event()

    def change() -> None:
        with redis.Redis.from_url(stack.redis_url("detector")) as detector:
            for number in itertools.count():
                if over.wait(0.1):
                    return
                now = time.time_ns() // 1_000_000
                entry = list_servers.hour_from(now)
                name = f"changing-{now}-{number}"
                list_servers.apply(detector, [(Subject("user", name), entry)])

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _redis_reads(stack: Stack, read: Callable[[redis.Redis], object]) -> Callable[[], Ask]:
    def connect() -> Ask:
        client = redis.Redis.from_url(stack.redis_url("admin"), single_connection_client=True)

        def ask() -> tuple[int, int]:
            read(client)
            return 200, 0

        return ask

    return connect


def _whole_list(client: redis.Redis) -> object:
    return client.zrangebyscore(blocked_set("user"), "(0", "+inf")


def _all_fields(key: str, client: redis.Redis) -> object:
    return client.hgetall(key)


def _redis_process(stack: Stack) -> psutil.Process:
    for connection in psutil.net_connections("tcp"):
        listens = connection.status == psutil.CONN_LISTEN and connection.laddr
        if listens and listens.port == stack.ports.redis and connection.pid:
            return psutil.Process(connection.pid)
    raise requests.ConnectionError("Redis is not there")


_HEAD: Final = (
    "answer                       answers/s  p50 ms  p99 ms  CPU us/answer   MB/s  "
    "to own  to bare  to Redis"
)


def _row(
    name: str,
    found: Figures,
    *,
    own: Figures | None = None,
    bare: Figures | None = None,
    raw: Figures | None = None,
    status: int | None = None,
) -> None:
    """A line; without ratios if any answer was another one than it had to be."""
    wrong = found.statuses if status is not None and set(found.statuses) != {status} else ""
    ratios = [
        "" if than is None or wrong else f"{found.answers_a_second / than.answers_a_second:.2f}"
        for than in (own, bare, raw)
    ]
    print(
        f"{name:28} {found.answers_a_second:9,.0f} {found.p50_ms:7.1f} {found.p99_ms:7.1f} "
        f"{found.cpu_us:14.0f} {found.megabytes_a_second:6.0f} {ratios[0]:>7} {ratios[1]:>8} "
        f"{ratios[2]:>9}  {wrong}",
        flush=True,
    )


@contextmanager
def _constant(content: bytes) -> Iterator[tuple[int, psutil.Process]]:
    port = Ports.free().blocked_api
    with tempfile.TemporaryDirectory(prefix="constant-") as folder:
        (Path(folder) / "constant.py").write_text(CONSTANT.replace("THREADS", str(_THREADS)))
        (Path(folder) / "bytes").write_bytes(content)
        command = [
            str(Path(binaries.python()).parent / "granian"), "--interface", "asgi",
            "--host", "127.0.0.1", "--port", str(port), "--workers", str(_WORKERS), "--no-ws",
            "--working-dir", folder, "constant:app",
        ]  # fmt: skip
        with http_load.running(command, dict(os.environ), port, "/constant") as server:
            yield port, server


if __name__ == "__main__":
    sys.exit(main())
