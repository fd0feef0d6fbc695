import json
import logging
import re
import time
from typing import Any
from wsgiref.types import WSGIApplication
from wsgiref.validate import validator

import pytest

from blocked_client.answers import ToldBlock
from blocked_client.auth_request import create_app
from blocked_client.client import WhenUnknown
from tests.support.blocked_client import asked, client_of
from tests.support.services import REPOSITORY

NOW = time.time()
ALICE = ToldBlock("user", "alice", NOW + 86_490.265, "user-failures")
FOREVER = ToldBlock("user", "mallory", float("inf"), "operator")
HOST = ToldBlock("ip", "203.0.113.9", NOW + 86_460, "ip-failures")


def auth(
    app: WSGIApplication, path: str = "/", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    given: dict[str, Any] = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    return asked(validator(app), REQUEST_METHOD="GET", SCRIPT_NAME="", PATH_INFO=path, **given)


def reason(app: WSGIApplication, **headers: str) -> str | None:
    """Why it refuses, None if it does not."""
    status, told, body = auth(app, **headers)
    assert status == (403 if "X-Refused-Reason" in told else 204)
    assert body.decode().strip() == told.get("X-Refused-Reason", "")
    return told.get("X-Refused-Reason")


def wsgi(name: str) -> str:
    return name.encode().decode("latin-1")


def test_it_answers_204_or_403() -> None:
    app = create_app(client_of(ALICE, FOREVER, HOST))
    assert auth(app, x_forwarded_user="bob", x_forwarded_for="198.51.100.1") == (204, {}, b"")
    assert auth(app, x_forwarded_user="bob")[0] == 204
    assert auth(app, x_forwarded_for="198.51.100.1")[0] == 204
    status, headers, _ = auth(app, x_forwarded_user="Alice")
    assert (status, headers["X-Refused-Reason"]) == (403, "blocked")
    assert headers["X-Blocked-Until"].endswith("Z")
    assert 80_000 < int(headers["Retry-After"]) <= 86_491
    status, headers, _ = auth(app, x_forwarded_user="mallory")
    assert (status, headers["X-Refused-Reason"]) == (403, "blocked")
    assert not {"X-Blocked-Until", "Retry-After"} & set(headers)
    assert reason(app, x_forwarded_for="203.0.113.9") == "blocked"
    assert reason(app, x_forwarded_user="bob", x_forwarded_for="203.0.113.9") == "blocked"


def test_of_several_addresses_the_nearest_proxy_s_counts() -> None:
    app = create_app(client_of(HOST))
    assert reason(app, x_forwarded_for="198.51.100.1, 203.0.113.9") == "blocked"
    assert reason(app, x_forwarded_for="203.0.113.9, 198.51.100.1") is None


def test_a_name_beyond_ascii_arrives_as_utf8() -> None:
    app = create_app(client_of(ToldBlock("user", "josé", NOW + 86_460, "user-failures")))
    assert reason(app, x_forwarded_user=wsgi("José")) == "blocked"
    assert reason(app, x_forwarded_user=wsgi("jürgen")) is None


@pytest.mark.parametrize(
    "user",
    [
        "jos\xe9",  # Latin-1
        "jos\xc3",  # half a letter
        "\xed\xa0\x80",  # a surrogate
        "\xc1\xa1lice",  # an overlong a
        "alice\0",
        "alice\x7f",
        wsgi("\u2003"),
        "a" * 1_025,
        "\u0100",  # which no WSGI server gives
    ],
)
def test_a_user_that_cannot_be_read_is_refused(user: str) -> None:
    app = create_app(client_of(when_unknown="allow"))
    assert reason(app, x_forwarded_user=user) == "user-unreadable"
    assert reason(app, x_forwarded_user=user, x_forwarded_for="198.51.100.1") == "user-unreadable"


@pytest.mark.parametrize(
    "address",
    ["198.51.100.1\xe9", "unix:", "unknown", "198.51.100.1:80", "198.51.100.1,", "1", ":" * 9_000],
)
def test_an_address_that_cannot_be_read_is_refused(address: str) -> None:
    app = create_app(client_of(when_unknown="allow"))
    assert reason(app, x_forwarded_for=address) == "address-unreadable"
    assert reason(app, x_forwarded_user="bob", x_forwarded_for=address) == "address-unreadable"


def test_a_proxy_that_names_nobody_is_refused() -> None:
    app = create_app(client_of(when_unknown="allow"))
    assert reason(app) == "no-subject"
    assert reason(app, x_forwarded_user="", x_forwarded_for="") == "no-subject"


@pytest.mark.parametrize(("when_unknown", "why"), [("allow", None), ("refuse", "list-unknown")])
def test_without_a_list_or_with_one_too_old_the_setting_decides(
    when_unknown: WhenUnknown, why: str | None
) -> None:
    none_yet = client_of(known=False, when_unknown=when_unknown)
    too_old = client_of(when_unknown=when_unknown, max_age_s=30, heard_s_ago=31)
    for client in (none_yet, too_old):
        assert reason(create_app(client), x_forwarded_user="bob") == why


def test_health_tells_of_the_list() -> None:
    known = create_app(client_of(ALICE, heard_s_ago=5, max_age_s=30))
    unknown = create_app(client_of(known=False))
    too_old = create_app(client_of(heard_s_ago=31, max_age_s=30))
    for app in (known, unknown, too_old):
        assert auth(app, "/healthz")[::2] == (200, b'{"status":"ok"}\n')
    status, headers, body = auth(known, "/readyz")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    told = json.loads(body)
    assert 5 <= told.pop("age_s") < 30
    assert told == {"list_known": True, "state": "unreachable"}
    nothing = b'{"list_known":false,"state":"unreachable","age_s":null}\n'
    assert auth(unknown, "/readyz")[::2] == (503, nothing)
    status, _, body = auth(too_old, "/readyz")
    assert (status, json.loads(body)["list_known"]) == (503, False)


def test_a_proxy_that_forwards_the_path_lets_nobody_in_by_health() -> None:
    app = create_app(client_of(ALICE, HOST))
    for path in ("/healthz", "/readyz", "/anything"):
        assert auth(app, path, x_forwarded_user="alice")[0] == 403
        assert auth(app, path, x_forwarded_for="203.0.113.9")[0] == 403
        assert auth(app, path, x_forwarded_user="bob")[0] == 204
    assert auth(app, "/healthz/")[0] == 403


def test_an_error_refuses_and_is_logged_without_names(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of()

    def fail(user: str | None, _: str | None) -> bool:
        raise LookupError(user)

    monkeypatch.setattr(client, "is_blocked", fail)
    assert auth(create_app(client), x_forwarded_user="alice")[0] == 500
    assert caplog.record_tuples == [
        ("blocked_client", logging.ERROR, "a question was not answered: LookupError")
    ]


def test_the_document_tells_where_the_example_listens_and_whom_it_asks() -> None:
    example = (REPOSITORY / "examples/nginx.conf").read_text(encoding="utf-8")
    document = (REPOSITORY / "docs/client.md").read_text(encoding="utf-8")
    (listens,) = re.findall(r"listen ([\d.:]+);", example)
    target, application = re.findall(r"server ([\d.:]+);", example)
    assert f"listens on http://{listens}," in document
    assert f"http://{application}." in document
    assert f"--port {target.partition(':')[2]}\n" in document
