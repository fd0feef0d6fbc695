"""Lists, pages, checks, changes and what people see: each call, with blocks in memory."""

import gzip
import json
import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from blocked_api.access import Access, ListRate
from blocked_api.app import create_app
from login_blocking.subjects import Subject
from tests.support.block_entries import block, tombstone
from tests.support.blocked_api import NOW, InMemoryPresent
from tests.support.services import REPOSITORY

HOUR = 3_600_000
ALICE = Subject("user", "alice")
ADDRESS = Subject("ip", "198.51.100.7")


def _fill(present: InMemoryPresent, count: int) -> list[str]:
    names = [f"user{number:04}" for number in range(count)]
    for name in names:
        present.write(Subject("user", name), failures=block(present.at, present.at + HOUR))
    return names


def test_addresses_have_a_list_of_their_own(present: InMemoryPresent, client: FlaskClient) -> None:
    present.write(ADDRESS, failures=block(NOW, NOW + HOUR))
    assert client.get("/blocked/ips").data == b'{"ips-blocked":["198.51.100.7"]}\n'
    assert client.get("/blocked").json == {"users-blocked": []}


def test_pages_follow_each_other(present: InMemoryPresent, client: FlaskClient) -> None:
    names = _fill(present, 25)
    seen, cursor = [], ""
    for _ in range(3):
        page = client.get(f"/blocked?limit=10{cursor}").get_json()
        seen.append(page["users-blocked"])
        cursor = f"&cursor={page['next']}"
    assert seen == [names[:10], names[10:20], names[20:]]
    assert page["next"] is None
    assert client.get("/blocked?limit=25").get_json()["next"] is None


@settings(deadline=None)
@given(
    limit=st.integers(1, 7),
    lifted=st.lists(st.integers(0, 29), max_size=15),
    added=st.lists(st.text(min_size=1, max_size=3, alphabet="az09é😀"), max_size=15),
)
def test_who_is_blocked_all_the_while_is_shown_exactly_once(
    limit: int, lifted: list[int], added: list[str]
) -> None:
    present = InMemoryPresent()
    client = _client(present)
    names = [f"user{number:02}" for number in range(30)]
    for name in names:
        present.write(Subject("user", name), failures=block(NOW, NOW + HOUR))
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        document = client.get(f"/blocked?limit={limit}{cursor}").get_json()
        seen += document["users-blocked"]
        cursor = document["next"] and f"&cursor={document['next']}"
        if lifted:
            gone = Subject("user", names[lifted.pop()])
            present.write(gone, failures=tombstone(block(NOW, NOW + HOUR), NOW + 1))
        if added:
            present.write(Subject("user", added.pop()), failures=block(NOW, NOW + HOUR))
    stayed = {name for name in names if name in present.list.names("user")}
    assert len(seen) == len(set(seen))
    assert stayed <= set(seen)


def _client(present: InMemoryPresent, **wiring: Any) -> FlaskClient:  # noqa: ANN401
    return create_app(present, **wiring).test_client()


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("limit=0", "limit: not a whole number from 1 to 10,000"),
        ("limit=10001", "limit: not a whole number from 1 to 10,000"),
        ("limit=", "limit: not a whole number from 1 to 10,000"),
        ("limit=1e3", "limit: not a whole number from 1 to 10,000"),
        ("limit=-1", "limit: not a whole number from 1 to 10,000"),
        (f"limit={'9' * 5_000}", "limit: not a whole number from 1 to 10,000"),
        ("limit=1&cursor=%21", "cursor: not one that was given out"),
        ("limit=1&cursor=MTI", "cursor: not one that was given out"),
        ("limit=1&cursor=%C3%A9", "cursor: not one that was given out"),
        ("limit=1&cursor=%FF", "query: not UTF-8"),
    ],
)
def test_a_page_that_is_none_is_refused(client: FlaskClient, query: str, reason: str) -> None:
    encoded = query if "%FF" not in query else None
    if encoded is None:
        answer = client.get("/blocked", environ_overrides={"QUERY_STRING": "cursor=\xff"})
    else:
        answer = client.get(f"/blocked?{query}")
    assert (answer.status_code, answer.json) == (400, {"error": reason})


