"""Redis frozen, stopped and emptied while clients ask and listen (design.md §9)."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest
import redis
import requests

from flink_jobs.redis_writer import RedisBlockWriter
from login_blocking.subjects import Subject
from tests.integration.test_blocked_api_stream import Listener, listening
from tests.support.running_blocked_api import SCRIPT, RunningApi, report, running_api
from tests.support.services import RedisServer, running_redis
from tests.support.waiting import eventually
from tools import list_servers

pytestmark = pytest.mark.service

BLOCKED = [f"user{number:04}" for number in range(500)]
CALLS = ("/blocked", "/blocked/users/user0007", "/blocked/changes", "/readyz", "/healthz")


class Load:
    """Four threads that ask without a pause; whatever is odd about an answer is noted."""

    def __init__(self, api: RunningApi) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()
        self.oddities: list[str] = []
        self.slowest_s = 0.0
        self._api = api
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(4)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        with requests.Session() as session:
            while not self._over.is_set():
                call = CALLS[number % len(CALLS)]
                number += 1
                answer = session.get(f"http://127.0.0.1:{self._api.port}{call}", timeout=10)
                self.answers[call, answer.status_code] += 1
                self.slowest_s = max(self.slowest_s, answer.elapsed.total_seconds())
                self._look(call, answer)

    def _look(self, call: str, answer: requests.Response) -> None:
        if answer.status_code == 503:
            if "Retry-After" not in answer.headers and call != "/readyz":
                self.oddities.append(f"{call}: 503 without Retry-After")
        elif answer.status_code == 404 and answer.headers["Block-List-Status"] == "refilling":
            pass  # not in the list yet, and it is said that blocks may be missing
        elif answer.status_code != 200:
            self.oddities.append(f"{call}: {answer.status_code}")
        elif call == "/blocked":
            told = answer.headers["Block-List-Status"]
            if answer.json()["users-blocked"] != BLOCKED and told == "complete":
                self.oddities.append(f"a list said to be complete: {answer.text[:80]}")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[ExitStack, RedisServer]]:
    (tmp_path / "redis").mkdir()
    with ExitStack() as until_end:
        server = until_end.enter_context(running_redis(tmp_path / "redis"))
        yield until_end, server


def _fill(server: RedisServer) -> None:
    now = time.time_ns() // 1_000_000
    with redis.Redis.from_url(server.url("detector")) as detector:
        changes = [(Subject("user", name), list_servers.hour_from(now)) for name in BLOCKED]
        list_servers.apply(detector, changes)


def test_redis_stopped_and_emptied_under_load(
    tmp_path: Path, server: tuple[ExitStack, RedisServer]
) -> None:
    until_end, redis_server = server
    report(redis_server)
    _fill(redis_server)
    no_bound = {"BLOCKED_API_LISTS_A_MINUTE": "0"}
    api = until_end.enter_context(running_api(tmp_path, redis_server.url("blocked_api"), no_bound))
    api.wait_until_healthy()
    api.wait_for("/blocked", 200)
    listeners: list[Listener] = [until_end.enter_context(listening(api)) for _ in range(20)]
    with Load(api) as load:
        eventually(lambda: load.answers["/blocked", 200] > 20, 20)

        redis_server.process.pause()  # frozen: connections stay open and nothing answers
        eventually(lambda: load.answers["/blocked", 503] > 5, 20)
        redis_server.process.resume()
        _eventually_again(load)

        redis_server.process.kill()
        refused = load.answers["/blocked", 503]
        eventually(lambda: load.answers["/blocked", 503] > refused + 5, 20)
        again = running_redis(tmp_path / "redis", redis_server.port, redis_server.passwords)
        until_end.enter_context(again)
        _eventually_again(load)

        with redis_server.admin() as admin:
            admin.flushall()
        refused = load.answers["/blocked", 503]
        eventually(lambda: load.answers["/blocked", 503] > refused + 5, 20)
        report(redis_server, complete=False)
        _fill(redis_server)
        _eventually_again(load)
        report(redis_server)
        eventually(lambda: _told(api) == "complete", 20)
    assert load.oddities == []
    assert load.answers["/healthz", 503] == 0
    assert load.answers["/healthz", 200] > 20
    assert load.slowest_s < 2
    writer = RedisBlockWriter(redis_server.url("detector"), SCRIPT)
    now = time.time_ns() // 1_000_000
    writer.apply(Subject("user", "newcomer"), {"user-failures": list_servers.hour_from(now)})
    writer.close()
    for listener in listeners:
        eventually(lambda it=listener: "newcomer" in it.told("added"), 10)  # type: ignore[misc]
        assert not listener.ended.is_set()
        assert "reset" in [event.name for event in listener.events]


def _eventually_again(load: Load) -> None:
    answered = load.answers["/blocked", 200]
    eventually(lambda: load.answers["/blocked", 200] > answered + 20, 20)


def _told(api: RunningApi) -> str:
    return api.get("/blocked").headers["Block-List-Status"]
