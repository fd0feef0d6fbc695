"""`python -m blocked_client.auth_request` as a process, asked over real sockets."""

import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from tests.support.fake_blocked_api import FakeBlockedApi
from tests.support.services import REPOSITORY, free_port
from tests.support.waiting import eventually

pytestmark = pytest.mark.service


@contextmanager
def running(command: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stderr=subprocess.PIPE
    )

    def answers() -> bool:
        assert process.poll() is None, process.stderr and process.stderr.read()
        try:
            requests.get(f"http://127.0.0.1:{port}/", timeout=10)
        except requests.ConnectionError:
            return False
        return True

    try:
        eventually(answers, within_s=20)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stderr is not None
        process.stderr.close()


@contextmanager
def running_auth_request(
    api: FakeBlockedApi, port: int, *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "blocked_client.auth_request", "--url", api.url]
    with running([*command, "--port", str(port), *options], port) as process:
        yield process


@pytest.fixture
def api() -> Iterator[FakeBlockedApi]:
    with FakeBlockedApi().serving() as serving:
        yield serving


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def auth(api: FakeBlockedApi, port: int) -> Iterator[int]:
    api.block("alice", "josé", "voilà")
    with running_auth_request(api, port):
        eventually(lambda: told(port, "/readyz") == 200, within_s=10)
        yield port


def told(port: int, path: str = "/", *headers: bytes) -> int:
    """The status that these header lines are answered with, byte for byte."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        lines = [f"GET {path} HTTP/1.0".encode(), *headers, b"", b""]
        connection.sendall(b"\r\n".join(lines))
        with connection.makefile("rb") as answer:
            return int(answer.readline().split()[1])


HEADERS = {
    b"X-Forwarded-User: bob": 204,
    b"X-Forwarded-User: alice": 403,
    b"X-Forwarded-User: \tALICE ": 403,
    "X-Forwarded-User: José".encode(): 403,
    "X-Forwarded-User: José".encode("latin-1"): 403,
    "X-Forwarded-User: müller".encode("latin-1"): 403,
    "X-Forwarded-User: voilà".encode(): 403,
    "X-Forwarded-User: là".encode(): 204,  # whose last byte is a blank in Latin-1
    b"X-Forwarded-User: bob\0": 403,
    b"X-Forwarded-User: " + b"a" * 60_000: 403,
    b"X-Forwarded-User: " + b"a" * 100_000: 431,
    b"X-Forwarded-User: bob\r\nX_Forwarded_User: alice": 204,
    b"X-Forwarded-User: alice\r\nX_Forwarded_User: bob": 403,
    b"X_Forwarded_User: bob\r\nX-Forwarded-User: alice": 403,
    b"X-Forwarded-User: alice\r\nX-Forwarded-User: bob": 400,
    b"X-Forwarded-For: 198.51.100.1\r\nno header\r\nX-Forwarded-User: alice": 400,
    b"X-Forwarded-User: bob\r\nContent-Type: multipart/form-data": 204,
    b"Host: x": 403,
}


@pytest.mark.parametrize(("headers", "status"), HEADERS.items(), ids=range(len(HEADERS)))
def test_only_a_name_that_can_be_read_is_let_pass(auth: int, headers: bytes, status: int) -> None:
    assert told(auth, "/", headers) == status


def test_it_refuses_until_the_list_is_there(api: FakeBlockedApi, port: int) -> None:
    api.instead["/blocked/changes"] = (503, {}, b"{}")
    user = b"X-Forwarded-User: bob"
    with running_auth_request(api, port):
        assert told(port, "/", user) == 403
        assert told(port, "/healthz") == 200
        ready = requests.get(f"http://127.0.0.1:{port}/readyz", timeout=10)
        assert ready.status_code == 503
        assert ready.json() == {"list_known": False, "state": "unreachable", "age_s": None}
        del api.instead["/blocked/changes"]
        eventually(lambda: told(port, "/", user) == 204, within_s=30)
        ready = requests.get(f"http://127.0.0.1:{port}/readyz", timeout=10)
        assert (ready.status_code, ready.json()["state"]) == (200, "complete")
    api.instead["/blocked/changes"] = (503, {}, b"{}")
    with running_auth_request(api, port, "--when-unknown", "allow"):
        assert told(port, "/", user) == 204


def test_a_failed_connection_is_logged_by_its_kind(api: FakeBlockedApi, port: int) -> None:
    with running_auth_request(api, port) as process:
        for number in (1, 2):
            with socket.create_connection(("127.0.0.1", port), 10) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\nX-Forwarded-User: alice\r\n")
                reset = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            assert process.stderr is not None
            line = process.stderr.readline().decode()
            expected = f"WARNING connection failed: ConnectionResetError, number {number}\n"
            assert line.endswith(expected)


@pytest.mark.parametrize("age", ["19", "nan", "0", "-1", "soon"])
def test_an_age_that_cannot_be_meant_is_refused(age: str) -> None:
    command = [sys.executable, "-m", "blocked_client.auth_request", "--max-age", age]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    told = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=30)
    assert told.returncode == 2
    assert b"max" in told.stderr
