import io
import json
import time
from collections.abc import Callable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from blocked_client import BlockedClient
from blocked_client.answers import ToldBlock
from blocked_client.auth_request import create_app
from blocked_client.client import WhenUnknown
from blocked_client.wsgi import BlockedMiddleware, user_from_json

NOW = time.time()


def client_of(
    *blocks: ToldBlock, known: bool = True, when_unknown: WhenUnknown = "allow"
) -> BlockedClient:
    """A client that has heard of these blocks, and of nothing since."""
    client = BlockedClient("http://127.0.0.1:1", when_unknown=when_unknown)
    client._copy.take_full(blocks, "complete")
    client._known = known
    return client


ALICE = ToldBlock("user", "alice", NOW + 90.265, "user-failures")
FOREVER = ToldBlock("user", "mallory", float("inf"), "operator")
HOST = ToldBlock("ip", "203.0.113.9", NOW + 60, "ip-failures")


def echo(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return [body]


def asked(
    app: WSGIApplication, body: bytes = b"", ip: str = "198.51.100.1", **environ: object
) -> tuple[int, dict[str, str], bytes]:
    given: dict[str, object] = {
        "REMOTE_ADDR": ip,
        "QUERY_STRING": "",
        "REQUEST_METHOD": "POST",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        **environ,
    }
    setup_testing_defaults(given)
    told: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], _: object = None
    ) -> Callable[[bytes], object]:
        told.append((status, headers))
        return lambda _: None

    answer = app(given, start_response)
    content = b"".join(answer)
    if hasattr(answer, "close"):
        answer.close()
    ((status, headers),) = told
    return int(status.split()[0]), dict(headers), content


def login(user: object) -> bytes:
    return json.dumps({"user": user, "pass": "guess"}).encode()


@pytest.fixture
def app() -> BlockedMiddleware:
    return BlockedMiddleware(echo, client_of(ALICE, FOREVER, HOST), user_of=user_from_json("user"))


def test_who_is_blocked_hears_what_the_login_api_says(app: BlockedMiddleware) -> None:
    status, headers, body = asked(app, login(" ALICE "))
    assert status == 403
    assert headers["Content-Type"] == "application/json"
    assert 30 < int(headers["Retry-After"]) <= 91
    told = json.loads(body)
    assert list(told) == ["error", "blocked_until"]
    assert told["error"] == "User blocked"
    written = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(NOW + 90.265))
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


def test_without_anybody_to_look_at_the_list_does_not_matter() -> None:
    client = client_of(known=False, when_unknown="refuse")
    app = BlockedMiddleware(echo, client, client_address=lambda _: None)
    assert asked(app, b"health")[0] == 200


def auth(app: WSGIApplication, **headers: str) -> tuple[int, dict[str, str], bytes]:
    given: dict[str, Any] = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    return asked(validator(app), b"", REQUEST_METHOD="GET", **given)


NO_CONTENT = {"Content-Type": "text/plain", "Content-Length": "0"}


def test_auth_request_answers_204_or_403() -> None:
    app = create_app(client_of(ALICE, FOREVER, HOST))
    assert auth(app) == (204, {}, b"")
    assert auth(app, x_forwarded_user="bob", x_forwarded_for="198.51.100.1")[0] == 204
    status, headers, _ = auth(app, x_forwarded_user="Alice")
    assert status == 403
    assert headers["X-Blocked-Until"].endswith("Z")
    assert 30 < int(headers["Retry-After"]) <= 91
    assert auth(app, x_forwarded_user="mallory")[:2] == (403, NO_CONTENT)
    assert auth(app, x_forwarded_for="203.0.113.9")[0] == 403


def test_of_several_addresses_the_nearest_proxy_s_counts() -> None:
    app = create_app(client_of(HOST))
    assert auth(app, x_forwarded_for="198.51.100.1, 203.0.113.9")[0] == 403
    assert auth(app, x_forwarded_for="203.0.113.9, 198.51.100.1")[0] == 204


def test_a_name_beyond_ascii_arrives_as_utf8() -> None:
    app = create_app(client_of(ToldBlock("user", "jürgen", NOW + 60, "user-failures")))
    assert auth(app, x_forwarded_user="Jürgen".encode().decode("latin-1"))[0] == 403
    assert auth(app, x_forwarded_user="J\xfcrgen")[0] == 204  # no UTF-8: no name


def test_auth_request_before_the_first_list() -> None:
    assert auth(create_app(client_of(known=False)), x_forwarded_user="a")[0] == 204
    refusing = client_of(known=False, when_unknown="refuse")
    assert auth(create_app(refusing), x_forwarded_user="a")[0] == 403
