"""Many clients that listen to the Blocked API's stream while blocks change.

Each client checks that it is told every change, once and in order; meanwhile plain calls are timed,
before and during.
"""

import asyncio
import contextlib
import multiprocessing
import re
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier, Event
from statistics import quantiles
from typing import TYPE_CHECKING, Final

import psutil
import redis
import requests
from rich.progress import track

from login_blocking.subjects import Subject
from tools import list_servers
from tools.stack.layout import Ports, Stack

_PREFIX: Final = "streamed"
_ADDED: Final = re.compile(rb'"(streamed)-([0-9]+)-([0-9]+)"')

_CALLS_A_SECOND: Final = 50
_NOT_BLOCKED: Final = 404

if TYPE_CHECKING:
    _Results = Queue["_Heard"]


@dataclass(frozen=True, slots=True)
class _Heard:
    """What the clients of one process heard: of each the numbers of the changes, in order."""

    orders: list[list[int]]
    delays_ms: list[float]
    failures: int


def run(stack: Stack, clients: int, a_second: int, seconds: int) -> None:
    """Prints the figures. One process serves all: the worst case for memory and threads."""
    _allow_files(2 * clients + 1_000)
    settings = {"BLOCKED_API_WORKERS": "1", "BLOCKED_API_STREAM_CLIENTS": str(clients + 10)}
    settings["BLOCKED_API_STREAM_CLIENTS_EACH"] = str(clients + 10)
    idle_port = Ports.free().blocked_api
    idle_url = f"http://127.0.0.1:{idle_port}/blocked/users/nobody"
    with (
        list_servers.blocked_api(stack, settings) as server,
        list_servers.blocked_api(stack, settings, idle_port),
    ):
        workers = server.children(recursive=True)
        url = f"{stack.blocked_url}/blocked/users/nobody"
        print(f"\n{clients:,} stream clients, {a_second} changes/s, {seconds} s, one process")
        _print_calls("plain calls, nobody listens", _timed_calls(url, 10))
        before_mb = sum(worker.memory_info().rss for worker in workers) / 1e6
        heard: _Results = multiprocessing.Queue()
        ready, ended = multiprocessing.Barrier(3), multiprocessing.Event()
        listeners = [
            multiprocessing.Process(
                target=_listen_all,
                args=(stack.ports.blocked_api, clients // 2, ready, ended, heard),
            )
            for _ in range(2)
        ]
        for listener in listeners:
            listener.start()
        ready.wait(120)
        context = multiprocessing.get_context("fork")
        timed: Queue[tuple[str, list[float]]] = context.Queue()
        callers = [
            context.Process(target=partial(_time_calls, timed, called, seconds))
            for called in (url, idle_url)
        ]
        cpu_before, began = _cpu_s(workers), time.monotonic()
        for caller in callers:
            caller.start()
        changes = _change(stack, a_second, seconds)
        during = dict(timed.get() for _ in callers)
        for caller in callers:
            caller.join()
        cpu = (_cpu_s(workers) - cpu_before) / (time.monotonic() - began)
        after_mb = sum(worker.memory_info().rss for worker in workers) / 1e6
        time.sleep(2)
        ended.set()
        found = [heard.get(timeout=60) for _ in listeners]
        for listener in listeners:
            listener.join()
    orders = [order for one in found for order in one.orders]
    whole = sum(order == list(range(changes)) for order in orders)
    cuts = quantiles([delay for one in found for delay in one.delays_ms], n=100)
    print(
        f"{'clients that heard all':34} {whole:,} of {clients:,}: {changes} changes, once, in order"
    )
    print(f"{'connections that failed':34} {sum(one.failures for one in found)}")
    print(f"{'written to heard':34} p50 {cuts[49]:.0f} ms, p99 {cuts[98]:.0f} ms")
    print(f"{'memory':34} {before_mb:.0f} MB before, {after_mb:.0f} MB with all clients")
    print(f"{'processor':34} {100 * cpu:.0f} % of one core")
    _print_calls("plain calls meanwhile", during[url])
    # The load takes the same cores: what it alone costs a process that has no stream at all.
    _print_calls("the same, to a process without any", during[idle_url])


def _change(stack: Stack, a_second: int, seconds: int) -> int:
    count = a_second * seconds
    with redis.Redis.from_url(stack.redis_url("detector")) as detector:
        began = time.monotonic()
        for number in track(range(count), "changes", transient=True):
            time.sleep(max(0.0, began + number / a_second - time.monotonic()))
            now = time.time_ns() // 1_000_000
            name = f"{_PREFIX}-{number}-{now}"
            list_servers.apply(detector, [(Subject("user", name), list_servers.hour_from(now))])
    return count


def _timed_calls(url: str, seconds: int) -> list[float]:
    """Fifty a second, each due at its moment whatever the one before took; ms from then on."""
    taken = []
    with requests.Session() as session:
        began = time.perf_counter()
        for number in range(seconds * _CALLS_A_SECOND):
            due = began + number / _CALLS_A_SECOND
            time.sleep(max(0.0, due - time.perf_counter()))
            status = session.get(url, timeout=10).status_code
            if status != _NOT_BLOCKED:
                raise requests.ConnectionError(f"a plain call was answered {status}")
            taken.append((time.perf_counter() - due) * 1_000)
    return taken


def _time_calls(timed: "Queue[tuple[str, list[float]]]", url: str, seconds: int) -> None:
    timed.put((url, _timed_calls(url, seconds)))


def _print_calls(name: str, taken: list[float]) -> None:
    cuts = quantiles(taken, n=100)
    print(
        f"{name:34} p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms ({len(taken)} calls)", flush=True
    )


def _listen_all(port: int, clients: int, ready: Barrier, ended: Event, heard: "_Results") -> None:
    heard.put(asyncio.run(_listen(port, clients, ready, ended)))


class _Client(asyncio.Protocol):
    """One listener, as cheap as can be: it shares the cores with the server."""

    def __init__(self, listens: Callable[[], None], delays_ms: list[float]) -> None:
        self.order: list[int] = []
        self.lost = False
        self._listens = listens
        self._delays_ms = delays_ms
        self._rest = b""
        self._begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asks for the stream."""
        assert isinstance(transport, asyncio.WriteTransport)  # noqa: S101 — for the type checker
        transport.write(b"GET /blocked/stream HTTP/1.1\r\nHost: a\r\n\r\n")

    def data_received(self, data: bytes) -> None:
        """Notes the number and the delay of each name that is added."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        now = time.time_ns() / 1e6
        for line in lines:
            if not line.startswith(b"data: "):
                continue
            for _, number, written in _ADDED.findall(line):
                self.order.append(int(number))
                self._delays_ms.append(now - int(written))
            if not self._begun and b'"full"' in line:
                self._begun = True
                self._listens()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 — asyncio's own
        """The server, or we, ended it."""
        self.lost = True


async def _listen(port: int, clients: int, ready: Barrier, ended: Event) -> _Heard:
    delays_ms: list[float] = []
    listening = 0
    all_listen = asyncio.Event()

    def one_more_listens() -> None:
        nonlocal listening
        listening += 1
        if listening == clients:
            all_listen.set()

    loop = asyncio.get_running_loop()
    opened = [
        await loop.create_connection(
            lambda: _Client(one_more_listens, delays_ms), "127.0.0.1", port
        )
        for _ in range(clients)
    ]
    with contextlib.suppress(TimeoutError):  # what is missing then shows in the figures
        await asyncio.wait_for(all_listen.wait(), 100)
    await asyncio.to_thread(ready.wait)
    await asyncio.to_thread(ended.wait)
    failures = sum(client.lost for _, client in opened)
    for transport, _ in opened:
        transport.close()
    return _Heard([client.order for _, client in opened], delays_ms, failures)


def _cpu_s(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def _allow_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