def test_what_is_known_is_not_sent_again(present: InMemoryPresent, client: FlaskClient) -> None:
    _fill(present, 3)
    first = client.get("/blocked")
    tag = first.headers["ETag"]
    same = client.get("/blocked", headers={"If-None-Match": tag})
    assert (same.status_code, same.data, same.headers["ETag"]) == (304, b"", tag)
    assert same.headers["Block-List-Status"] == "complete"
    # Another block of the same people is no other list.
    present.write(Subject("user", "user0001"), spraying=block(NOW, None))
    assert client.get("/blocked", headers={"If-None-Match": tag}).status_code == 304
    present.write(ALICE, failures=block(NOW, NOW + HOUR))
    other = client.get("/blocked", headers={"If-None-Match": tag})
    assert (other.status_code, len(other.get_json()["users-blocked"])) == (200, 4)


def test_an_end_makes_another_list(present: InMemoryPresent, client: FlaskClient) -> None:
    present.write(ALICE, failures=block(NOW, NOW + HOUR))
    tag = client.get("/blocked").headers["ETag"]
    present.at = NOW + HOUR - 1
    assert client.get("/blocked", headers={"If-None-Match": tag}).status_code == 304
    present.at = NOW + HOUR
    answer = client.get("/blocked", headers={"If-None-Match": tag})
    assert (answer.status_code, answer.json) == (200, {"users-blocked": []})


def test_who_takes_gzip_gets_it_for_long_lists(
    present: InMemoryPresent, client: FlaskClient
) -> None:
    short = client.get("/blocked", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in short.headers
    _fill(present, 200)
    for path in ("/blocked", "/blocked/changes"):
        plain = client.get(path)
        zipped = client.get(path, headers={"Accept-Encoding": "gzip"})
        assert zipped.headers["Content-Encoding"] == "gzip"
        assert zipped.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
        assert gzip.decompress(zipped.data) == plain.data
        assert len(zipped.data) < len(plain.data) / 4
        assert zipped.headers["ETag"] != plain.headers["ETag"]
        for tag in (zipped.headers["ETag"], plain.headers["ETag"]):
            assert client.get(path, headers={"If-None-Match": tag}).status_code == 304
        refused = client.get(path, headers={"Accept-Encoding": "gzip;q=0"})
        assert "Content-Encoding" not in refused.headers


def _check(client: FlaskClient, document: object) -> TestResponse:
    return client.post("/blocked/check", json=document)


def test_many_are_checked_at_once_in_any_spelling(
    present: InMemoryPresent, client: FlaskClient
) -> None:
    present.write(ALICE, failures=block(NOW, NOW + HOUR))
    present.write(Subject("ip", "2001:db8::/64"), operator=block(NOW, None))
    answer = _check(
        client, {"users": [" ALICE", "bob", "alice"], "ips": ["2001:DB8::1", "198.51.100.7"]}
    )
    assert answer.status_code == 200
    told = {"blocked_until": "2026-11-24T01:00:00.123Z", "rule": "failures"}
    assert answer.get_json() == {
        "blocked": [
            {"subject_type": "user", "subject": " ALICE", **told},
            {"subject_type": "user", "subject": "alice", **told},
            {
                "subject_type": "ip",
                "subject": "2001:DB8::1",
                "blocked_until": None,
                "rule": "operator",
            },
        ]
    }
    assert _check(client, {}).json == {"blocked": []}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([], 'The body is not of the form {"users":[…],"ips":[…]}'),
        ({"user": ["alice"]}, 'The body is not of the form {"users":[…],"ips":[…]}'),
        ({"users": "alice"}, "users: not a list of texts"),
        ({"users": [1]}, "users: not a list of texts"),
        ({"ips": None}, "ips: not a list of texts"),
        ({"users": [" "]}, "user: a user name may not be blank"),
        ({"ips": ["x"]}, "ip: not an IPv4 or IPv6 address"),
        ({"users": ["a"] * 600, "ips": ["::1"] * 401}, "At most 1,000 subjects together"),
    ],
)
def test_a_check_that_is_none_is_refused(
    client: FlaskClient, document: object, reason: str
) -> None:
    answer = _check(client, document)
    assert (answer.status_code, answer.json) == (400, {"error": reason})


