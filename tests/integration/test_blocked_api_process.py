"""The Blocked API as it is deployed: `python -m blocked_api` before a real Redis."""

import json
import select
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import redis
import requests

from flink_jobs.redis_writer import RedisBlockWriter
from login_blocking.subjects import Subject
from tests.support.block_entries import block
from tests.support.running_blocked_api import (
    HOUR,
    SCRIPT,
    RunningApi,
    report,
    running_api,
)
from tests.support.services import RedisServer, running_redis
from tests.support.waiting import eventually
from tools import list_servers

pytestmark = pytest.mark.service


@pytest.fixture
def api(tmp_path: Path, redis_server: RedisServer) -> Iterator[RunningApi]:
    report(redis_server)
    with running_api(tmp_path, redis_server.url("blocked_api")) as running:
        running.wait_until_healthy()
        running.wait_for("/readyz", 200)  # healthy it is before it has read the list
        yield running
    with redis_server.admin() as admin:
        admin.flushall()


def _block(redis_server: RedisServer, *names: str) -> None:
    writer = RedisBlockWriter(redis_server.url("detector"), SCRIPT)
    now = time.time_ns() // 1_000_000
    for name in names:
        writer.apply(Subject("user", name), {"failures": block(now, now + HOUR)})
    writer.close()


def test_a_block_that_the_detector_writes_is_shown(
    api: RunningApi, redis_server: RedisServer
) -> None:
    assert api.get("/blocked").content == b'{"users-blocked":[]}\n'
    assert api.get("/blocked/users/user1").status_code == 404
    _block(redis_server, "user2", "user1", "a/b//c/")
    assert api.get("/blocked").content == b'{"users-blocked":["a/b//c/","user1","user2"]}\n'
    assert api.get("/blocked/users/USER1").json()["rule"] == "failures"
    assert api.get("/blocked/users/a%2Fb//c%2F").json()["subject"] == "a/b//c/"
    ready = api.get("/readyz")
    assert ready.json() == {"redis": "ok", "list": "complete"}
    assert ready.headers["Block-List-Status"] == "complete"


ODD_REQUESTS = {
    b"GET /blocked/users/%FF HTTP/1.1": 400,
    b"GET /blocked/users/\xff HTTP/1.1": 400,
    b"GET /blocked/users/%00 HTTP/1.1": 400,
    b"GET /blocked/users/% HTTP/1.1": 404,
    b"GET /blocked/users/" + b"a" * 60_000 + b" HTTP/1.1": 400,
    b"GET /blocked/users/" + b"a" * 100_000 + b" HTTP/1.1": 414,
    b"GET http://127.0.0.1/blocked HTTP/1.1": 200,
    b"GET * HTTP/1.1": 404,
    b"GARBAGE": 400,
    b"DELETE /blocked HTTP/1.1": 405,
    b"FOO /blocked HTTP/1.1": 405,
}


def test_odd_requests_get_an_answer_that_is_no_server_error(api: RunningApi) -> None:
    statuses = {line: _status_of(api, line) for line in ODD_REQUESTS}
    assert statuses == ODD_REQUESTS


