"""The client against the Blocked API as it is deployed, before a real Redis."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from blocked_client import BlockedClient
from flink_jobs.redis_writer import RedisBlockWriter
from login_blocking.subjects import Subject
from tests.support.block_entries import block, tombstone
from tests.support.running_blocked_api import HOUR, SCRIPT, RunningApi, report, running_api
from tests.support.services import RedisServer, free_port, running_redis
from tests.support.waiting import eventually

pytestmark = pytest.mark.service


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@contextmanager
def writing(redis: RedisServer) -> Iterator[RedisBlockWriter]:
    writer = RedisBlockWriter(redis.url("detector"), SCRIPT)
    yield writer
    writer.close()


def block_now(redis: RedisServer, *subjects: Subject, for_ms: int = HOUR) -> None:
    with writing(redis) as writer:
        for subject in subjects:
            writer.apply(subject, {"failures": block(now_ms(), now_ms() + for_ms)})


def user(name: str) -> Subject:
    return Subject("user", name)


def equals_the_server(client: BlockedClient, api: RunningApi) -> bool:
    users: list[str] = api.get("/blocked").json()["users-blocked"]
    ips: list[str] = api.get("/blocked/ips").json()["ips-blocked"]
    return (client.blocked("user"), client.blocked("ip")) == (users, ips)


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[RedisServer]:
    report(redis_server)
    yield redis_server
    with redis_server.admin() as admin:
        admin.flushall()


@pytest.fixture
def api(tmp_path: Path, redis: RedisServer) -> Iterator[RunningApi]:
    with running_api(tmp_path, redis.url("blocked_api")) as running:
        running.wait_until_healthy()
        running.wait_for("/blocked", 200)
        yield running


@pytest.fixture
def client(api: RunningApi) -> Iterator[BlockedClient]:
    with BlockedClient(f"http://127.0.0.1:{api.port}") as following:
        assert following.wait_until_ready(20)
        eventually(lambda: following.status.connections, within_s=10)
        yield following


def test_the_copy_equals_the_server_s_list(
    redis: RedisServer, client: BlockedClient, api: RunningApi
) -> None:
    names = [user(f"user{number}") for number in range(300)]
    odd = [user("a/b//c/"), user("straße".casefold()), user('"quoted\\"'), user("\u2028")]
    block_now(redis, *names, *odd, Subject("ip", "2001:db8::/64"), Subject("ip", "203.0.113.9"))
    with writing(redis) as writer:
        for subject in names[::3]:
            since = now_ms() - HOUR
            forever = block(since, None)
            writer.apply(subject, {"failures": tombstone(forever, now_ms())})
    eventually(lambda: client.status.users == 204, within_s=20)
    assert equals_the_server(client, api)
    assert client.is_blocked("USER1")
    assert not client.is_blocked("user0")
    assert client.is_blocked("Straße")
    assert client.is_blocked(ip="2001:db8::99")
    assert (client.status.full_lists, client.status.state) == (1, "complete")
    since = api.get(f"/blocked/changes?since={client.status.version}").json()
    assert since == {**since, "full": False, "added": [], "changed": [], "removed": []}


def test_a_block_ends_on_both_sides(
    redis: RedisServer, client: BlockedClient, api: RunningApi
) -> None:
    block_now(redis, user("brief"), for_ms=1_500)
    eventually(lambda: client.is_blocked("brief"), within_s=5)
    eventually(lambda: not client.is_blocked("brief"), within_s=5)
    assert equals_the_server(client, api)
    eventually(lambda: client.status.users == 0, within_s=5)  # the server has told it too


def test_a_server_that_was_started_again_is_resumed(tmp_path: Path, redis: RedisServer) -> None:
    settings = {"BLOCKED_API_PORT": str(free_port())}
    with BlockedClient(f"http://127.0.0.1:{settings['BLOCKED_API_PORT']}") as client:
        with running_api(tmp_path, redis.url("blocked_api"), settings):
            assert client.wait_until_ready(30)
            block_now(redis, user("before"))
            eventually(lambda: client.is_blocked("before"), within_s=10)
        eventually(lambda: client.status.state == "unreachable", within_s=10)
        assert client.is_blocked("before")
        block_now(redis, user("meanwhile"))
        with running_api(tmp_path, redis.url("blocked_api"), settings) as again:
            eventually(lambda: client.is_blocked("meanwhile"), within_s=30)
            assert equals_the_server(client, again)
            assert client.status.full_lists == 1
            assert client.status.state == "complete"


def test_an_emptied_redis_lets_nobody_go_free(
    redis: RedisServer, client: BlockedClient, api: RunningApi
) -> None:
    block_now(redis, user("alice"), user("bob"))
    block_now(redis, user("brief"), for_ms=2_000)
    eventually(lambda: client.blocked("user") == ["alice", "bob", "brief"], within_s=10)
    with redis.admin() as admin:
        admin.flushall()
    eventually(lambda: client.status.state == "refilling", within_s=10)
    report(redis, complete=False)
    block_now(redis, user("carol"))
    eventually(lambda: client.is_blocked("carol"), within_s=20)
    eventually(lambda: client.status.state == "refilling", within_s=10)
    assert {"alice", "bob", "carol"} <= set(client.blocked("user"))
    assert api.get("/blocked").json() == {"users-blocked": ["carol"]}
    block_now(redis, user("alice"))
    eventually(lambda: not client.is_blocked("brief"), within_s=5)
    report(redis)
    eventually(lambda: client.blocked("user") == ["alice", "carol"], within_s=20)
    assert equals_the_server(client, api)
    eventually(lambda: client.status.state == "complete", within_s=10)


def test_a_token_is_asked_for(tmp_path: Path, redis: RedisServer) -> None:
    settings = {"BLOCKED_API_TOKEN": "a-token-of-32-characters-or-more"}
    with running_api(tmp_path, redis.url("blocked_api"), settings) as api:
        api.wait_until_healthy()
        block_now(redis, user("alice"))
        url = f"http://127.0.0.1:{api.port}"
        with BlockedClient(url, settings["BLOCKED_API_TOKEN"]) as client:
            eventually(lambda: client.is_blocked("alice"), within_s=20)
        with BlockedClient(url, "another", when_unknown="refuse") as client:
            eventually(lambda: client.status.problem == "HTTP 401", within_s=20)
            assert client.is_blocked("bob")


def test_a_redis_that_goes_and_comes_back(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    with running_redis(tmp_path / "redis") as redis:
        report(redis)
        with (
            running_api(tmp_path, redis.url("blocked_api")) as api,
            BlockedClient(f"http://127.0.0.1:{api.port}") as client,
        ):
            block_now(redis, user("alice"))
            eventually(lambda: client.is_blocked("alice"), within_s=30)
            eventually(lambda: client.status.connections, within_s=10)
            redis.process.kill()
            eventually(lambda: client.status.state == "stale", within_s=20)
            assert client.is_blocked("alice")
            with running_redis(tmp_path / "redis", redis.port, redis.passwords) as again:
                report(again)
                block_now(again, user("bob"))
                eventually(lambda: client.is_blocked("bob"), within_s=30)
                assert client.is_blocked("alice")
                eventually(lambda: client.status.state == "complete", within_s=20)
                assert equals_the_server(client, api)
