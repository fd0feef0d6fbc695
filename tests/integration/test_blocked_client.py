"""The client against a server that speaks as documented, and misbehaves (real sockets)."""

import gzip
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import requests

from blocked_client import Block, BlockedClient
from tests.support.fake_blocked_api import FakeBlockedApi
from tests.support.services import REPOSITORY, free_port
from tests.support.waiting import eventually

pytestmark = pytest.mark.service

CHANGES, STREAM = "/blocked/changes", "/blocked/stream"


@pytest.fixture
def api() -> Iterator[FakeBlockedApi]:
    with FakeBlockedApi().serving() as serving:
        yield serving


@pytest.fixture
def client(api: FakeBlockedApi) -> Iterator[BlockedClient]:
    with BlockedClient(api.url, silence_s=5, random_fraction=lambda: 0.0) as following:
        yield following


def followed(client: BlockedClient, api: FakeBlockedApi) -> None:
    """Returns when the stream stands and all of it has been heard."""

    def has_followed() -> bool:
        status = client.status
        return bool(
            api.listening and status.version == api.version and status.state != "unreachable"
        )

    eventually(has_followed, within_s=10)


def lists_taken(api: FakeBlockedApi) -> int:
    return [path for path, _ in api.asked].count(CHANGES)


def test_the_list_and_then_each_change(api: FakeBlockedApi) -> None:
    api.block("alice")
    api.block("203.0.113.9", "2001:db8:1:2::/64", subject_type="ip", for_s=None)
    with BlockedClient(api.url) as client:
        assert client.wait_until_ready(10)
        assert client.blocked("user") == ["alice"]
        api.block("bob")
        api.unblock("alice")
        followed(client, api)
        assert client.blocked("user") == ["bob"]
        assert client.is_blocked(user=" BOB ")
        assert not client.is_blocked(user="alice")
        assert client.is_blocked(ip="::ffff:203.0.113.9")
        assert client.is_blocked(ip="2001:db8:1:2:3::4")
        assert not client.is_blocked(ip="2001:db8:1:3::4")
        assert client.is_blocked("alice", "203.0.113.9")
        assert client.is_blocked("bob", "198.51.100.1")
        assert not client.is_blocked()
        status = client.status
    assert (status.state, status.users, status.ips, status.malformed) == ("complete", 1, 2, 0)
    assert status.age_s is not None
    assert status.age_s < 5
    assert lists_taken(api) == 1


def test_what_cannot_be_a_subject_is_not_blocked(
    api: FakeBlockedApi, client: BlockedClient
) -> None:
    api.block("alice")
    followed(client, api)
    for name in ("", " ", "\0", "\ud800", "a" * 1_025, "a" * 1_000_000, "\u0301" * 1_000_000):
        assert not client.is_blocked(user=name, ip=name)
        assert client.block_of(user=name, ip=name) is None


def test_a_name_too_long_to_remember_is_found_all_the_same(
    api: FakeBlockedApi, client: BlockedClient
) -> None:
    api.block("a" * 1_000)
    followed(client, api)
    assert client.is_blocked("A" * 1_000)


def test_the_block_that_ends_last_is_told(api: FakeBlockedApi, client: BlockedClient) -> None:
    api.block("alice", for_s=60)
    api.block("bob", for_s=None)
    api.block("203.0.113.9", subject_type="ip", for_s=120)
    followed(client, api)
    told = client.block_of("ALICE", "203.0.113.9")
    assert told is not None
    assert (told.subject_type, told.subject, told.rule) == ("ip", "203.0.113.9", "user-failures")
    assert told.until is not None
    assert 110 < told.until.timestamp() - time.time() < 121
    assert client.block_of("bob", "203.0.113.9") == Block("user", "bob", None, "user-failures")
    assert client.block_of("carol", "203.0.113.8") is None


def test_a_block_ends_at_its_end_though_nobody_tells(
    api: FakeBlockedApi, client: BlockedClient
) -> None:
    api.block("alice", for_s=3)
    followed(client, api)
    assert client.is_blocked("alice")
    eventually(lambda: not client.is_blocked("alice"), within_s=10)
    assert client.block_of("alice") is None
    assert client.status.users == 1  # still held: the server has not told


