"""What the Blocked API answers when blocks cannot be read, or its own code is wrong."""

from typing import NoReturn

import pytest
from structlog.testing import capture_logs

from blocked_api.app import create_app
from tests.support.blocked_api import FailingPresent, InMemoryPresent

CALLS = [
    "/blocked",
    "/blocked?limit=10",
    "/blocked/ips",
    "/blocked/users/alice",
    "/blocked/ips/198.51.100.7",
    "/blocked/changes",
    "/blocked/changes?since=1.0-0.0",
    "/blocked/subjects",
    "/blocked/history?subject_type=user&subject=alice",
    "/blocked/summary",
]


@pytest.mark.parametrize("call", CALLS)
def test_without_redis_no_call_claims_that_nobody_is_blocked(call: str) -> None:
    answer = create_app(FailingPresent()).test_client().get(call)
    assert answer.status_code == 503
    assert answer.json == {"error": "The block list cannot be read now; try again"}
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["Cache-Control"] == "no-store"


def test_without_redis_it_lives_and_is_not_ready() -> None:
    client = create_app(FailingPresent()).test_client()
    assert client.get("/healthz").status_code == 200
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json) == (503, {"redis": "down", "list": "unknown"})


def test_a_name_that_is_none_is_refused_without_redis_too() -> None:
    client = create_app(FailingPresent()).test_client()
    assert client.get("/blocked/users/%20").status_code == 400


def test_failures_are_counted_and_logged() -> None:
    client = create_app(FailingPresent()).test_client()
    with capture_logs() as lines:
        for call in CALLS:
            client.get(call)
    assert "blocked_api_redis_failures_total 10.0" in client.get("/metrics").text
    warnings = [line for line in lines if line["event"] == "blocks unavailable"]
    assert len(warnings) == len(CALLS)
    assert warnings[0]["why"] == "Redis did not answer"
    assert "alice" not in str(lines)


def test_an_unforeseen_error_says_nothing_of_itself() -> None:
    secret = "of alice"

    class Broken(InMemoryPresent):
        def state(self) -> NoReturn:
            raise RuntimeError(secret)

    with capture_logs() as lines:
        answer = create_app(Broken()).test_client().get("/blocked")
    assert (answer.status_code, answer.json) == (500, {"error": "Internal error"})
    assert any(line["event"] == "unexpected" for line in lines)
    assert "alice" not in str(lines)
