"""The stream as it is served: changes pushed, resumed, ended; and that it holds up no call."""

import itertools
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import requests

from flink_jobs.redis_writer import RedisBlockWriter
from login_blocking.blocks import RedisEntry
from login_blocking.subjects import Subject
from tests.support.block_entries import block, tombstone
from tests.support.running_blocked_api import HOUR, SCRIPT, RunningApi, report, running_api
from tests.support.services import RedisServer, running_redis
from tests.support.waiting import eventually

pytestmark = pytest.mark.service


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    identity: str | None
    data: dict[str, object]
    at_s: float


class Listener:
    """Reads a stream in a thread of its own, as any client would."""

    def __init__(self, answer: requests.Response) -> None:
        self.answer = answer
        self.events: list[Event] = []
        self.comments = 0
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def changes(self) -> list[Event]:
        return [event for event in self.events if event.name == "change"]

    def told(self, field: str) -> list[str]:
        return [entry["subject"] for e in self.changes() for entry in e.data[field]]  # type: ignore[attr-defined]

    def has_told(self, added: int) -> bool:
        return len(self.told("added")) >= added

    def close(self) -> None:
        if not self.ended.is_set():
            self.answer.raw.shutdown()  # closing alone would not wake the reader
        self._thread.join(5)
        self.answer.close()

    def _lines(self) -> Iterator[str]:
        rest = b""
        for chunk in self.answer.iter_content(chunk_size=None):  # as it arrives
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (line.decode() for line in lines)

    def _read(self) -> None:
        fields: dict[str, str] = {}
        try:
            for line in self._lines():
                if line.startswith(":"):
                    self.comments += 1
                elif line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "event" in fields:
                    data = json.loads(fields["data"])
                    event = Event(fields["event"], fields.get("id"), data, time.monotonic())
                    self.events.append(event)
                    fields = {}
                else:
                    fields = {}
        except (requests.RequestException, OSError, AttributeError, ValueError):
            pass  # the connection was closed, at either end
        finally:
            self.ended.set()


