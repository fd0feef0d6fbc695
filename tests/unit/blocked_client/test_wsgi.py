import json
import time
from typing import Any
from wsgiref.types import StartResponse

import pytest

from blocked_client.answers import ToldBlock
from blocked_client.client import WhenUnknown
from blocked_client.wsgi import BlockedMiddleware, user_from_json
from tests.support.blocked_client import asked, client_of

NOW = time.time()
ALICE = ToldBlock("user", "alice", NOW + 86_490.265, "user-failures")
FOREVER = ToldBlock("user", "mallory", float("inf"), "operator")
HOST = ToldBlock("ip", "203.0.113.9", NOW + 86_460, "ip-failures")


def echo(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return [body]


def login(user: object) -> bytes:
    return json.dumps({"user": user, "pass": "guess"}).encode()


@pytest.fixture
def app() -> BlockedMiddleware:
    return BlockedMiddleware(echo, client_of(ALICE, FOREVER, HOST), user_of=user_from_json("user"))


def test_who_is_blocked_hears_what_the_login_api_says(app: BlockedMiddleware) -> None:
    status, headers, body = asked(app, login(" ALICE "))
    assert status == 403
    assert headers["Content-Type"] == "application/json"
    assert 80_000 < int(headers["Retry-After"]) <= 86_491
    told = json.loads(body)
    assert list(told) == ["error", "blocked_until"]
    assert told["error"] == "User blocked"
    written = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(NOW + 86_490.265))
    assert told["blocked_until"].startswith(written)
    assert len(told["blocked_until"]) == len("2026-11-24T02:40:31.265Z")


def test_a_block_for_ever_has_no_end(app: BlockedMiddleware) -> None:
    status, headers, body = asked(app, login("mallory"))
    assert (status, body) == (403, b'{"error":"User blocked","blocked_until":null}\n')
    assert "Retry-After" not in headers


def test_a_blocked_address_is_refused_whoever_it_names(app: BlockedMiddleware) -> None:
    assert asked(app, login("bob"), ip="203.0.113.9")[0] == 403
    assert asked(app, b"", ip="203.0.113.9")[0] == 403


@pytest.mark.parametrize(
    "body", [login("bob"), login(7), login(None), b"", b"[]", b"{", b"\xff", b"[" * 10_000]
)
def test_everybody_else_reaches_the_application_with_the_whole_body(
    app: BlockedMiddleware, body: bytes
) -> None:
    assert asked(app, body) == (200, {"Content-Type": "application/octet-stream"}, body)


def test_a_body_of_unknown_length_is_looked_at_too(app: BlockedMiddleware) -> None:
    chunked: dict[str, Any] = {"CONTENT_LENGTH": "", "wsgi.input_terminated": True}
    assert asked(app, login("alice"), **chunked)[0] == 403
    assert asked(app, login("bob"), **chunked)[0] == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_too_long_to_look_at_is_refused(app: BlockedMiddleware, *, chunked: bool) -> None:
    length: dict[str, Any] = (
        {"CONTENT_LENGTH": "", "wsgi.input_terminated": True} if chunked else {}
    )
    fits = login("bob").ljust(16_384)
    assert asked(app, fits, **length)[0] == 200
    assert asked(app, fits + b" ", **length)[0] == 413


@pytest.mark.parametrize(("when_unknown", "status"), [("allow", 200), ("refuse", 503)])
def test_before_the_first_list_the_setting_decides(when_unknown: WhenUnknown, status: int) -> None:
    client = client_of(known=False, when_unknown=when_unknown)
    app = BlockedMiddleware(echo, client, user_of=user_from_json("user"))
    told, headers, _ = asked(app, login("bob"))
    assert told == status
    assert headers.get("Retry-After") == ("1" if status == 503 else None)


@pytest.mark.parametrize(("when_unknown", "status"), [("allow", 200), ("refuse", 503)])
def test_a_list_that_is_too_old_is_not_known(when_unknown: WhenUnknown, status: int) -> None:
    client = client_of(ALICE, when_unknown=when_unknown, max_age_s=30, heard_s_ago=31)
    app = BlockedMiddleware(echo, client, user_of=user_from_json("user"))
    assert asked(app, login("bob"))[0] == status


def test_what_is_no_text_does_not_reach_the_application() -> None:
    app = BlockedMiddleware(echo, client_of(ALICE), user_of=lambda _: 7)  # type: ignore[arg-type,return-value]
    status, _, body = asked(app, b"")
    assert (status, body) == (403, b'{"error":"User blocked","blocked_until":null}\n')


def test_without_anybody_to_look_at_the_list_does_not_matter() -> None:
    client = client_of(known=False, when_unknown="refuse")
    app = BlockedMiddleware(echo, client, client_address=lambda _: None)
    assert asked(app, b"health")[0] == 200