def test_a_thousand_are_checked(client: FlaskClient) -> None:
    assert _check(client, {"users": ["a"] * 600, "ips": ["::1"] * 400}).status_code == 200


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"NaN"])
def test_a_body_that_is_no_json_is_refused(client: FlaskClient, body: bytes) -> None:
    answer = client.post("/blocked/check", data=body, content_type="application/json")
    assert answer.status_code == 400


def test_other_bodies_are_refused_by_kind_and_size(client: FlaskClient) -> None:
    assert client.post("/blocked/check", data=b"{}").status_code == 415
    huge = json.dumps({"users": ["a" * 300_000]})
    assert (
        client.post("/blocked/check", data=huge, content_type="application/json").status_code == 413
    )


def test_changes_lead_from_one_version_to_the_next(
    present: InMemoryPresent, client: FlaskClient
) -> None:
    present.write(ALICE, failures=block(NOW, NOW + HOUR, level=2))
    whole = client.get("/blocked/changes").get_json()
    alice = {
        "subject_type": "user",
        "subject": "alice",
        "blocked_until": "2026-11-24T01:00:00.123Z",
        "rule": "failures",
        "since": "2026-11-24T00:00:00.123Z",
        "level": 2,
    }
    assert whole == {
        "version": whole["version"],
        "full": True,
        "added": [alice],
        "changed": [],
        "removed": [],
    }
    present.write(ADDRESS, spraying=block(NOW, NOW + HOUR))
    present.write(ALICE, failures=tombstone(block(NOW, NOW + HOUR), NOW + 1))
    answer = client.get(f"/blocked/changes?since={whole['version']}")
    difference = answer.get_json()
    assert (difference["full"], difference["changed"]) == (False, [])
    assert [entry["subject"] for entry in difference["added"]] == ["198.51.100.7"]
    assert difference["removed"] == [{"subject_type": "user", "subject": "alice"}]
    assert answer.headers["Block-List-Version"] == difference["version"]
    nothing = client.get(f"/blocked/changes?since={difference['version']}").get_json()
    assert nothing["added"] == nothing["changed"] == nothing["removed"] == []


def test_a_version_of_elsewhere_is_gone(client: FlaskClient) -> None:
    answer = client.get("/blocked/changes?since=2.0-0.0")
    assert answer.status_code == 410
    assert "take /blocked/changes whole" in answer.get_json()["error"]
    for wrong in ("", "x", "1.2.3"):
        assert client.get(f"/blocked/changes?since={wrong}").status_code == 400


def test_the_documented_search_works_as_it_is_written(
    present: InMemoryPresent, client: FlaskClient
) -> None:
    present.write(ALICE, **{"user-failures": block(NOW, NOW + HOUR)})
    text = (REPOSITORY / "docs/blocked-api.md").read_text(encoding="utf-8")
    (call,) = re.findall(r"`GET (/blocked/subjects[^`]*)`", text)
    answer = client.get(call)
    assert answer.status_code == 200
    assert [entry["subject"] for entry in answer.get_json()["subjects"]] == ["alice"]