@pytest.mark.parametrize(("when_unknown", "blocked"), [("allow", False), ("refuse", True)])
def test_before_the_first_list_the_setting_decides(when_unknown: str, *, blocked: bool) -> None:
    nobody = FakeBlockedApi()
    with nobody.serving():
        pass  # now its port answers nobody
    with BlockedClient(nobody.url, when_unknown=when_unknown) as client:  # type: ignore[arg-type]
        assert not client.wait_until_ready(0.1)
        assert not client.is_ready
        assert client.is_blocked("alice") is blocked
        assert client.block_of("alice") is None
        assert client.status.state == "unreachable"
        assert client.status.age_s is None
        eventually(lambda: client.status.problem is not None, within_s=5)
        with nobody.serving():
            assert client.wait_until_ready(20)
            assert not client.is_blocked("alice")


def test_an_outage_is_answered_from_the_copy(caplog: pytest.LogCaptureFixture) -> None:
    api = FakeBlockedApi()
    with api.serving():
        api.block("alice")
        client = BlockedClient(api.url).start()
        followed(client, api)
    try:
        eventually(lambda: client.status.state == "unreachable", within_s=10)
        assert client.status.problem is not None
        assert client.is_blocked("alice")
        api.block("bob")
        api.unblock("alice")
        with api.serving():
            followed(client, api)
            assert client.blocked("user") == ["bob"]
            assert client.status.state == "complete"
            assert client.status.full_lists == 1  # resumed, not taken anew
            last_id = api.asked[-1][1]["Last-Event-ID"]
            assert last_id == "1-1"
    finally:
        client.close()
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert 1 <= len(warnings) <= 3  # one a change of the problem, not one a try


def test_a_connection_that_says_nothing_is_given_up() -> None:
    with FakeBlockedApi(beat_s=None).serving() as api:
        with BlockedClient(api.url, silence_s=0.3) as client:
            assert client.wait_until_ready(10)
            eventually(lambda: client.status.connections >= 2, within_s=10)
            api.block("alice")
            eventually(lambda: client.is_blocked("alice"), within_s=10)
        assert client.status.malformed == 0
        assert client.status.full_lists == 1


def test_comments_keep_a_connection(api: FakeBlockedApi) -> None:
    with BlockedClient(api.url, silence_s=1.5) as client:
        followed(client, api)
        time.sleep(4)  # more than twice the silence that would end it
        assert client.status.connections == 1


def test_a_comment_s_id_is_what_the_stream_is_resumed_from(
    api: FakeBlockedApi, client: BlockedClient
) -> None:
    api.block("alice")
    followed(client, api)
    api.say(b": alive\nid: 1-quiet\n\n")
    eventually(lambda: client.status.version == "1-quiet", within_s=5)
    api.hang_up()
    eventually(lambda: api.asked[-1][1].get("Last-Event-ID") == "1-quiet", within_s=10)
    assert client.status.malformed == 0


def test_another_list_is_taken_whole(api: FakeBlockedApi, client: BlockedClient) -> None:
    api.block("alice", "bob")
    followed(client, api)
    api.entries.clear()
    api.epoch = 2
    api.block("carol")
    api.say(api.reset_event())
    followed(client, api)
    assert client.blocked("user") == ["carol"]


def test_nobody_goes_free_while_an_emptied_list_refills(
    api: FakeBlockedApi, client: BlockedClient
) -> None:
    api.block("alice", "bob")
    api.block("brief", for_s=1)
    followed(client, api)
    api.empty()
    followed(client, api)
    assert client.status.state == "refilling"
    api.block("carol")
    api.unblock("bob")
    followed(client, api)
    assert {"alice", "bob", "carol"} <= set(client.blocked("user"))
    eventually(lambda: not client.is_blocked("brief"), within_s=5)
    api.block("alice")
    api.say_status("complete")
    eventually(lambda: client.blocked("user") == ["alice", "carol"], within_s=10)
    eventually(lambda: client.status.state == "complete", within_s=10)


def test_a_list_that_was_always_complete_is_not_taken_again(
    api: FakeBlockedApi, client: BlockedClient
) -> None:
    api.block("alice")
    followed(client, api)
    for status, redis in (("stale", "ok"), ("complete", "ok"), ("complete", "down")):
        api.say_status(status, redis)
        state = "stale" if redis == "down" else status
        eventually(lambda state=state: client.status.state == state, within_s=5)  # type: ignore[misc]
    assert lists_taken(api) == 1


