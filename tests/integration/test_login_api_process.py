"""The Login API as it is deployed: `python -m login_api` before real Postgres, Redis and Kafka."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from login_blocking.attempts import Attempt, decode
from login_blocking.names import BLOCK_COMMANDS, blocked_set
from tests.contract.test_login_api_record_publisher import records
from tests.support.login_api import credentials
from tests.support.services import (
    REPOSITORY,
    KafkaServer,
    PostgresServer,
    RedisServer,
    ServerProcess,
    free_port,
)

pytestmark = pytest.mark.service

_READY_WITHIN_S = 30.0
_ANSWER_WITHIN_S = 2.5
ALICE = credentials("alice", "correct horse 9")


@dataclass(frozen=True, slots=True)
class RunningApi:
    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def post(self, call: str, document: Mapping[str, str]) -> requests.Response:
        return requests.post(f"{self.address}{call}", json=document, timeout=10)

    def get(self, call: str) -> requests.Response:
        return requests.get(f"{self.address}{call}", timeout=10)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_WITHIN_S
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the Login API is not ready:\n{self.log.read_text()[-2_000:]}")
            time.sleep(0.1)

    def outbox(self) -> int | None:
        """How many records wait; None while nobody can tell."""
        try:
            waiting: int | None = self.get("/readyz").json()["outbox"]
        except requests.ConnectionError:
            return None
        return waiting

    def wait_until_unready(self) -> list[str]:
        """The parts that /readyz says are down; its last verdict may still be a second old."""
        deadline = time.monotonic() + _READY_WITHIN_S
        while (answer := self.get("/readyz")).status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return [name for name, state in answer.json().items() if state == "down"]

    def _ready(self) -> bool:
        try:
            return self.get("/readyz").status_code == 200
        except requests.ConnectionError:
            return False


@contextmanager
def running_api(folder: Path, settings: Mapping[str, str]) -> Iterator[RunningApi]:
    port = free_port()
    log = folder / f"login-api-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "login_api"],
            cwd=folder,
            env={
                **os.environ,
                **settings,
                "LOGIN_API_PORT": str(port),
                "PYTHONPATH": str(REPOSITORY),
            },
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield RunningApi(f"http://127.0.0.1:{port}", process, log)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def settings(
    redis_server: RedisServer, postgres_server: PostgresServer, kafka_server: KafkaServer
) -> dict[str, str]:
    return {
        "LOGIN_API_DATABASE_URL": postgres_server.new_database(),
        "LOGIN_API_REDIS_URL": redis_server.url("login_api"),
        "LOGIN_API_KAFKA_BOOTSTRAP": kafka_server.bootstrap,
        "LOGIN_API_PLACES_KEY": "the key of the tests",
    }


@pytest.fixture
def api(tmp_path: Path, settings: dict[str, str]) -> Iterator[RunningApi]:
    with running_api(tmp_path, settings) as running:
        running.wait_until_ready()
        yield running


def test_register_log_in_guess_and_get_blocked(
    api: RunningApi, redis_server: RedisServer, kafka_server: KafkaServer
) -> None:
    assert api.post("/login", ALICE).status_code == 401
    assert api.post("/register", ALICE).status_code == 201
    assert api.post("/register", ALICE).status_code == 409
    assert api.post("/login", ALICE).json() == {"success": True}
    wrong = api.post("/login", credentials("alice", "guess"))
    unknown = api.post("/login", credentials("mallory", "guess"))
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.content == unknown.content == b'{"error":"Wrong password"}\n'
    until = time.time_ns() // 1_000_000 + 60_000
    with redis_server.admin() as admin:
        admin.zadd(blocked_set("user"), {"alice": until})
        try:
            blocked = api.post("/login", ALICE)
        finally:
            admin.zrem(blocked_set("user"), "alice")
    assert blocked.status_code == 403
    assert blocked.headers["Retry-After"] == "60"
    # A fresh process keeps what it cannot publish yet.
    outcomes = arrived(kafka_server, "alice", 4)
    assert outcomes == ["failure", "success", "failure", "blocked"]


def test_many_clients_at_once_all_get_an_answer(api: RunningApi) -> None:
    with ThreadPoolExecutor(16) as clients:
        guesses = [credentials(f"user{number}", "guess") for number in range(48)]
        answers = list(clients.map(lambda guess: api.post("/login", guess).status_code, guesses))
    assert set(answers) <= {401, 503}
    # How many of them wait too long for a hash is the machine's speed, not a rule.
    assert 401 in answers
    assert api.post("/login", credentials("afterwards", "guess")).status_code == 401


def test_a_flood_of_hashes_is_refused_and_leaves_room_to_report(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    slow = {**settings, "LOGIN_API_ARGON2_TIME_COST": "40"}  # half a second each
    with running_api(tmp_path, slow) as api, ThreadPoolExecutor(100) as threads:
        api.wait_until_ready()
        flood = [
            threads.submit(api.post, "/login", credentials(f"nobody-{number}", "a guess"))
            for number in range(100)
        ]
        time.sleep(0.3)
        began = time.monotonic()
        assert api.get("/healthz").status_code == 200
        assert time.monotonic() - began < 1
        answers = Counter(answer.result().status_code for answer in flood)
    assert set(answers) <= {401, 429, 503}
    assert answers[503] > 50


def test_a_body_without_a_declared_length_is_measured_too(api: RunningApi) -> None:
    answer = requests.post(
        f"{api.address}/login",
        data=(b" " * 1_000 for _ in range(17)),
        headers={"Content-Type": "application/json"},
        timeout=10,
    )
    assert (answer.status_code, answer.json()) == (413, {"error": "body: at most 16384 bytes"})


@pytest.mark.parametrize("part", ["redis", "postgres"])
def test_a_part_that_stands_still_gives_503_in_time_and_comes_back(
    api: RunningApi,
    redis_server: RedisServer,
    postgres_server: PostgresServer,
    part: str,
) -> None:
    servers: dict[str, ServerProcess] = {
        "redis": redis_server.process,
        "postgres": postgres_server.process,
    }
    api.post("/register", ALICE)
    servers[part].pause()
    try:
        for _ in range(2):
            began = time.monotonic()
            answer = api.post("/login", ALICE)
            assert time.monotonic() - began < _ANSWER_WITHIN_S
            assert answer.status_code == 503
            assert answer.headers["Retry-After"] == "1"
        assert api.wait_until_unready() == [part]
        assert api.get("/healthz").status_code == 200
    finally:
        servers[part].resume()
    api.wait_until_ready()
    assert api.post("/login", ALICE).status_code == 200


def test_while_kafka_stands_still_logins_go_on_and_what_they_did_arrives_later(
    api: RunningApi, kafka_server: KafkaServer
) -> None:
    assert api.post("/register", ALICE).status_code in (201, 409)
    wrong = credentials(f"user-{uuid.uuid4().hex[:8]}", "guess")
    kafka_server.process.pause()
    try:
        began = time.monotonic()
        answers = [api.post("/login", wrong).status_code for _ in range(4)]
        assert time.monotonic() - began < _ANSWER_WITHIN_S
        deadline = time.monotonic() + 10
        while (ready := api.get("/readyz")).json()["kafka"] != "degraded":
            assert time.monotonic() < deadline
        assert ready.status_code == 200
    finally:
        kafka_server.process.resume()
    assert answers == [401] * 4
    assert arrived(kafka_server, wrong["user"], 4) == ["failure"] * 4


def test_what_was_answered_has_arrived_when_it_has_ended(
    api: RunningApi, kafka_server: KafkaServer
) -> None:
    answered: list[tuple[str, int]] = []
    refused = f"user-{uuid.uuid4().hex[:8]}"

    def guess() -> None:
        with contextlib.suppress(requests.ConnectionError):
            while True:
                for name in (f"user-{uuid.uuid4().hex[:8]}", refused):
                    status = api.post("/login", credentials(name, "guess")).status_code
                    answered.append((name, status))

    guessers = [threading.Thread(target=guess) for _ in range(4)]
    for guesser in guessers:
        guesser.start()
    while len(answered) < 40:
        time.sleep(0.01)
    api.process.send_signal(signal.SIGTERM)
    assert api.process.wait(8) == 0
    for guesser in guessers:
        guesser.join()
    published = [decode(it.value) for it in records(kafka_server.bootstrap)]
    failures = Counter(it.user for it in published if it.outcome == "failure")
    limited = Counter(it.user for it in published if it.outcome == "limited")
    assert {failures[name] for name, status in answered if status == 401} == {1, 5}
    assert failures[refused] == answered.count((refused, 401)) == 5
    assert limited[refused] >= answered.count((refused, 429)) > 0


def test_what_a_killed_process_had_answered_is_published_by_the_next(
    tmp_path: Path, settings: dict[str, str], kafka_server: KafkaServer
) -> None:
    names = [f"user-{uuid.uuid4().hex[:8]}" for _ in range(20)]
    with running_api(tmp_path, settings) as killed:
        killed.wait_until_ready()
        kafka_server.process.pause()
        try:
            for name in names:
                assert killed.post("/login", credentials(name, "guess")).status_code == 401
            os.killpg(killed.process.pid, signal.SIGKILL)
            killed.process.wait(10)
        finally:
            kafka_server.process.resume()
    with running_api(tmp_path, settings) as successor:
        deadline = time.monotonic() + 30
        while successor.outbox() != 0:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert [len(attempts_of(kafka_server, name)) for name in names] == [1] * len(names)


def attempts_of(kafka: KafkaServer, user: str) -> list[Attempt]:
    return [decode(it.value) for it in records(kafka.bootstrap) if it.key == user.encode()]


def arrived(kafka: KafkaServer, user: str, count: int) -> list[str]:
    """The outcomes of a user's attempts, once there are so many."""
    deadline = time.monotonic() + 30
    while True:
        own = [it.outcome.value for it in attempts_of(kafka, user) if it.ip == "127.0.0.1"]
        if len(own) >= count:
            return own
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_on_a_signal_within_seconds_and_well(api: RunningApi, how: signal.Signals) -> None:
    assert api.post("/login", ALICE).status_code == 401
    api.process.send_signal(how)
    assert api.process.wait(8) == 0
    assert "Traceback" not in api.log.read_text()