def test_people_see_the_newest_first_page_by_page(
    present: InMemoryPresent, client: FlaskClient
) -> None:
    for number in range(7):
        present.write(Subject("user", f"user{number}"), failures=block(NOW - number, NOW + HOUR))
    seen, cursor = [], ""
    while True:
        page = client.get(f"/blocked/subjects?limit=3{cursor}").get_json()
        seen += [entry["subject"] for entry in page["subjects"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert seen == [f"user{number}" for number in range(7)]


def test_people_search_and_filter(present: InMemoryPresent, client: FlaskClient) -> None:
    present.write(ALICE, failures=block(NOW, NOW + HOUR, level=2))
    present.write(Subject("user", "malice"), spraying=block(NOW - 1, NOW + HOUR))
    present.write(ADDRESS, spraying=block(NOW - 2, NOW + HOUR))

    def found(query: str) -> list[str]:
        answer = client.get(f"/blocked/subjects?{query}")
        assert answer.status_code == 200
        return [entry["subject"] for entry in answer.get_json()["subjects"]]

    assert found("") == ["alice", "malice", "198.51.100.7"]
    assert found("q=ALI") == ["alice", "malice"]
    assert found("q=100.7") == ["198.51.100.7"]
    assert found("subject_type=ip") == ["198.51.100.7"]
    assert found("rule=spraying&subject_type=user") == ["malice"]
    assert found("level=2") == ["alice"]
    assert found("q=%25&rule=x") == []
    for wrong in ("subject_type=host", "level=0", "level=", "limit=501", "limit=", "cursor=MTI"):
        assert client.get(f"/blocked/subjects?{wrong}").status_code == 400


def test_a_subject_has_a_history(present: InMemoryPresent, client: FlaskClient) -> None:
    present.write(ALICE, failures=block(NOW, NOW + 1_000))
    present.at = NOW + 2_000
    present.write(ALICE, spraying=block(NOW + 2_000, None))
    present.at = NOW + 3_000
    present.write(ALICE, spraying=tombstone(block(NOW + 2_000, None), NOW + 3_000))
    document = client.get("/blocked/history?subject_type=user&subject=ALICE").get_json()
    assert document["subject"] == "alice"
    assert [(e["event"], e["rule"], e["at"][17:]) for e in document["events"]] == [
        ("unblocked", "spraying", "03.123Z"),
        ("blocked", "spraying", "02.123Z"),
        ("expired", "failures", "01.123Z"),
        ("blocked", "failures", "00.123Z"),
    ]
    for wrong in ("", "subject_type=user", "subject=alice", "subject_type=ip&subject=alice"):
        assert client.get(f"/blocked/history?{wrong}").status_code == 400


def test_the_summary_says_how_things_stand(present: InMemoryPresent) -> None:
    client = _client(present, login_api_url="http://127.0.0.1:3000")
    present.write(ALICE, failures=block(NOW, NOW + HOUR), spraying=block(NOW, NOW + HOUR))
    present.write(ADDRESS, spraying=block(NOW, NOW + HOUR))
    present.begun_in = {NOW // 60_000: {"spraying": 2}}
    present.heartbeat, present.lag_ms = NOW - 700, 40
    document = client.get("/blocked/summary").get_json()
    assert (document["status"], document["users"], document["ips"]) == ("complete", 1, 1)
    assert document["by_rule"] == {"failures": 1, "spraying": 2}
    assert len(document["begun"]) == 60
    assert document["begun"][-1] == {
        "minute": "2026-11-24T00:00:00.000Z",
        "by_rule": {"spraying": 2},
    }
    assert document["begun"][0] == {"minute": "2026-11-23T23:01:00.000Z", "by_rule": {}}
    assert [event["event"] for event in document["newest"]] == ["blocked"] * 3
    assert document["detector"] == {"heartbeat_age_ms": 700, "lag_ms": 40}
    assert document["login_api"] == "http://127.0.0.1:3000"


@pytest.mark.parametrize(
    ("complete_at", "heartbeat", "status"),
    [
        (NOW, NOW, "complete"),
        (NOW + 1, NOW, "refilling"),
        (None, NOW, "refilling"),
        (NOW, NOW - 10_000, "complete"),
        (NOW, NOW - 10_001, "stale"),
        (NOW, None, "stale"),
        (NOW + 1, None, "refilling"),
    ],
)
def test_every_answer_says_whether_the_list_is_whole(
    present: InMemoryPresent,
    client: FlaskClient,
    complete_at: int | None,
    heartbeat: int | None,
    status: str,
) -> None:
    present.complete_at, present.heartbeat = complete_at, heartbeat
    for path in ("/blocked", "/blocked/users/alice", "/blocked/changes", "/blocked/summary"):
        answer = client.get(path)
        assert answer.headers["Block-List-Status"] == status
        assert answer.headers["Block-List-Version"].startswith("1.")
    assert (client.get("/readyz").status_code, client.get("/readyz").json) == (
        200,
        {"redis": "ok", "list": status},
    )
    complete = "1.0" if status == "complete" else "0.0"
    assert f"blocked_api_list_complete {complete}" in client.get("/metrics").text


def test_figures_of_the_list(present: InMemoryPresent, client: FlaskClient) -> None:
    present.write(ALICE, failures=block(NOW, NOW + HOUR))
    present.heartbeat, present.lag_ms = NOW - 1_500, None
    told = client.get("/metrics").text
    assert 'blocked_api_blocked_subjects{subject_type="user"} 1.0' in told
    assert 'blocked_api_blocked_subjects{subject_type="ip"} 0.0' in told
    assert 'blocked_api_blocked_by_rule{rule="failures"} 1.0' in told
    assert "blocked_api_detector_heartbeat_age_seconds 1.5" in told
    assert "blocked_api_detector_lag_seconds NaN" in told
    present.write(ALICE, failures=tombstone(block(NOW, NOW + HOUR), NOW + 1))
    assert 'blocked_api_blocked_by_rule{rule="failures"} 0.0' in client.get("/metrics").text


TOKEN = "a-token-of-many-characters"
OPEN = ["/", "/healthz", "/readyz", "/openapi.json", "/static/main.js"]
CLOSED = [
    "/blocked",
    "/blocked/ips",
    "/blocked/users/alice",
    "/blocked/ips/198.51.100.7",
    "/blocked/changes",
    "/blocked/subjects",
    "/blocked/history?subject_type=user&subject=alice",
    "/blocked/summary",
    "/metrics",
]


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", f"Basic {TOKEN}", "Bearer x", TOKEN]
)
def test_with_a_token_set_only_who_knows_it_is_told(
    present: InMemoryPresent, header: str | None
) -> None:
    client = _client(present, access=Access(TOKEN))
    headers = {} if header is None else {"Authorization": header}
    for path in CLOSED:
        answer = client.get(path, headers=headers)
        assert (answer.status_code, answer.json) == (401, {"error": "Not authorised"})
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert client.post("/blocked/check", json={}, headers=headers).status_code == 401
    for path in OPEN:
        assert client.get(path, headers=headers).status_code == 200


@pytest.mark.parametrize("header", [f"Bearer {TOKEN}", f"bearer {TOKEN}"])
def test_who_knows_the_token_is_told(present: InMemoryPresent, header: str) -> None:
    client = _client(present, access=Access(TOKEN))
    for path in CLOSED:
        status = client.get(path, headers={"Authorization": header}).status_code
        assert status == (404 if path in ("/blocked/users/alice", CLOSED[3]) else 200)


def test_one_client_gets_so_many_lists_and_others_theirs(present: InMemoryPresent) -> None:
    client = _client(present, rate=ListRate(5))

    def ask(path: str, address: str) -> int:
        return client.get(path, environ_overrides={"REMOTE_ADDR": address}).status_code

    assert [ask("/blocked", "2001:db8::1") for _ in range(5)] == [200] * 5
    assert ask("/blocked/changes", "2001:db8::2") == 429  # of the same /64
    assert ask("/blocked", "198.51.100.7") == 200
    assert ask("/blocked/users/alice", "2001:db8::1") == 404
    refused = client.get("/blocked", environ_overrides={"REMOTE_ADDR": "2001:db8::1"})
    assert refused.json == {"error": "Too many lists; follow /blocked/stream instead"}
    assert int(refused.headers["Retry-After"]) > 0
    assert "blocked_api_rate_refusals_total 2.0" in client.get("/metrics").text


def test_the_page_may_reach_this_server_and_the_login_api_only(present: InMemoryPresent) -> None:
    client = _client(present, login_api_url="https://login.example")
    answer = client.get("/")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self' https://login.example;" in policy
    assert "unsafe" not in policy
    assert "connect-src 'self';" in _client(present).get("/").headers["Content-Security-Policy"]
    again = client.get("/", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/", "/static/vendor/README.md"]
)
def test_nothing_else_is_served_as_a_file(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 404