@contextmanager
def listening(api: RunningApi, since: str | None = None) -> Iterator[Listener]:
    headers = {} if since is None else {"Last-Event-ID": since}
    address = f"http://127.0.0.1:{api.port}/blocked/stream"
    answer = requests.get(address, headers=headers, stream=True, timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "text/event-stream"
    listener = Listener(answer)
    try:
        eventually(listener.changes, 10)
        yield listener
    finally:
        listener.close()


@pytest.fixture
def writer(redis_server: RedisServer) -> Iterator[RedisBlockWriter]:
    writer = RedisBlockWriter(redis_server.url("detector"), SCRIPT)
    yield writer
    writer.close()


@pytest.fixture
def api(tmp_path: Path, redis_server: RedisServer) -> Iterator[RunningApi]:
    report(redis_server)
    with running_api(tmp_path, redis_server.url("blocked_api")) as running:
        running.wait_until_healthy()
        running.wait_for("/readyz", 200)
        yield running
    with redis_server.admin() as admin:
        admin.flushall()


def _now() -> int:
    return time.time_ns() // 1_000_000


def _hour() -> RedisEntry:
    now = _now()
    return block(now, now + HOUR)


def test_each_change_is_told_once_in_order_and_soon(
    api: RunningApi, writer: RedisBlockWriter
) -> None:
    with listening(api) as listener:
        assert listener.events[0].data == {"status": "complete", "redis": "ok"}
        assert listener.changes()[0].data["added"] == []
        delays_ms = []
        for number in range(20):
            written_s = time.monotonic()
            writer.apply(Subject("user", f"user{number}"), {"failures": _hour()})
            eventually(partial(listener.has_told, number + 1), 5)
            delays_ms.append(1_000 * (listener.changes()[-1].at_s - written_s))
    assert listener.told("added") == [f"user{number}" for number in range(20)]
    assert sorted(delays_ms)[10] < 50  # the median: single ones may meet other work


def test_a_lifted_and_an_ended_block_are_told(api: RunningApi, writer: RedisBlockWriter) -> None:
    now = _now()
    alice, bob = Subject("user", "alice"), Subject("ip", "198.51.100.7")
    with listening(api) as listener:
        writer.apply(alice, {"failures": block(now, now + HOUR)})
        writer.apply(bob, {"failures": block(now, now + 1_500)})
        writer.apply(alice, {"spraying": block(now, None)})
        lifted = {rule: tombstone(block(now, None), now + 1) for rule in ("failures", "spraying")}
        writer.apply(alice, lifted)
        eventually(lambda: len(listener.told("removed")) == 2, 10)
    assert listener.told("added") == ["alice", "198.51.100.7"]
    assert listener.told("changed") == ["alice"]
    assert listener.told("removed") == ["alice", "198.51.100.7"]
    late_s = listener.changes()[-1].at_s - time.monotonic() + _now() / 1_000 - (now + 1_500) / 1_000
    assert late_s < 1


def test_who_comes_back_is_told_what_it_missed(api: RunningApi, writer: RedisBlockWriter) -> None:
    with listening(api) as listener:
        writer.apply(Subject("user", "before"), {"failures": _hour()})
        eventually(lambda: listener.told("added"), 5)
    known = listener.changes()[-1].identity
    assert known is not None
    writer.apply(Subject("user", "meanwhile"), {"failures": _hour()})
    with listening(api, known) as again:
        assert again.told("added") == ["meanwhile"]
        assert again.changes()[0].identity != known
        writer.apply(Subject("user", "after"), {"failures": _hour()})
        eventually(lambda: len(again.told("added")) == 2, 5)
    difference = api.get(f"/blocked/changes?since={known}").json()
    assert [entry["subject"] for entry in difference["added"]] == ["meanwhile", "after"]
    assert difference["full"] is False


def test_a_version_that_leads_nowhere_is_a_reset(api: RunningApi) -> None:
    answer = requests.get(
        f"http://127.0.0.1:{api.port}/blocked/stream?since=1.1-0.1", stream=True, timeout=10
    )
    listener = Listener(answer)
    eventually(lambda: any(event.name == "reset" for event in listener.events), 10)
    listener.close()
    assert api.get("/blocked/changes?since=1.1-0.1").status_code == 410
    assert api.get("/blocked/changes?since=yesterday").status_code == 400
    assert api.get("/blocked/stream?since=yesterday").status_code == 400


def test_an_emptied_redis_is_a_reset_and_refilling_until_it_is_whole(
    api: RunningApi, redis_server: RedisServer, writer: RedisBlockWriter
) -> None:
    writer.apply(Subject("user", "alice"), {"failures": _hour()})
    with listening(api) as listener:
        with redis_server.admin() as admin:
            admin.flushall()
        answer = api.wait_for("/blocked", 503)
        assert answer.headers["Retry-After"] == "1"
        assert api.get("/readyz").json() == {"redis": "ok", "list": "missing"}
        report(redis_server, complete=False)
        writer.apply(Subject("user", "alice"), {"failures": _hour()})
        eventually(lambda: any(event.name == "reset" for event in listener.events), 10)
        answer = api.wait_for("/blocked", 200)
        assert answer.headers["Block-List-Status"] == "refilling"
        assert api.get("/readyz").json() == {"redis": "ok", "list": "refilling"}
        report(redis_server)
        eventually(lambda: listener.events[-1].data == {"status": "complete", "redis": "ok"}, 10)
    told = [event.data["status"] for event in listener.events if event.name == "status"]
    assert [status for status, _ in itertools.groupby(told)] == [
        "complete",
        "refilling",
        "complete",
    ]


def test_a_redis_that_goes_is_told_and_the_stream_goes_on_when_it_is_back(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    with ExitStack() as until_end:
        first = running_redis(tmp_path / "redis")
        server = first.__enter__()
        report(server)
        api = until_end.enter_context(running_api(tmp_path, server.url("blocked_api")))
        api.wait_until_healthy()
        api.wait_for("/readyz", 200)
        listener = until_end.enter_context(listening(api))
        server.process.kill()
        eventually(lambda: listener.events[-1].data.get("redis") == "down", 10)
        again = running_redis(tmp_path / "redis", server.port, server.passwords)
        until_end.enter_context(again)
        eventually(lambda: listener.events[-1].data.get("redis") == "ok", 10)
        writer = RedisBlockWriter(server.url("detector"), SCRIPT)
        writer.apply(Subject("user", "alice"), {"failures": _hour()})
        eventually(lambda: listener.told("added") == ["alice"], 10)
        writer.close()


def test_a_redis_without_news_is_not_called_down(api: RunningApi) -> None:
    with listening(api) as client:
        assert not client.ended.wait(3)
        assert [e.data for e in client.events if e.data.get("redis") == "down"] == []


def test_streams_hold_up_no_call_and_end_with_the_process(
    api: RunningApi, writer: RedisBlockWriter
) -> None:
    with ExitStack() as streams:
        with ThreadPoolExecutor(16) as pool:
            managers = [listening(api) for _ in range(64)]
            listeners = list(pool.map(streams.enter_context, managers))
        assert "blocked_api_stream_clients 64.0" in api.get("/metrics").text
        for _ in range(20):
            assert api.get("/blocked").elapsed.total_seconds() < 1
        writer.apply(Subject("user", "alice"), {"failures": _hour()})
        eventually(lambda: all(one.told("added") == ["alice"] for one in listeners), 10)
        api.process.send_signal(signal.SIGTERM)
        assert api.process.wait(8) == 0
        assert all(listener.ended.wait(5) for listener in listeners)
        assert "refused to gracefully stop" not in api.log.read_text()


def test_a_stream_is_read_by_get_and_one_address_has_a_share(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    report(redis_server)
    settings = {"BLOCKED_API_STREAM_CLIENTS_EACH": "2"}
    with running_api(tmp_path, redis_server.url("blocked_api"), settings) as api:
        api.wait_until_healthy()
        api.wait_for("/readyz", 200)
        address = f"http://127.0.0.1:{api.port}/blocked/stream"
        for method in ("HEAD", "POST", "DELETE"):
            answer = requests.request(method, address, timeout=10)
            assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")
        with listening(api), listening(api):
            refused = requests.get(address, timeout=10)
            assert (refused.status_code, refused.headers["Retry-After"]) == (429, "10")
        eventually(lambda: "blocked_api_stream_clients 0.0" in api.get("/metrics").text, 10)
        with listening(api):
            pass


def test_a_client_that_does_not_read_is_let_go_and_holds_up_nobody(
    api: RunningApi, writer: RedisBlockWriter
) -> None:
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    deaf.connect(("127.0.0.1", api.port))
    deaf.sendall(b"GET /blocked/stream HTTP/1.1\r\nHost: x\r\n\r\n")
    now = _now()
    long_name = "x" * 200
    with listening(api) as listener:
        for number in range(12_000):
            since = now - 20_000 + number  # a later decision each time
            entry = {"failures": block(since, since + HOUR)}
            writer.apply(Subject("user", f"{long_name}{number % 50}"), entry)
        eventually(partial(listener.has_told, 50), 20)
        eventually(lambda: len(listener.told("changed")) == 11_950, 20)
        eventually(lambda: "blocked_api_stream_clients 1.0" in api.get("/metrics").text, 60)
    deaf.close()


def test_clients_that_leave_are_forgotten(api: RunningApi) -> None:
    for _ in range(3):
        with listening(api):
            pass
    eventually(lambda: "blocked_api_stream_clients 0.0" in api.get("/metrics").text, 10)


def test_streams_are_bounded_and_want_the_token(tmp_path: Path, redis_server: RedisServer) -> None:
    report(redis_server)
    token = "a-token-of-many-characters"
    settings = {"BLOCKED_API_TOKEN": token, "BLOCKED_API_STREAM_CLIENTS": "1"}
    with running_api(tmp_path, redis_server.url("blocked_api"), settings) as api:
        api.wait_until_healthy()
        api.wait_for("/readyz", 200)
        address = f"http://127.0.0.1:{api.port}/blocked/stream"
        for wrong in ({}, {"Authorization": "Bearer x"}, {"Authorization": token}):
            answer = requests.get(address, headers=wrong, timeout=10)
            assert (answer.status_code, answer.json()) == (401, {"error": "Not authorised"})
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert api.get("/blocked").status_code == 401
        right = {"Authorization": f"Bearer {token}"}
        with requests.get(address, headers=right, stream=True, timeout=10) as first:
            assert first.status_code == 200
            second = requests.get(address, headers=right, timeout=10)
            assert (second.status_code, second.headers["Retry-After"]) == (503, "5")
        assert token not in api.log.read_text()
