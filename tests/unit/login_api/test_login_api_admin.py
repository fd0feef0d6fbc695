"""What operators can do, and who is no operator."""

import json
from typing import Any

import pytest
from structlog.testing import capture_logs
from werkzeug.test import TestResponse

from login_blocking.commands import Action
from login_blocking.subjects import Subject
from tests.support.login_api import NOW, TOKEN, InMemoryGuard, LoginApi, credentials

ALICE = {"subject_type": "user", "subject": " Alice", "by": "eve", "reason": "called us"}


def call(api: LoginApi, path: str, body: dict[str, Any], token: str | None = TOKEN) -> TestResponse:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return api.client().post(
        f"/admin/{path}", data=json.dumps(body), content_type="application/json", headers=headers
    )


def test_an_unblock_is_a_command_with_who_and_why() -> None:
    api = LoginApi()
    answer = call(api, "unblock", {**ALICE, "reset_levels": True})
    (command,) = api.commands()
    assert (answer.status_code, answer.json) == (202, {"success": True, "id": command.id})
    assert (command.action, command.subject, command.ts) == (
        Action.UNBLOCK,
        Subject("user", "alice"),
        NOW,
    )
    assert (command.by, command.reason, command.reset_levels) == ("eve", "called us", True)


def test_an_unblock_empties_the_guard() -> None:
    api = LoginApi(guard=InMemoryGuard(threshold=1))
    client = api.client()
    guess = credentials("alice", "guess")
    assert [client.post("/login", json=guess).status_code for _ in range(2)] == [401, 429]
    call(api, "unblock", ALICE)
    assert client.post("/login", json=guess).status_code == 401


@pytest.mark.parametrize(
    ("given", "until"),
    [
        ({}, None),
        ({"for": "2h"}, NOW + 7_200_000),
        ({"until": NOW + 5}, NOW + 5),
        ({"until": "2026-11-24T01:00:00Z"}, 1_795_482_000_000),
        ({"until": "2026-11-24T01:00:00"}, 1_795_482_000_000),
        ({"until": "2026-11-24T02:00:00+01:00"}, 1_795_482_000_000),
    ],
)
def test_a_block_lasts_until_a_moment_or_for_a_time_or_for_ever(
    given: dict[str, Any], until: int | None
) -> None:
    api = LoginApi()
    address = {**ALICE, "subject_type": "ip", "subject": "2001:db8::1"}
    assert call(api, "block", {**address, **given}).status_code == 202
    (command,) = api.commands()
    assert (command.action, command.until) == (Action.BLOCK, until)
    assert command.subject == Subject("ip", "2001:db8::/64")


@pytest.mark.parametrize(
    ("path", "change", "field"),
    [
        ("unblock", {"subject": ""}, "subject"),
        ("unblock", {"subject_type": "host"}, "subject_type"),
        ("unblock", {"by": None}, "by"),
        ("unblock", {"reason": "x" * 501}, "reason"),
        ("unblock", {"by": "\ud800"}, "by"),
        ("block", {"reason": "\ud800"}, "reason"),
        ("block", {"reason": "called us\nand more"}, "reason"),
        ("unblock", {"reset_levels": "yes"}, "reset_levels"),
        ("unblock", {"until": NOW + 5}, "body"),
        ("block", {"reset_levels": True}, "body"),
        ("block", {"subject_type": "ip"}, "subject"),
        ("block", {"until": NOW}, "until"),
        ("block", {"until": "tomorrow"}, "until"),
        ("block", {"until": True}, "until"),
        ("block", {"for": "0s"}, "for"),
        ("block", {"for": "soon"}, "for"),
        ("block", {"for": ["2h"]}, "for"),
        ("block", {"for": "9999999d"}, "for"),
        ("block", {"for": "2h", "until": NOW + 5}, "until, for"),
    ],
)
def test_what_is_no_command_is_refused_by_its_field(
    path: str, change: dict[str, Any], field: str
) -> None:
    api = LoginApi()
    answer = call(api, path, {**ALICE, **change})
    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["error"].startswith(f"{field}: ")
    assert api.commands() == []


MISSING = "Send the header Authorization: Bearer <token>"


@pytest.mark.parametrize(
    ("token", "told"),
    [
        (None, MISSING),
        ("", MISSING),
        ("wrong", "Wrong token"),
        (TOKEN + "x", "Wrong token"),
        (TOKEN[:-1], "Wrong token"),
        ("\xe9", "Wrong token"),
    ],
)
def test_without_the_token_nothing_happens(token: str | None, told: str) -> None:
    api = LoginApi()
    answer = call(api, "unblock", ALICE, token)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert answer.json == {"error": told}
    assert api.commands() == []


@pytest.mark.parametrize("header", [TOKEN, f"Basic {TOKEN}", f"Token {TOKEN}"])
def test_a_token_that_is_sent_otherwise_is_a_missing_one(header: str) -> None:
    answer = LoginApi().client().get("/admin/attempts/alice", headers={"Authorization": header})
    assert (answer.status_code, answer.json) == (401, {"error": MISSING})


@pytest.mark.parametrize("token", [None, TOKEN])
def test_where_no_token_is_set_nobody_is_an_operator(token: str | None) -> None:
    api = LoginApi(admin_token=None)
    answer = call(api, "unblock", ALICE, token)
    assert answer.status_code == 403
    assert answer.json == {"error": "Operators' calls are off: set LOGIN_API_ADMIN_TOKEN"}
    assert api.client().get("/admin/attempts/alice").status_code == 403


def test_the_last_attempts_come_newest_first() -> None:
    api = LoginApi()
    client = api.client()
    for name in ("alice", "bob", "alice", "alice"):
        client.post("/login", json=credentials(name, "guess"))
    headers = {"Authorization": f"bearer {TOKEN}"}
    answer = client.get("/admin/attempts/ALICE?limit=2", headers=headers)
    own = [attempt.id for attempt in api.published() if attempt.user == "alice"]
    assert answer.json is not None
    assert [attempt["id"] for attempt in answer.json["attempts"]] == own[:0:-1]
    assert answer.json["searched_back_to"] is None
    for limit in ("0", "1001", "-1", "x", "\u0663", "", "9" * 5_000):
        refused = client.get(f"/admin/attempts/alice?limit={limit}", headers=headers)
        assert refused.status_code == 400


def test_a_name_in_a_path_is_as_bounded_as_one_in_a_body() -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = LoginApi().client().get("/admin/attempts/" + "\u0315" * 257, headers=headers)
    assert (answer.status_code, answer.json) == (400, {"error": "user: at most 256 characters"})


def test_the_audit_log_says_who_and_never_with_which_token() -> None:
    with capture_logs() as logs:
        call(LoginApi(), "unblock", ALICE)
        call(LoginApi(), "unblock", ALICE, "wrong token given")
    (line,) = [line for line in logs if line["event"] == "command"]
    assert (line["action"], line["subject"], line["by"]) == ("unblock", "alice", "eve")
    assert TOKEN not in str(logs)
    assert "wrong token given" not in str(logs)
