"""What each call of the Blocked API answers, with blocks in memory."""

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from werkzeug.test import TestResponse

from blocked_api.app import create_app
from login_blocking.subjects import Subject
from tests.support.block_entries import block, tombstone
from tests.support.blocked_api import NOW, InMemoryPresent

HOUR = 3_600_000
ALICE = Subject("user", "alice")
NETWORK = Subject("ip", "2001:db8::/64")


def test_an_empty_list_to_the_byte(client: FlaskClient) -> None:
    answer = client.get("/blocked")
    assert (answer.status_code, answer.data) == (200, b'{"users-blocked":[]}\n')


def test_the_list_to_the_byte_users_only_and_sorted(
    present: InMemoryPresent, client: FlaskClient
) -> None:
    for name in ("user2", "user1"):
        present.write(Subject("user", name), failures=block(NOW, NOW + HOUR))
    present.write(NETWORK, failures=block(NOW, NOW + HOUR))
    answer = client.get("/blocked")
    assert (answer.status_code, answer.data) == (200, b'{"users-blocked":["user1","user2"]}\n')
    assert answer.headers["Content-Type"] == "application/json"


def test_what_has_ended_is_not_shown(present: InMemoryPresent, client: FlaskClient) -> None:
    present.write(ALICE, failures=block(NOW - HOUR, NOW))
    assert client.get("/blocked").json == {"users-blocked": []}
    assert client.get("/blocked/users/alice").status_code == 404


def test_a_blocked_user_to_the_byte(present: InMemoryPresent, client: FlaskClient) -> None:
    present.write(ALICE, failures=block(NOW - 1, NOW + HOUR, level=2, reason="5 failures in 60 s"))
    answer = client.get("/blocked/users/alice")
    the_block = (
        '"rule":"failures","reason":"5 failures in 60 s","since":"2026-11-24T00:00:00.122Z",'
        '"until":"2026-11-24T01:00:00.123Z","level":2'
    )
    assert answer.status_code == 200
    assert answer.text == (
        '{"subject_type":"user","subject":"alice","blocked_until":"2026-11-24T01:00:00.123Z",'
        f'{the_block},"blocks":[{{{the_block}}}]}}\n'
    )


def test_of_several_blocks_the_one_that_ends_last_is_told_first(
    present: InMemoryPresent, client: FlaskClient
) -> None:
    present.write(
        ALICE,
        failures=block(NOW, NOW + HOUR),
        distributed=block(NOW, NOW + 2 * HOUR, level=4, reason="many addresses"),
        ended=block(NOW - HOUR, NOW - 1),
        lifted=tombstone(block(NOW - 2, None), NOW - 1),
    )
    document = client.get("/blocked/users/alice").get_json()
    assert [entry["rule"] for entry in document["blocks"]] == ["distributed", "failures"]
    assert (document["rule"], document["level"]) == ("distributed", 4)
    assert document["reason"] == "many addresses"
    assert document["blocked_until"] == document["until"] == "2026-11-24T02:00:00.123Z"


def test_a_block_for_ever_has_no_end(present: InMemoryPresent, client: FlaskClient) -> None:
    present.write(ALICE, failures=block(NOW, NOW + HOUR), operator=block(NOW, None))
    document = client.get("/blocked/users/alice").get_json()
    assert document["blocked_until"] is None
    assert document["until"] is None
    assert document["rule"] == "operator"


@pytest.mark.parametrize("end", [253_402_300_799_999, 1_000, 1_999])
def test_moments_keep_their_milliseconds(
    present: InMemoryPresent, client: FlaskClient, end: int
) -> None:
    present.at = 0
    present.write(ALICE, failures=block(0, end))
    until = client.get("/blocked/users/alice").get_json()["until"]
    assert until.endswith(f".{end % 1_000:03d}Z")
    assert len(until) == len("1970-01-01T00:00:00.000Z")