def _status_of(api: RunningApi, request_line: bytes) -> int:
    with socket.create_connection(("127.0.0.1", api.port), timeout=10) as connection:
        connection.sendall(request_line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
        with connection.makefile("rb") as answer:
            return int(answer.readline().split()[1])


def test_a_huge_body_is_not_waited_for(api: RunningApi) -> None:
    address = f"http://127.0.0.1:{api.port}/blocked"
    for method, status in (("GET", 200), ("POST", 405)):
        answer = requests.request(method, address, data=b"x" * 5_000_000, timeout=10)
        assert answer.status_code == status


def test_a_redis_that_hangs_gives_503_within_a_second_to_every_client(
    api: RunningApi, redis_server: RedisServer
) -> None:
    _block(redis_server, "user1")
    assert api.get("/blocked").json() == {"users-blocked": ["user1"]}
    redis_server.process.pause()
    try:
        with ThreadPoolExecutor(48) as clients:
            answers = list(clients.map(api.get, ["/blocked", "/healthz", "/readyz"] * 48))
    finally:
        redis_server.process.resume()
    for number, answer in enumerate(answers):
        assert answer.status_code == (200 if number % 3 == 1 else 503)
        assert answer.elapsed.total_seconds() < 1.5  # one second, on a machine with other work
        assert number % 3 or answer.headers["Retry-After"] == "1"
    assert api.wait_for("/blocked", 200).json() == {"users-blocked": ["user1"]}
    assert "blocked_api_redis_failures_total 0.0" not in api.get("/metrics").text


def test_bodies_that_do_not_come_hold_up_nobody(api: RunningApi) -> None:
    stalled = []
    try:
        for number in range(300):
            path = "/blocked/check" if number % 2 else "/x"
            connection = socket.create_connection(("127.0.0.1", api.port), timeout=10)
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Content-Length: 5\r\n\r\n".encode())
            stalled.append(connection)
        for call in ("/healthz", "/readyz", "/blocked", "/blocked/users/alice"):
            assert api.get(call).status_code in (200, 404)
        with stalled[1].makefile("rb") as answer:
            assert b" 408 " in answer.readline()
    finally:
        for connection in stalled:
            connection.close()


def test_clients_that_do_not_read_cost_a_piece_each_not_the_list(
    api: RunningApi, redis_server: RedisServer
) -> None:
    _fill(redis_server, 20_000)
    size = len(api.get("/blocked/changes").content)
    assert size > 2_000_000
    (worker,) = psutil.Process(api.process.pid).children(recursive=True)
    before = worker.memory_info().rss
    unread = []
    try:
        for _ in range(50):
            connection = socket.create_connection(("127.0.0.1", api.port), timeout=10)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            connection.sendall(b"GET /blocked/changes HTTP/1.1\r\nHost: x\r\n\r\n")
            unread.append(connection)
        eventually(lambda: all(_has_answer(connection) for connection in unread), 20)
        assert api.get("/blocked/users/alice").status_code == 404
        grown = worker.memory_info().rss - before
        assert grown < 50 * size / 4, f"{grown / 1e6:.0f} MB"
    finally:
        for connection in unread:
            connection.close()


def _has_answer(connection: socket.socket) -> bool:
    return bool(select.select([connection], [], [], 0)[0])


def _fill(redis_server: RedisServer, count: int) -> None:
    now = time.time_ns() // 1_000_000
    with redis.Redis.from_url(redis_server.url("detector")) as detector:
        for start in range(0, count, 1_000):
            names = [f"user{number:06}" for number in range(start, start + 1_000)]
            changes = [(Subject("user", name), list_servers.hour_from(now)) for name in names]
            list_servers.apply(detector, changes)


def test_redis_may_come_later_go_and_come_back(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    with running_redis(tmp_path / "redis") as server:
        report(server)
        _block(server, "user1")
        with running_api(tmp_path, server.url("blocked_api")) as api:
            api.wait_until_healthy()
            assert api.wait_for("/blocked", 200).json() == {"users-blocked": ["user1"]}
            server.process.kill()
            answer = api.get("/blocked")
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            assert api.get("/readyz").json() == {"redis": "down", "list": "unknown"}
            assert api.get("/healthz").status_code == 200
            with running_redis(tmp_path / "redis", server.port, server.passwords):
                again = api.wait_for("/blocked", 200)
                assert again.json() == {"users-blocked": ["user1"]}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_on_a_signal_within_seconds_and_well(api: RunningApi, how: signal.Signals) -> None:
    assert api.get("/blocked").status_code == 200
    api.process.send_signal(how)
    assert api.process.wait(8) == 0
    assert "Traceback" not in api.log.read_text()


def test_the_log_is_one_document_a_request(api: RunningApi) -> None:
    identity = api.get("/blocked/users/alice").headers["X-Request-Id"]
    lines = [line for line in api.log.read_text().splitlines() if line.startswith("{")]
    logged = [json.loads(line) for line in lines]
    (line,) = [line for line in logged if line.get("request_id") == identity]
    assert line["route"] == "/blocked/users/<rest:name>"
    assert line["status"] == 404


def test_several_workers_add_up_their_figures(tmp_path: Path, redis_server: RedisServer) -> None:
    report(redis_server)
    settings = {"BLOCKED_API_WORKERS": "2"}
    with running_api(tmp_path, redis_server.url("blocked_api"), settings) as api:
        api.wait_until_healthy()
        # Counted a moment before the list is there, and said when it is.
        eventually(lambda: "blocked_api_list_reads_total 2.0" in api.get("/metrics").text, 30)
        eventually(lambda: api.log.read_text().count("list read") == 2, 30)
        for _ in range(20):
            assert api.get("/blocked").status_code == 200
        figures = api.get("/metrics").text
    assert 'blocked_api_request_seconds_count{route="/blocked",status="200"} 20.0' in figures
    assert "blocked_api_list_reads_total 2.0" in figures


def test_without_an_address_of_redis_it_says_so_and_ends(tmp_path: Path) -> None:
    with running_api(tmp_path, None) as api:
        assert api.process.wait(30) == 2
        assert api.log.read_text() == "BLOCKED_API_REDIS_URL: Field required\n"


def test_a_port_that_is_taken_ends_it(tmp_path: Path, redis_server: RedisServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = {"BLOCKED_API_PORT": str(taken.getsockname()[1])}
        with running_api(tmp_path, redis_server.url("blocked_api"), settings) as api:
            assert api.process.wait(30) != 0
