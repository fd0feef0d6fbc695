"""The whole way by TLS, with users that may do what docs/kafka-security.md says, and no more."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import requests

from tests.support.secured_kafka import SecuredKafka
from tests.support.secured_stack import SecuredStack, running_secured_stack
from tests.support.services import REPOSITORY
from tests.support.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def create_topics(kafka: SecuredKafka) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "login_api.topics", "--partitions", "4"],
        env={**os.environ, **kafka.environment("LOGIN_API_", "topics")},
        cwd=REPOSITORY, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("created block-commands, block-events, login-attempts")
    assert told.stderr == ""


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredStack]:
    with running_secured_stack(tmp_path_factory.mktemp("secured"), create_topics) as running:
        yield running


def test_five_wrong_passwords_block(secured: SecuredStack) -> None:
    alice = {"user": "alice", "pass": "correct horse battery"}
    call = lambda path, body: requests.post(
        f"{secured.stack.login_url}/{path}", json=body, timeout=10
    )
    assert call("register", alice).status_code == 201
    assert requests.get(f"{secured.stack.login_url}/readyz").json()["kafka"] == "ok"
    for _ in range(5):
        assert call("login", {**alice, "pass": "wrong"}).status_code == 401
    eventually(lambda: call("login", alice).status_code == 403)