@pytest.mark.parametrize("spelling", ["alice", "ALICE", "%20Alice%20", "%EF%BC%A1lice"])
def test_a_user_is_found_in_any_spelling(
    present: InMemoryPresent, client: FlaskClient, spelling: str
) -> None:
    present.write(ALICE, failures=block(NOW, NOW + HOUR))
    answer = client.get(f"/blocked/users/{spelling}")
    assert (answer.status_code, answer.get_json()["subject"]) == (200, "alice")


@pytest.mark.parametrize(
    "spelling",
    [
        "2001:db8::/64",
        "2001:db8::%2F64",
        "2001:db8::1",
        "2001:DB8:0:0:ffff::1",
        "2001:db8::1%25eth0",
    ],
)
def test_an_address_is_found_by_its_network(
    present: InMemoryPresent, client: FlaskClient, spelling: str
) -> None:
    present.write(NETWORK, failures=block(NOW, NOW + HOUR))
    answer = client.get(f"/blocked/ips/{spelling}")
    assert answer.status_code == 200
    assert answer.get_json()["subject_type"] == "ip"
    assert answer.get_json()["subject"] == "2001:db8::/64"


@pytest.mark.parametrize("spelling", ["198.51.100.7", "::ffff:198.51.100.7", "%20198.51.100.7"])
def test_an_ipv4_address_is_found(
    present: InMemoryPresent, client: FlaskClient, spelling: str
) -> None:
    present.write(Subject("ip", "198.51.100.7"), failures=block(NOW, NOW + HOUR))
    assert client.get(f"/blocked/ips/{spelling}").status_code == 200


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a/b", "a/b"),
        ("a/b", "a%2Fb"),
        ("a//b/", "a//b/"),
        ("/x", "%2Fx"),
        ("..", "%2E%2E"),
        ("a?b#c%", "a%3Fb%23c%25"),
        ("žofie 😀", "%C5%BEofie%20%F0%9F%98%80"),
        ("<script>", "%3Cscript%3E"),
    ],
)
def test_a_guessed_name_of_any_characters_is_found(
    present: InMemoryPresent, client: FlaskClient, name: str, path: str
) -> None:
    present.write(Subject("user", name), failures=block(NOW, NOW + HOUR))
    answer = client.get(f"/blocked/users/{path}")
    assert (answer.status_code, answer.get_json()["subject"]) == (200, name)
    assert client.get("/blocked").json == {"users-blocked": [name]}


def test_who_is_not_blocked_is_not_found(client: FlaskClient) -> None:
    for path in ("/blocked/users/alice", "/blocked/ips/198.51.100.7", "/blocked/ips/2001:db8::1"):
        answer = client.get(path)
        assert (answer.status_code, answer.data) == (404, b'{"error":"Not blocked"}\n')


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("users/%20", "user: a user name may not be blank"),
        ("users/%00", "user: a user name may not hold control characters or lone surrogates"),
        ("users/a%0Ab", "user: a user name may not hold control characters or lone surrogates"),
        ("ips/alice", "ip: not an IPv4 or IPv6 address"),
        ("ips/198.51.100.256", "ip: not an IPv4 or IPv6 address"),
        ("ips/198.51.100.0/24", "ip: not an IPv4 or IPv6 address"),
        ("ips/2001:db8::1/64", "ip: not an IPv4 or IPv6 address"),
        ("ips/2001:db8::/48", "ip: not an IPv4 or IPv6 address"),
        ("ips/%00", "ip: not an IPv4 or IPv6 address"),
    ],
)
def test_what_is_no_name_or_address_is_refused_with_the_reason(
    client: FlaskClient, path: str, reason: str
) -> None:
    answer = client.get(f"/blocked/{path}")
    assert (answer.status_code, answer.json) == (400, {"error": reason})


def _get_bytes(client: FlaskClient, path: bytes) -> TestResponse:
    """As a server passes it on; Werkzeug's client would replace what is not UTF-8 by itself."""
    return client.get("/", environ_overrides={"PATH_INFO": path.decode("latin-1")})


@pytest.mark.parametrize("name", [b"\xff", b"\xed\xa0\x80", b"alice\xc3"])
def test_bytes_that_are_no_text_are_not_looked_up(client: FlaskClient, name: bytes) -> None:
    for path in (b"/blocked/users/" + name, b"/blocked/ips/" + name, b"/" + name):
        answer = _get_bytes(client, path)
        assert (answer.status_code, answer.json) == (400, {"error": "path: not UTF-8"})


