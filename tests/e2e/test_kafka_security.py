"""The whole way by TLS, with users that may do what docs/kafka-security.md says, and no more."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import requests
from kafka import KafkaProducer

from flink_control.jar import with_settings
from flink_control.rest import FlinkError, FlinkRest
from login_api.attempt_history import KafkaAttemptHistory
from login_api.kafka_clients import client_arguments
from login_blocking.names import LOGIN_ATTEMPTS, LOGIN_ATTEMPTS_REJECTED
from tests.support.secured_kafka import ADMIN, Right, SecuredKafka
from tests.support.secured_stack import SecuredStack, running_secured_stack
from tests.support.services import REPOSITORY
from tests.support.waiting import eventually
from tests.support.written_files import written_files
from tools.stack import job

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

ALICE = {"user": "alice", "pass": "correct horse battery"}


def create_topics(kafka: SecuredKafka) -> None:
    told = topics(kafka.environment("LOGIN_API_", "topics"), "--partitions", "4")
    assert told.returncode == 0, told.stderr
    created = "block-commands, block-events, login-attempts, login-attempts-rejected"
    assert told.stdout == f"created {created}\n"
    assert told.stderr == ""


def topics(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(environment, "-m", "login_api.topics", *arguments)


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment}, cwd=REPOSITORY, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredStack]:
    with running_secured_stack(tmp_path_factory.mktemp("secured"), create_topics) as running:
        yield running


def call(secured: SecuredStack, path: str, body: dict[str, str]) -> int:
    url = f"{secured.stack.login_url}/{path}"
    return requests.post(url, json=body, timeout=30).status_code


def readiness(secured: SecuredStack) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(f"{secured.stack.login_url}/readyz", timeout=30).json()
    return found


def test_five_wrong_passwords_block_and_an_operator_unblocks(secured: SecuredStack) -> None:
    eventually(lambda: readiness(secured)["kafka"] == "ok")
    assert call(secured, "register", ALICE) == 201
    assert call(secured, "login", ALICE) == 200
    stranger = {**ALICE, "user": "bob"}
    assert [call(secured, "login", stranger) for _ in range(5)] == [401] * 5
    eventually(lambda: call(secured, "login", stranger) == 403)
    environment = secured.kafka.environment("LOGIN_API_", "login-api")
    command = (
        "-m",
        "flask",
        "--app",
        "login_api",
        "unblock",
        "bob",
        "--by",
        "eve",
        "--reason",
        "x",
    )
    told = run(environment, *command)
    assert (told.returncode, told.stderr) == (0, "")
    eventually(lambda: call(secured, "login", stranger) == 401)


def test_an_operator_looks_back_by_tls(secured: SecuredStack) -> None:
    call(secured, "login", {**ALICE, "user": "carol"})

    def found() -> list[str]:
        history = KafkaAttemptHistory(secured.kafka.access("login-api")).of_user("carol", 5)
        return [attempt.outcome.value for attempt in history.attempts]

    eventually(lambda: found() == ["failure"])


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["attempts", "carol"], "or user stranger may not see it"),
        (["block", "carol", "--reason", "x"], "user stranger lacks a right"),
    ],
)
def test_the_command_line_says_what_a_user_may_not(
    secured: SecuredStack, command: list[str], told: str
) -> None:
    environment = secured.kafka.environment("LOGIN_API_", "stranger")

    done = run(environment, "-m", "flask", "--app", "login_api", *command)

    assert done.returncode == 1
    assert told in done.stderr


def test_the_command_line_says_that_a_password_is_wrong(secured: SecuredStack) -> None:
    environment = secured.kafka.environment("LOGIN_API_", "login-api")
    environment["LOGIN_API_KAFKA_PASSWORD"] = "canary-wrong"
    for command in (["attempts", "carol"], ["block", "carol", "--reason", "x"]):
        done = run(environment, "-m", "flask", "--app", "login_api", *command)

        assert done.returncode == 1
        assert "LOGIN_API_KAFKA_USERNAME, LOGIN_API_KAFKA_PASSWORD" in done.stderr
        assert "canary-wrong" not in done.stderr


def test_what_is_no_attempt_is_put_aside(secured: SecuredStack) -> None:
    producer = KafkaProducer(**client_arguments(secured.kafka.access("login-api")))
    try:
        producer.send(LOGIN_ATTEMPTS, b"no attempt").get(timeout=30)
    finally:
        producer.close()
    with secured.kafka.consumer(ADMIN) as consumer:
        eventually(lambda: secured.kafka.length(consumer, LOGIN_ATTEMPTS_REJECTED) == 1)


def test_offsets_are_committed(secured: SecuredStack) -> None:
    def committed() -> bool:
        with secured.kafka.admin() as admin:
            return bool(admin.list_group_offsets({"block-detector": None})["block-detector"])

    eventually(committed)


def test_redis_is_rebuilt_by_whoever_may_read_the_events(secured: SecuredStack) -> None:
    environment = {
        **secured.kafka.environment("DETECTOR_", "operator"),
        "DETECTOR_REDIS_URL": secured.stack.redis_url("detector"),
    }
    told = run(environment, "-m", "tools.rebuild_redis", "--from-environment")
    assert told.returncode == 0, told.stderr
    stranger = environment | secured.kafka.environment("DETECTOR_", "stranger")
    told = run(stranger, "-m", "tools.rebuild_redis", "--from-environment")
    assert told.returncode == 1
    assert "topic block-events is missing" in told.stderr
    assert "or user stranger may not see it" in told.stderr


@pytest.mark.parametrize(
    ("carried", "told"),
    [
        ({"kafka_password": "wrong"}, "does not know this user or password"),
        ({"kafka_username": "stranger"}, "does not know this user or password"),
        (
            {"events_topic": "others", "bounded": True},
            "user detector lacks a right: docs/kafka-security.md (Write on topic others)",
        ),
        ({"kafka_bootstrap": "localhost"}, "its certificate is not accepted"),
        ({}, "user detector lacks a right: docs/kafka-security.md (FindCoordinator"),
    ],
)
def test_a_job_that_kafka_refuses_is_refused_with_the_reason(
    secured: SecuredStack, tmp_path: Path, carried: dict[str, Any], told: str
) -> None:
    carried = {"job_name": "others"} | carried  # beside the live one
    if "kafka_bootstrap" in carried:
        carried["kafka_bootstrap"] = f"localhost:{secured.kafka.port}"
    flink = FlinkRest(secured.stack.flink_url)
    jar = with_settings(job.JAR, tmp_path / "refused.jar", carried)
    before = flink.jobs()

    with pytest.raises(FlinkError, match=re.escape(told)):
        flink.submit(jar)

    assert len(flink.jobs()) == len(before)
    eventually(lambda: job.health(secured.stack)[0])


def test_no_right_to_write_is_told_and_nothing_is_lost(secured: SecuredStack) -> None:
    taken = [Right("login-api", "topic", LOGIN_ATTEMPTS, ("Write",))]
    secured.kafka.change_rights(taken, given=False)
    try:
        # The broker may know of it a moment later.
        eventually(lambda: call(secured, "login", {**ALICE, "user": "dora"}) and waiting(secured))
    finally:
        secured.kafka.change_rights(taken)
    log = (secured.logs / "login-api" / "output.log").read_text()
    assert "user login-api lacks a right" in log
    eventually(lambda: waiting(secured) == 0 and readiness(secured)["kafka"] == "ok")


def waiting(secured: SecuredStack) -> int:
    return int(readiness(secured)["outbox"] or 0)


def test_passwords_stand_nowhere(secured: SecuredStack) -> None:
    """Last, so that all of the above had its chance, exceptions with their table options too."""
    secrets = {user: password[-16:] for user, password in secured.kafka.passwords.items()}
    secrets |= asdict(secured.stack.secrets)
    texts = {str(path): content for path, content in output_files(secured)}
    texts |= {url: requests.get(url, timeout=30).content for url in pages(secured)}

    found = {
        f"{user} in {where}"
        for where, text in texts.items()
        for user, secret in secrets.items()
        if secret.encode() in text
    }

    assert found == set()
    # What was looked at is what the job's names stand in: logs and pages.
    told = {where for where, text in texts.items() if b"block-detector" in text}
    assert any(where.startswith("http") for where in told)
    assert any(where.startswith("/") for where in told)


def output_files(secured: SecuredStack) -> Iterator[tuple[Path, bytes]]:
    flink_log = secured.stack.data / "flink" / "home" / "log"
    return written_files(secured.logs, secured.stack.checkpoints, flink_log, secured.kafka.log)


def pages(secured: SecuredStack) -> list[str]:
    """What the web UI is made of."""
    flink = secured.stack.flink_url
    jobs = [entry["jid"] for entry in FlinkRest(flink).jobs()]
    of_a_job = ("", "/plan", "/config", "/exceptions", "/checkpoints", "/checkpoints/config")
    pages = [f"{flink}/jobs/{each}{part}" for each in jobs for part in of_a_job]
    vertices = [
        (each, vertex["id"]) for each in jobs for vertex in FlinkRest(flink).job(each)["vertices"]
    ]
    pages += [f"{flink}/jobs/{each}/vertices/{vertex}" for each, vertex in vertices]
    manager = ("config", "environment", "log", "stdout", "logs", "thread-dump")
    pages += [f"{flink}/jobmanager/{part}" for part in manager]
    answer = requests.get(f"{flink}/taskmanagers", timeout=30).json()
    (task_manager,) = [entry["id"] for entry in answer["taskmanagers"]]
    pages += [f"{flink}/taskmanagers/{task_manager}/{part}" for part in ("", "log", "thread-dump")]
    return [*pages, f"{flink}/config", f"{secured.stack.login_url}/metrics"]
