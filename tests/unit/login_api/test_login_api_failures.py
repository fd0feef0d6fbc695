"""A part that is down gives 503 and a count, never a 500; a password is never written down."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from structlog.testing import capture_logs

from login_api.errors import PartUnavailableError
from login_api.metrics import Metrics
from login_api.passwords import Argon2Hasher
from login_api.records import Record
from login_blocking.attempts import Outcome
from login_blocking.subjects import Subject
from tests.support.login_api import (
    NOW,
    FailingAccounts,
    FailingGuard,
    FailingRecordPublisher,
    InMemoryGuard,
    InMemoryRecordPublisher,
    LoginApi,
    RecordingPasswordHasher,
    credentials,
)

CANARY = "canary-Tr0ub4dor&3"
ALICE = credentials("alice", CANARY)

BROKEN = [
    (LoginApi(accounts=FailingAccounts()), "/register", "postgres"),
    (LoginApi(accounts=FailingAccounts()), "/login", "postgres"),
    (LoginApi(guard=FailingGuard()), "/login", "redis"),
    (LoginApi(publisher=FailingRecordPublisher()), "/login", "kafka"),
]


@pytest.mark.parametrize(("api", "call", "part"), BROKEN)
def test_a_part_that_is_down_gives_503_and_is_counted(api: LoginApi, call: str, part: str) -> None:
    client = api.client()
    answer = client.post(call, json=ALICE)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.json == {"error": "Logins cannot be checked now; try again"}
    figures = client.get("/metrics").text
    assert f'login_api_part_failures_total{{part="{part}"}} 1.0' in figures


def test_a_refusal_that_nobody_can_write_down_stays_one_and_is_counted() -> None:
    api = LoginApi(publisher=FailingRecordPublisher())
    api.block(Subject("user", "alice"), NOW + 1)
    client = api.client()
    assert client.post("/login", json=ALICE).status_code == 403
    figures = client.get("/metrics").text
    assert "login_api_publish_failures_total 1.0" in figures
    assert 'attempts_total{outcome="blocked"}' not in figures


def test_a_password_that_was_never_looked_at_gives_its_place_back() -> None:
    guard = InMemoryGuard()
    api = LoginApi(accounts=FailingAccounts(), guard=guard)
    assert api.client().post("/login", json=ALICE).status_code == 503
    assert not guard.taken["alice"]


def test_open_without_guard_logins_go_on_while_redis_is_down() -> None:
    api = LoginApi(guard=FailingGuard(), open_without_guard=True)
    client = api.client()
    assert client.post("/login", json=ALICE).status_code == 401
    (attempt,) = api.published()
    assert (attempt.ts, attempt.outcome) == (NOW, Outcome.FAILURE)
    assert "login_api_unguarded_total 1.0" in client.get("/metrics").text


def test_redis_is_asked_before_the_password_is_looked_at() -> None:
    api = LoginApi(guard=FailingGuard())
    api.client().post("/login", json=ALICE)
    assert api.password_hasher.verified == []
    assert api.published() == []


def test_readyz_names_the_parts_that_are_down() -> None:
    ready = LoginApi().client().get("/readyz")
    broken = LoginApi(guard=FailingGuard(), publisher=FailingRecordPublisher())
    unready = broken.client().get("/readyz")
    assert (ready.status_code, ready.json) == (
        200,
        {"redis": "ok", "postgres": "ok", "kafka": "ok", "outbox": 0},
    )
    assert (unready.status_code, unready.json) == (
        503,
        {"redis": "down", "postgres": "ok", "kafka": "degraded", "outbox": 7},
    )
    assert broken.client().get("/healthz").status_code == 200


@pytest.mark.parametrize(("waiting", "wait_ms"), [(1, 1), (0, 60_000)])
def test_one_hash_too_many_waits_a_while_if_it_may_and_is_then_refused(
    waiting: int, wait_ms: int
) -> None:
    class Stuck(RecordingPasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]  # noqa: A002
            inside.set()
            assert go_on.wait(10)
            return super().verify(hash, password)

    inside, go_on = threading.Event(), threading.Event()
    gauge = Metrics().hashes_in_hand
    hasher = Argon2Hasher(Stuck(), 1, waiting, wait_ms, gauge)
    with ThreadPoolExecutor(1) as other:
        first = other.submit(hasher.verify, None, CANARY)
        assert inside.wait(10)
        assert gauge._value.get() == 1
        with pytest.raises(PartUnavailableError, match="hashing"):
            hasher.verify(None, CANARY)
        go_on.set()
        assert first.result() is False
    assert gauge._value.get() == 0
    assert hasher.verify(hasher.hash(CANARY), CANARY)


class _SurprisingPublisher(InMemoryRecordPublisher):
    def publish(self, record: Record) -> None:
        raise RuntimeError(f"surprised by {CANARY}")


BODIES = [
    json.dumps(ALICE),
    json.dumps(ALICE)[:-1],
    json.dumps({**ALICE, CANARY: 1}),
    json.dumps({"user": [CANARY], "pass": CANARY}),
    json.dumps({"user": "al", "pass": CANARY}),
    json.dumps({"user": "alice", "pass": CANARY + "\x00"}),
    json.dumps({"user": "alice", "pass": CANARY * 20}),
    json.dumps({"user": "alice", "pass": CANARY * 2_000}),
]


@pytest.mark.parametrize(
    "api",
    [
        LoginApi(),
        LoginApi(accounts=FailingAccounts()),
        LoginApi(guard=FailingGuard()),
        LoginApi(publisher=FailingRecordPublisher()),
        LoginApi(publisher=_SurprisingPublisher()),
    ],
)
def test_no_answer_log_or_metric_holds_a_password(
    api: LoginApi, capfd: pytest.CaptureFixture[str]
) -> None:
    client = api.client()
    said = []
    with capture_logs() as logs:
        for call in ("/register", "/login"):
            for body in BODIES:
                for content_type in ("application/json", "text/plain"):
                    answer = client.post(call, data=body, content_type=content_type)
                    said.append(answer.text)
    assert len(logs) >= len(said)
    said += [repr(logs), client.get("/metrics").text, *capfd.readouterr()]
    assert CANARY not in "".join(said)


def test_what_nobody_expected_gives_500_and_says_where_in_the_log() -> None:
    with capture_logs() as logs:
        answer = LoginApi(publisher=_SurprisingPublisher()).client().post("/login", json=ALICE)
    assert (answer.status_code, answer.json) == (500, {"error": "Internal error"})
    (unexpected,) = [line for line in logs if line["event"] == "unexpected"]
    assert unexpected["error"] == "RuntimeError"
    assert "in publish" in unexpected["where"][-1]


def test_a_request_is_one_line_without_the_name() -> None:
    with capture_logs() as logs:
        LoginApi().client().post("/login", json=credentials("alice", "wrong"))
    (line,) = logs
    assert {"request_id", "method", "route", "status", "ms"} <= line.keys()
    assert (line["route"], line["status"]) == ("/login", 401)
    assert "alice" not in repr(line)