@pytest.mark.parametrize(
    "path", ["/blocked/", "/blocked/users", "/blocked/users/", "/x", "/static/x", "/static/"]
)
def test_other_paths_are_not_found_in_json(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert set(answer.get_json()) == {"error"}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("path", ["/blocked", "/blocked/users/alice", "/healthz", "/metrics"])
def test_other_methods_are_refused_in_json(client: FlaskClient, method: str, path: str) -> None:
    answer = client.open(path, method=method, data=b"\xff" * 100_000)
    assert answer.status_code == 405
    assert set(answer.get_json()) == {"error"}
    assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"


def test_a_body_nobody_asked_for_changes_nothing(client: FlaskClient) -> None:
    for content_type in ("application/json", "multipart/form-data", "x"):
        answer = client.get("/blocked", data=b"[\xff", headers={"Content-Type": content_type})
        assert answer.json == {"users-blocked": []}


def test_head_and_options_are_answered(client: FlaskClient) -> None:
    assert client.head("/blocked").status_code == 200
    assert client.options("/blocked").headers["Allow"]


_CLIENT = create_app(InMemoryPresent()).test_client()


@given(
    prefix=st.sampled_from([b"/", b"/blocked", b"/blocked/users/", b"/blocked/ips/"]),
    rest=st.one_of(st.binary(max_size=40), st.text(max_size=20).map(str.encode)),
)
def test_no_path_is_an_internal_error(prefix: bytes, rest: bytes) -> None:
    answer = _get_bytes(_CLIENT, prefix + rest)
    assert answer.status_code in (200, 400, 404)
    assert answer.is_json or set(prefix + rest) == {ord("/")}  # the dashboard


@pytest.mark.parametrize("path", ["/blocked", "/blocked/users/alice", "/x", "/healthz", "/metrics"])
def test_no_answer_is_kept_or_guessed_at(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    kept = "no-cache" if path == "/blocked" else "no-store"  # what has a tag is asked for again
    assert answer.headers["Cache-Control"] == kept
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Request-Id"] != client.get(path).headers["X-Request-Id"]


def test_healthy_and_ready(client: FlaskClient) -> None:
    assert (client.get("/healthz").status_code, client.get("/healthz").json) == (
        200,
        {"status": "ok"},
    )
    assert (client.get("/readyz").status_code, client.get("/readyz").json) == (
        200,
        {"redis": "ok", "list": "complete"},
    )


def test_requests_are_measured_by_route_and_status(client: FlaskClient) -> None:
    client.get("/blocked")
    client.get("/blocked/users/alice")
    client.get("/blocked/users/bob")
    client.get("/blocked/users/%00")
    client.get("/nowhere")
    answer = client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    count = "blocked_api_request_seconds_count"
    user = 'route="/blocked/users/<rest:name>"'
    assert f'{count}{{route="/blocked",status="200"}} 1.0' in answer.text
    assert f'{count}{{{user},status="404"}} 2.0' in answer.text
    assert f'{count}{{{user},status="400"}} 1.0' in answer.text
    assert f'{count}{{route="unknown",status="404"}} 1.0' in answer.text
    assert "blocked_api_redis_failures_total 0.0" in answer.text


def test_the_log_has_one_line_a_request_and_names_nobody(client: FlaskClient) -> None:
    with capture_logs() as lines:
        answer = client.get("/blocked/users/alice")
        client.get("/blocked/ips/198.51.100.7")
        client.get("/blocked/users/alice%00")
    assert len(lines) == 3
    assert lines[0]["request_id"] == answer.headers["X-Request-Id"]
    assert lines[0]["route"] == "/blocked/users/<rest:name>"
    assert (lines[0]["method"], lines[0]["status"]) == ("GET", 404)
    assert lines[0]["ms"] >= 0
    assert "alice" not in str(lines)
    assert "198.51" not in str(lines)
