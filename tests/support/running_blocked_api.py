"""The Blocked API as a process of its own, before whatever Redis a test has."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from login_blocking.names import BLOCK_STATE
from tests.support.services import REPOSITORY, RedisServer, free_port

READY_WITHIN_S = 30.0
SCRIPT = (REPOSITORY / "redis" / "apply_block.lua").read_text()
HOUR = 3_600_000


@dataclass(frozen=True, slots=True)
class RunningApi:
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def get(self, call: str) -> requests.Response:
        return requests.get(f"http://127.0.0.1:{self.port}{call}", timeout=10)

    def wait_until_healthy(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._healthy():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the Blocked API is not there:\n{self.log.read_text()[-2_000:]}")
            time.sleep(0.05)

    def wait_for(self, call: str, status: int) -> requests.Response:
        deadline = time.monotonic() + READY_WITHIN_S
        while (answer := self.get(call)).status_code != status:
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.05)
        return answer

    def _healthy(self) -> bool:
        try:
            return self.get("/healthz").status_code == 200
        except requests.ConnectionError:
            return False


@contextmanager
def running_api(
    folder: Path, redis_url: str | None, settings: Mapping[str, str] | None = None
) -> Iterator[RunningApi]:
    given = {"BLOCKED_API_PORT": str(free_port()), **(settings or {})}
    if redis_url is not None:
        given["BLOCKED_API_REDIS_URL"] = redis_url
    log = folder / "blocked-api.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "blocked_api"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **given},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield RunningApi(int(given["BLOCKED_API_PORT"]), process, log)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def report(redis_server: RedisServer, *, complete: bool = True) -> None:
    """As the detector's heartbeats leave it, for an hour to come: no slow start makes it stale."""
    now = time.time_ns() // 1_000_000
    with redis_server.admin() as admin:
        admin.hsetnx(BLOCK_STATE, "generation", str(now))
        complete_at = now - 1 if complete else now + 60_000
        admin.hset(BLOCK_STATE, mapping={"complete_at": complete_at, "heartbeat": now + HOUR})
