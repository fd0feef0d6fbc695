"""What /login and /register answer, and what is published before they do."""

import uuid

import pytest
from werkzeug.test import TestResponse

from login_blocking.attempts import Outcome
from login_blocking.subjects import Subject
from tests.support.login_api import MAX_BODY_BYTES, NOW, InMemoryGuard, LoginApi, credentials

ALICE = credentials("Alice", "correct horse 9")
PROXY_OF_NOBODY = "198.51.100.7"


@pytest.fixture
def api() -> LoginApi:
    api = LoginApi()
    assert api.client().post("/register", json=ALICE).status_code == 201
    return api


def _headers_that_depend_on_the_call(answer: TestResponse) -> dict[str, str]:
    return {name: value for name, value in answer.headers if name != "X-Request-Id"}


def test_register_makes_an_account_once() -> None:
    client = LoginApi().client()
    first = client.post("/register", json=ALICE)
    second = client.post("/register", json=credentials(" aLICE", "another horse 9"))
    assert (first.status_code, first.data) == (201, b'{"success":true}\n')
    assert (second.status_code, second.data) == (409, b'{"error":"User name is taken"}\n')


def test_register_says_which_field_and_why() -> None:
    client = LoginApi().client()
    short = client.post("/register", json=credentials("al", "correct horse 9"))
    common = client.post("/register", json=credentials("alice", "password1"))
    assert short.status_code == common.status_code == 400
    assert short.json == {"error": "user: 3 to 64 characters"}
    assert common.json == {"error": "pass: one of the most common passwords; choose another"}


def test_register_publishes_nothing(api: LoginApi) -> None:
    assert api.published() == []


def test_no_account_exists_by_itself() -> None:
    client = LoginApi().client()
    for name in ("admin", "root", "test", "user1"):
        answer = client.post("/login", json=credentials(name, name))
        assert answer.status_code == 401


def test_the_right_password_lets_in(api: LoginApi) -> None:
    answer = api.client().post("/login", json=credentials(" ALICE ", "correct horse 9"))
    assert (answer.status_code, answer.data) == (200, b'{"success":true}\n')
    assert [attempt.outcome for attempt in api.published()] == [Outcome.SUCCESS]


def test_a_wrong_password_does_not(api: LoginApi) -> None:
    answer = api.client().post("/login", json=credentials("alice", "correct horse 8"))
    assert (answer.status_code, answer.data) == (401, b'{"error":"Wrong password"}\n')
    assert [attempt.outcome for attempt in api.published()] == [Outcome.FAILURE]


def test_an_unknown_user_gets_the_same_answer_for_the_same_work(api: LoginApi) -> None:
    client = api.client()
    known = client.post("/login", json=credentials("alice", "wrong"))
    unknown = client.post("/login", json=credentials("mallory", "wrong"))
    assert known.data == unknown.data
    assert known.status == unknown.status
    assert _headers_that_depend_on_the_call(known) == _headers_that_depend_on_the_call(unknown)
    of_the_known, of_the_unknown = api.password_hasher.verified
    assert of_the_known == of_the_unknown
    assert [attempt.outcome for attempt in api.published()] == [Outcome.FAILURE] * 2


def test_an_attempt_names_the_user_and_the_address_in_normal_form(api: LoginApi) -> None:
    client = api.client()
    peer = {"REMOTE_ADDR": "2001:db8:1:2:3:4:5:6"}
    client.post("/login", json=credentials("ALICE", "wrong"), environ_base=peer)
    (attempt,) = api.published()
    assert (attempt.user, attempt.ip) == ("alice", "2001:db8:1:2::/64")
    assert attempt.ts == NOW
    assert uuid.UUID(attempt.id).version == 4


def test_the_address_is_the_peers_whatever_a_header_says(api: LoginApi) -> None:
    forged = {"X-Forwarded-For": PROXY_OF_NOBODY, "Forwarded": f"for={PROXY_OF_NOBODY}"}
    api.client().post("/login", json=ALICE, headers=forged)
    assert [attempt.ip for attempt in api.published()] == ["127.0.0.1"]


@pytest.mark.parametrize("subject", [Subject("user", "alice"), Subject("ip", "127.0.0.1")])
def test_a_block_of_user_or_address_refuses_the_right_password_unseen(
    api: LoginApi, subject: Subject
) -> None:
    api.block(subject, NOW + 900_000)
    answer = api.client().post("/login", json=ALICE)
    assert answer.status_code == 403
    assert answer.data == b'{"error":"User blocked","blocked_until":"2026-11-24T00:15:00.123Z"}\n'
    assert answer.headers["Retry-After"] == "900"
    assert [attempt.outcome for attempt in api.published()] == [Outcome.BLOCKED]
    assert api.password_hasher.verified == []


