"""A load of one request, repeated over many connections, and what it costs the server."""

import multiprocessing
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.queues import Queue
from statistics import quantiles
from typing import TYPE_CHECKING, Final

import psutil
import requests

_PROCESSES: Final = 2
_THREADS: Final = 16
_READY_WITHIN_S: Final = 120
_CHUNK: Final = 1 << 18

if TYPE_CHECKING:
    _Results = Queue[tuple[list[float], list[int], int]]


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured; `cpu_us` is the server's own processor time an answer."""

    answers_a_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    megabytes_a_second: float
    statuses: dict[int, int]
    """0: the connection failed."""


Ask = Callable[[], tuple[int, int]]
"""One question; the status and the size in bytes of its answer."""


def measure(connect: Callable[[], Ask], seconds: int, server: psutil.Process) -> Figures:
    """Asks from two processes of sixteen connections each, as fast as answers come."""
    results: _Results = multiprocessing.Queue()
    before = _cpu_s(server)
    clients = [
        multiprocessing.Process(target=_client, args=(connect, seconds, results))
        for _ in range(_PROCESSES)
    ]
    for client in clients:
        client.start()
    found = [results.get() for _ in clients]
    for client in clients:
        client.join()
    used = _cpu_s(server) - before
    taken = [ms for times, _, _ in found for ms in times]
    cuts = quantiles(taken, n=100)
    return Figures(
        answers_a_second=len(taken) / seconds,
        p50_ms=cuts[49],
        p99_ms=cuts[98],
        cpu_us=used / len(taken) * 1e6,
        megabytes_a_second=sum(size for _, _, size in found) / seconds / 1e6,
        statuses=dict(Counter(status for _, told, _ in found for status in told)),
    )


def http(port: int, asked: bytes) -> Callable[[], Ask]:
    """Questions over HTTP; each `Ask` has a connection of its own."""

    def connect() -> Ask:
        connection = socket.create_connection(("127.0.0.1", port), timeout=60)

        def ask() -> tuple[int, int]:
            connection.sendall(asked)
            return _read_answer(connection)

        return ask

    return connect


def request(
    method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
) -> bytes:
    """One request as it goes over the wire."""
    told = {"Host": "a", **(headers or {})}
    if body:
        told |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextmanager
def running(
    command: list[str], environment: dict[str, str], port: int, ready: str = "/readyz"
) -> Iterator[psutil.Process]:
    """A server that answers `ready`; ended whatever happens. Raises requests.ConnectionError."""
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}{ready}"
    try:
        deadline = time.monotonic() + _READY_WITHIN_S
        while not _is_ready(url):
            if time.monotonic() > deadline or process.poll() is not None:
                raise requests.ConnectionError(f"{url} is not ready")
            time.sleep(0.1)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def _client(connect: Callable[[], Ask], seconds: int, results: "_Results") -> None:
    taken: list[float] = []
    statuses: list[int] = []
    sizes: list[int] = []

    def load() -> None:
        read, ask = 0, connect()
        until = time.perf_counter() + seconds
        while (began := time.perf_counter()) < until:
            try:
                status, size = ask()
            except OSError:
                statuses.append(0)
                ask = connect()
                continue
            taken.append((time.perf_counter() - began) * 1_000)
            statuses.append(status)
            read += size
        sizes.append(read)

    threads = [threading.Thread(target=load) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put((taken, statuses, sum(sizes)))


def _read_answer(connection: socket.socket) -> tuple[int, int]:
    answer = connection.recv(_CHUNK)
    while (end := answer.find(b"\r\n\r\n")) < 0:
        more = connection.recv(_CHUNK)
        if not more:
            raise ConnectionError("the server closed the connection")
        answer += more
    start = answer.lower().find(b"content-length:", 0, end)
    length = 0 if start < 0 else int(answer[start + 15 : answer.index(b"\r\n", start)])
    left = length - (len(answer) - end - 4)
    while left > 0:
        more = connection.recv(_CHUNK)
        if not more:
            raise ConnectionError("the server closed the connection")
        left -= len(more)
    return int(answer[9:12]), end + 4 + length


def _cpu_s(server: psutil.Process) -> float:
    return sum(sum(it.cpu_times()[:2]) for it in [server, *server.children(recursive=True)])


def _is_ready(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.ConnectionError:
        return False