MALFORMED = {
    "no JSON": b"event: change\ndata: {alice\n\n",
    "another form": b'event: change\ndata: {"added":"alice"}\n\n',
    "no version": b'data: {"full":false,"added":[],"changed":[],"removed":[]}\nevent: change\n\n',
    "no status": b'event: status\ndata: {"status":"alice"}\n\n',
    "no UTF-8": b"event: change\ndata: alice\xff\n\n",
    "no id": "id: é\n\n".encode(),
    "deep": b"event: change\ndata: " + b"[" * 100_000 + b"\n\n",
}


@pytest.mark.parametrize("malformed", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_event_is_counted_and_the_list_taken_again(
    api: FakeBlockedApi,
    client: BlockedClient,
    caplog: pytest.LogCaptureFixture,
    malformed: bytes,
) -> None:
    api.block("alice")
    followed(client, api)
    api.say(malformed)
    eventually(lambda: client.status.malformed == 1, within_s=5)
    assert client.is_blocked("alice")
    eventually(lambda: lists_taken(api) == 2, within_s=10)
    api.block("bob")
    followed(client, api)
    assert client.blocked("user") == ["alice", "bob"]
    assert "malformed" in caplog.text
    assert "alice" not in caplog.text


ODD_ANSWERS = {
    "error": (500, {}, b"oops"),
    "no JSON": (200, {"Block-List-Status": "complete"}, b"<html>alice</html>"),
    "no status": (
        200,
        {},
        b'{"version":"1-1","full":true,"added":[],"changed":[],"removed":[]}',
    ),
    "not full": (
        200,
        {"Block-List-Status": "complete"},
        b'{"version":"1-1","full":false,"added":[],"changed":[],"removed":[]}',
    ),
    "elsewhere": (302, {"Location": "http://127.0.0.1:1/"}, b""),
    "no gzip": (200, {"Block-List-Status": "complete", "Content-Encoding": "gzip"}, b"{}"),
}


@pytest.mark.parametrize("answer", ODD_ANSWERS.values(), ids=ODD_ANSWERS)
def test_an_odd_answer_changes_nothing_and_is_asked_for_again(
    api: FakeBlockedApi, client: BlockedClient, answer: tuple[int, dict[str, str], bytes]
) -> None:
    api.block("alice")
    followed(client, api)
    api.instead[CHANGES] = answer
    api.say(api.reset_event())
    eventually(lambda: client.status.state == "unreachable", within_s=10)
    assert client.is_blocked("alice")
    del api.instead[CHANGES]
    followed(client, api)
    assert client.status.state == "complete"


@pytest.mark.parametrize("status", [400, 410])
def test_a_version_that_is_not_known_any_more_means_the_full_list(
    api: FakeBlockedApi, client: BlockedClient, status: int
) -> None:
    followed(client, api)
    api.instead[STREAM] = (status, {}, b"{}")
    api.hang_up()
    eventually(lambda: lists_taken(api) >= 2, within_s=10)
    del api.instead[STREAM]
    followed(client, api)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_heeded_by_the_list(api: FakeBlockedApi, status: int) -> None:
    api.instead[CHANGES] = (status, {"Retry-After": "2"}, b"{}")
    began = time.monotonic()
    with BlockedClient(api.url, random_fraction=lambda: 0.1) as client:
        eventually(lambda: client.status.problem == f"HTTP {status}", within_s=5)
        del api.instead[CHANGES]
        assert client.wait_until_ready(10)
        assert time.monotonic() - began > 1.5


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_heeded_by_the_stream(
    api: FakeBlockedApi, client: BlockedClient, status: int
) -> None:
    api.block("alice")
    followed(client, api)
    api.instead[STREAM] = (status, {"Retry-After": "1"}, b"{}")
    began = time.monotonic()
    api.hang_up()
    eventually(lambda: client.status.problem == f"HTTP {status}", within_s=5)
    assert (client.status.state, client.is_blocked("alice")) == ("unreachable", True)
    tries = len(api.asked)
    del api.instead[STREAM]
    api.block("bob")
    eventually(lambda: client.is_blocked("bob"), within_s=10)
    assert time.monotonic() - began > 0.8
    assert len(api.asked) == tries + 1
    assert lists_taken(api) == 1  # resumed


def test_a_client_too_far_behind_takes_the_full_list(
    api: FakeBlockedApi, client: BlockedClient
) -> None:
    api.block("alice", "bob")
    followed(client, api)
    api.most_behind = 2
    api.instead[STREAM] = (500, {}, b"")
    api.hang_up()
    eventually(lambda: client.status.state == "unreachable", within_s=10)
    for name in ("carol", "dave", "eve"):
        api.block(name)
    api.unblock("bob")
    del api.instead[STREAM]
    followed(client, api)
    assert client.blocked("user") == ["alice", "carol", "dave", "eve"]
    assert (client.status.full_lists, client.status.malformed) == (2, 0)


def test_the_full_list_is_taken_later_at_random_and_the_copy_answers_meanwhile(
    api: FakeBlockedApi,
) -> None:
    asked_for: list[float] = []

    def fraction() -> float:
        asked_for.append(time.monotonic())
        return 0.25

    api.block("alice")
    with BlockedClient(api.url, random_fraction=fraction) as client:
        followed(client, api)
        assert asked_for == []  # the first list is taken at once
        api.say(api.reset_event())
        eventually(lambda: asked_for, within_s=5)
        while lists_taken(api) == 1:
            assert client.is_blocked("alice")
            time.sleep(0.005)
        assert 0.5 <= time.monotonic() - asked_for[0] < 1.5
        followed(client, api)
        assert client.status.full_lists == 2


def test_closing_does_not_wait_for_the_full_list(api: FakeBlockedApi) -> None:
    with BlockedClient(api.url, random_fraction=lambda: 1.0) as client:
        followed(client, api)
        api.say(api.reset_event())
        eventually(lambda: client.status.version is None, within_s=5)
        began = time.monotonic()
    assert time.monotonic() - began < 1
    assert lists_taken(api) == 1


def test_a_list_in_pieces_is_read(api: FakeBlockedApi) -> None:
    api.block(*(f"user{number}" for number in range(2_000)))
    api.in_pieces_of = 1_000
    with BlockedClient(api.url) as client:
        followed(client, api)
        assert client.status.users == 2_000
        assert client.status.malformed == 0


def test_a_list_that_breaks_off_changes_nothing(api: FakeBlockedApi, client: BlockedClient) -> None:
    api.block("alice", *(f"user{number}" for number in range(200)))
    followed(client, api)
    api.in_pieces_of, api.pieces_sent = 1_000, 3
    api.say(api.reset_event())
    eventually(lambda: lists_taken(api) >= 3, within_s=10)
    assert client.status.users == 201
    assert client.is_blocked("alice")
    assert not client.is_blocked("bob")
    assert client.status.problem == "ProtocolError"
    api.pieces_sent = None
    api.block("bob")
    followed(client, api)
    assert client.is_blocked("bob")


def test_after_a_silence_longer_than_allowed_the_setting_decides() -> None:
    api = FakeBlockedApi()
    with api.serving():
        client = BlockedClient(
            api.url, silence_s=1.5, max_age_s=1.5, random_fraction=lambda: 0.0
        ).start()
        followed(client, api)
        for _ in range(40):  # comments alone keep it young
            assert not client.is_blocked("bob")
            time.sleep(0.1)
    try:
        eventually(lambda: client.is_blocked("bob"), within_s=10)
        assert not client.is_ready
        with api.serving():
            eventually(lambda: not client.is_blocked("bob"), within_s=20)
            assert client.is_ready
    finally:
        client.close()


def test_answers_that_cannot_be_read_do_not_keep_the_list_young(
    api: FakeBlockedApi, client: BlockedClient
) -> None:
    followed(client, api)
    page = (200, {"Block-List-Status": "complete"}, b"<html>")
    api.instead = {CHANGES: page, STREAM: page}
    api.hang_up()
    eventually(lambda: client.status.state == "unreachable", within_s=5)
    began = time.monotonic()
    eventually(lambda: client.status.malformed >= 3, within_s=20)
    elapsed_s = time.monotonic() - began
    assert client.status.age_s is not None
    assert client.status.age_s >= elapsed_s > 0


def test_a_problem_is_logged_once_and_not_at_each_try(
    api: FakeBlockedApi, caplog: pytest.LogCaptureFixture
) -> None:
    api.instead[CHANGES] = (500, {}, b"")
    client = BlockedClient(api.url)
    client._first_delay_s = 0.05
    with client:
        eventually(lambda: lists_taken(api) >= 3, within_s=10)
        del api.instead[CHANGES]
        followed(client, api)
    assert [record.getMessage() for record in caplog.records] == [
        "the block list is not followed: HTTP 500"
    ]


def test_a_token_is_sent_and_a_wrong_one_told() -> None:
    with FakeBlockedApi(token="right").serving() as api:
        with BlockedClient(api.url, "right") as client:
            followed(client, api)
        with BlockedClient(api.url, "wrong") as client:
            eventually(lambda: client.status.problem == "HTTP 401", within_s=5)
            assert not client.is_ready


def test_a_token_is_not_sent_to_where_the_server_points(api: FakeBlockedApi) -> None:
    elsewhere = {"Location": f"{api.url}{CHANGES}"}
    with FakeBlockedApi(token="right").serving() as first:
        first.instead[CHANGES] = (302, elsewhere, b"")
        with BlockedClient(first.url, "right") as client:
            eventually(lambda: client.status.problem == "HTTP 302", within_s=5)
    assert api.asked == []


def test_a_list_that_travels_packed_is_read(api: FakeBlockedApi) -> None:
    api.block(*(f"user{number}" for number in range(5_000)))
    packed = gzip.compress(api.full())
    api.instead[CHANGES] = (
        200,
        {"Block-List-Status": "complete", "Content-Encoding": "gzip"},
        packed,
    )
    with BlockedClient(api.url) as client:
        followed(client, api)
        assert client.status.users == 5_000
    assert api.asked[0][1]["Accept-Encoding"] == "gzip"


def test_closing_is_quick_in_every_state(api: FakeBlockedApi) -> None:
    api.beat_s = None
    following = BlockedClient(api.url).start()
    followed(following, api)
    waiting = BlockedClient("http://127.0.0.1:1").start()
    eventually(lambda: waiting.status.problem is not None, within_s=5)
    for client in (following, waiting):
        began = time.monotonic()
        client.close()
        assert time.monotonic() - began < 1
        assert client._thread is not None
        assert not client._thread.is_alive()
        with pytest.raises(RuntimeError, match="closed"):
            client.start()
    assert following.status.state == "unreachable"


def test_readers_see_no_gap_while_lists_are_taken(
    api: FakeBlockedApi, client: BlockedClient
) -> None:
    api.block("alice", *(f"user{number}" for number in range(2_000)))
    followed(client, api)
    missed: list[int] = []
    ending = threading.Event()

    def read() -> None:
        while not ending.is_set():
            if not client.is_blocked("Alice"):
                missed.append(1)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(4):
        api.say(api.reset_event())
        api.block(f"more{number}")
        followed(client, api)
    ending.set()
    for reader in readers:
        reader.join()
    assert missed == []


def test_the_example_refuses_who_is_blocked(api: FakeBlockedApi) -> None:
    port = free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "flask", "--app", str(REPOSITORY / "examples/flask_login.py")),
            *("run", "--port", str(port)),
        ],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "BLOCKED_API_URL": api.url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"

    def told(path: str) -> bool:
        try:
            return bool(requests.get(url + path, timeout=5).json()["list"] == "complete")
        except requests.ConnectionError:
            return False

    def login(name: str) -> requests.Response:
        return requests.post(f"{url}/login", json={"user": name, "pass": "guess"}, timeout=5)

    try:
        eventually(lambda: told("/status"), within_s=20)
        assert login("alice").json() == {"success": True, "user": "alice"}
        api.block("alice")
        eventually(lambda: login("ALICE").status_code == 403, within_s=10)
        refused = login("alice")
        until = api.entries["user", "alice"]["blocked_until"]
        assert refused.json() == {"error": "User blocked", "blocked_until": until}
        assert login("bob").status_code == 200
    finally:
        process.terminate()
        process.wait(10)


FORKS = """
import os, sys, time
from blocked_client import BlockedClient

def complete(client):
    while client.status.state != "complete":
        time.sleep(0.01)

def told(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

client = BlockedClient(sys.argv[1]).start()
assert client.wait_until_ready(10)
complete(client)

closing = os.fork()
if closing == 0:
    client.close()
    os._exit(5)
starting = os.fork()
if starting == 0:
    assert client.status.state == "unreachable"
    connections = client.status.connections
    client.start()
    complete(client)
    while client.status.connections <= connections:  # the stream begins after the list
        time.sleep(0.01)
    client.close()
    os._exit(7)
hasty = os.fork()
if hasty == 0:
    client._own()
    assert client._response is None
    client.start().close()
    os._exit(9)
print(told(closing), told(starting), told(hasty))
time.sleep(0.5)
print(client.status.state, client.status.connections, client.status.problem)
"""


def test_a_fork_may_close_or_start_anew_and_the_parent_hears_on(api: FakeBlockedApi) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKS, api.url]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    told = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert (told.stdout, told.stderr) == ("5 7 9\ncomplete 1 None\n", "")