@pytest.mark.parametrize(("left_ms", "seconds"), [(1, "1"), (1_000, "1"), (1_001, "2")])
def test_retry_after_is_rounded_up_to_whole_seconds(
    api: LoginApi, left_ms: int, seconds: str
) -> None:
    api.block(Subject("user", "alice"), NOW + left_ms)
    assert api.client().post("/login", json=ALICE).headers["Retry-After"] == seconds


def test_a_block_that_ends_now_has_ended(api: LoginApi) -> None:
    api.block(Subject("user", "alice"), NOW)
    assert api.client().post("/login", json=ALICE).status_code == 200


def test_a_block_for_ever_has_no_end_and_no_retry(api: LoginApi) -> None:
    api.block(Subject("ip", "127.0.0.1"), None)
    answer = api.client().post("/login", json=ALICE)
    assert answer.data == b'{"error":"User blocked","blocked_until":null}\n'
    assert "Retry-After" not in answer.headers


@pytest.mark.parametrize("call", ["/login", "/register"])
def test_a_form_gets_415_with_the_remedy(call: str) -> None:
    answer = LoginApi().client().post(call, data='{"user":"alice","pass":"x"}')
    typed = LoginApi().client().post(call, data=ALICE)
    for refused in (answer, typed):
        assert refused.status_code == 415
        assert "Content-Type: application/json" in (refused.json or {})["error"]


def test_a_charset_after_the_content_type_is_fine(api: LoginApi) -> None:
    answer = api.client().post(
        "/login",
        data='{"user":"alice","pass":"correct horse 9"}',
        content_type="application/json; charset=utf-8",
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("call", ["/login", "/register"])
def test_no_body_gets_400(call: str) -> None:
    answer = LoginApi().client().post(call, content_type="application/json")
    assert (answer.status_code, answer.json) == (400, {"error": "body: not JSON"})


def test_a_body_may_fill_the_limit_and_no_more(api: LoginApi) -> None:
    document = '{"user":"alice","pass":"correct horse 9"}'
    client = api.client()
    full = client.post(
        "/login", data=document.ljust(MAX_BODY_BYTES), content_type="application/json"
    )
    over = client.post(
        "/login", data=document.ljust(MAX_BODY_BYTES + 1), content_type="application/json"
    )
    assert full.status_code == 200
    assert (over.status_code, over.json) == (413, {"error": "body: at most 16384 bytes"})


def test_unknown_paths_and_methods_answer_in_json() -> None:
    client = LoginApi().client()
    missing, method = client.get("/nothing"), client.get("/login")
    assert (missing.status_code, method.status_code) == (404, 405)
    assert "error" in (missing.json or {})
    assert "error" in (method.json or {})
    assert method.headers["Allow"] == "OPTIONS, POST"


def test_healthz_looks_at_nothing_but_the_process() -> None:
    answer = LoginApi().client().get("/healthz")
    assert (answer.status_code, answer.json) == (200, {"status": "ok"})


def test_metrics_count_attempts_by_outcome(api: LoginApi) -> None:
    client = api.client()
    client.post("/login", json=ALICE)
    client.post("/login", json=credentials("alice", "wrong"))
    client.post("/login", json=credentials("mallory", "wrong"))
    figures = client.get("/metrics").text
    assert 'login_api_attempts_total{outcome="success"} 1.0' in figures
    assert 'login_api_attempts_total{outcome="failure"} 2.0' in figures
    assert 'login_api_request_seconds_count{route="/login",status="401"} 2.0' in figures
    assert "login_api_publish_seconds_count 3.0" in figures


def test_a_full_guard_answers_the_same_for_names_that_exist_and_names_that_do_not() -> None:
    api = LoginApi(guard=InMemoryGuard(threshold=2))
    client = api.client()
    client.post("/register", json=ALICE)
    answers = []
    for name in ("alice", "mallory"):
        for _ in range(2):
            assert client.post("/login", json=credentials(name, "guess")).status_code == 401
        answers.append(client.post("/login", json=credentials(name, "correct horse 9")))
    assert [answer.status_code for answer in answers] == [429, 429]
    assert answers[0].data == answers[1].data == b'{"error":"Too many attempts"}\n'
    assert answers[0].headers["Retry-After"] == answers[1].headers["Retry-After"] == "60"
    assert [attempt.outcome for attempt in api.published()].count(Outcome.LIMITED) == 2


def test_who_logged_in_from_a_place_is_known_there_and_nowhere_else(api: LoginApi) -> None:
    client = api.client()
    for address in ("198.51.100.7", "198.51.100.7", "203.0.113.9"):
        client.post("/login", json=ALICE, environ_base={"REMOTE_ADDR": address})
    assert [attempt.known for attempt in api.published()] == [False, True, False]