def test_two_may_start_at_once_on_an_empty_database(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    with running_api(tmp_path, settings) as one, running_api(tmp_path, settings) as other:
        one.wait_until_ready()
        other.wait_until_ready()
        assert one.post("/register", ALICE).status_code == 201
        assert other.post("/login", ALICE).status_code == 200


def test_several_workers_add_up_their_figures(tmp_path: Path, settings: dict[str, str]) -> None:
    with running_api(tmp_path, {**settings, "LOGIN_API_WORKERS": "2"}) as api:
        api.wait_until_ready()
        users = [credentials(f"user{number}", "guess") for number in range(10)]
        answers = [api.post("/login", user).status_code for user in users]
        figures = api.get("/metrics").text
    assert set(answers) <= {401, 503}  # the second worker may still be on its way to Kafka
    assert f'login_api_attempts_total{{outcome="failure"}} {answers.count(401)}.0' in figures


def test_without_postgres_it_says_so_and_ends(tmp_path: Path, settings: dict[str, str]) -> None:
    nobody_there = f"postgresql://app:hunter2@127.0.0.1:{free_port()}/app"
    with running_api(tmp_path, {**settings, "LOGIN_API_DATABASE_URL": nobody_there}) as api:
        assert api.process.wait(30) == 1
        written = api.log.read_text()
    assert written.startswith("Postgres does not answer")
    assert "hunter2" not in written


def test_an_operator_blocks_and_looks_back_from_the_command_line(
    api: RunningApi, settings: dict[str, str], kafka_server: KafkaServer
) -> None:
    name = f"user-{uuid.uuid4().hex[:8]}"
    for _ in range(3):
        api.post("/login", credentials(name, "guess"))
    arrived(kafka_server, name, 3)

    told = _flask(settings, "attempts", name, "--limit", "2")
    assert (told.returncode, told.stderr) == (0, "")
    shown = [json.loads(line) for line in told.stdout.splitlines()]
    assert [attempt["user"] for attempt in shown] == [name, name]
    assert shown[0]["ts"] >= shown[1]["ts"]

    done = _flask(settings, "block", name, "--by", "eve", "--reason", "stolen", "--for", "2h")
    assert (done.returncode, done.stderr) == (0, "")
    commands = records(kafka_server.bootstrap, BLOCK_COMMANDS)
    (command,) = [it.value for it in commands if it.key == name.encode()]
    assert b'"by":"eve"' in command


def test_the_command_line_says_what_is_missing(settings: dict[str, str]) -> None:
    assert "attempts" in _flask(settings, "--help").stdout
    wrong = _flask(settings, "block", "alice", "--reason", "x", "--for", "soon", "--by", "eve")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
    nowhere = {**settings, "LOGIN_API_KAFKA_BOOTSTRAP": ""}
    unset = _flask(nowhere, "unblock", "alice", "--reason", "x", "--by", "eve")
    assert unset.returncode == 1
    assert "LOGIN_API_KAFKA_BOOTSTRAP: host:port is wanted" in unset.stderr


def _flask(settings: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "login_api", *arguments],
        env={**os.environ, **settings}, cwd=REPOSITORY, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
