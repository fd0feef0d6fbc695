"""One exam for blocks in memory and in Redis, with the rights that redis/users.acl gives."""

import math
from collections.abc import Callable, Iterator

import pytest
import redis

from login_api.block_reader import Blocked, BlockReader, RedisBlockReader
from login_api.errors import PartUnavailableError
from login_blocking.names import blocked_set
from login_blocking.subjects import Subject
from tests.support.login_api import InMemoryBlockReader
from tests.support.services import RedisServer, free_port

NOW = 1_795_478_400_123
ALICE, ADDRESS = Subject("user", "alice"), Subject("ip", "198.51.100.7")
BOTH = [ALICE, ADDRESS]

Block = Callable[[Subject, int | None], None]


@pytest.fixture
def redis_reader(redis_server: RedisServer) -> Iterator[tuple[BlockReader, Block]]:
    reader = RedisBlockReader(redis_server.url("login_api"), timeout_ms=1_000)
    admin = redis_server.admin()

    def block(subject: Subject, until: int | None) -> None:
        admin.zadd(blocked_set(subject.type), {subject.key: math.inf if until is None else until})

    yield reader, block
    admin.delete(blocked_set("user"), blocked_set("ip"))
    admin.close()
    reader.close()


@pytest.fixture(params=["in-memory", pytest.param("redis", marks=pytest.mark.service)])
def reader_and_block(request: pytest.FixtureRequest) -> tuple[BlockReader, Block]:
    if request.param == "redis":
        real: tuple[BlockReader, Block] = request.getfixturevalue("redis_reader")
        return real
    reader = InMemoryBlockReader()
    return reader, reader.ends.__setitem__


def test_nobody_is_blocked_at_first(reader_and_block: tuple[BlockReader, Block]) -> None:
    reader, _ = reader_and_block
    assert reader.blocked(BOTH, NOW) is None


def test_a_block_holds_until_its_end_and_not_at_it(
    reader_and_block: tuple[BlockReader, Block],
) -> None:
    reader, block = reader_and_block
    block(ALICE, NOW)
    assert reader.blocked(BOTH, NOW - 1) == Blocked(NOW)
    assert reader.blocked(BOTH, NOW) is None


@pytest.mark.parametrize(("of_user", "of_address"), [(NOW + 1, NOW + 2), (NOW + 2, NOW + 1)])
def test_the_later_end_counts(
    reader_and_block: tuple[BlockReader, Block], of_user: int, of_address: int
) -> None:
    reader, block = reader_and_block
    block(ALICE, of_user)
    block(ADDRESS, of_address)
    assert reader.blocked(BOTH, NOW) == Blocked(NOW + 2)


def test_an_ended_block_does_not_hide_a_live_one(
    reader_and_block: tuple[BlockReader, Block],
) -> None:
    reader, block = reader_and_block
    block(ALICE, NOW - 1)
    block(ADDRESS, NOW + 1)
    assert reader.blocked(BOTH, NOW) == Blocked(NOW + 1)


def test_for_ever_is_later_than_any_end(reader_and_block: tuple[BlockReader, Block]) -> None:
    reader, block = reader_and_block
    block(ALICE, NOW + 1)
    block(ADDRESS, None)
    assert reader.blocked(BOTH, NOW) == Blocked(None)


def test_a_block_of_somebody_else_blocks_nobody_else(
    reader_and_block: tuple[BlockReader, Block],
) -> None:
    reader, block = reader_and_block
    block(Subject("user", "bob"), None)
    block(Subject("user", ADDRESS.key), None)
    assert reader.blocked(BOTH, NOW) is None


def test_ping_answers(reader_and_block: tuple[BlockReader, Block]) -> None:
    reader, _ = reader_and_block
    reader.ping()


@pytest.mark.service
def test_an_end_that_no_calendar_holds_is_for_ever(
    redis_reader: tuple[BlockReader, Block],
) -> None:
    reader, block = redis_reader
    block(ALICE, 10**18)
    assert reader.blocked(BOTH, NOW) == Blocked(None)


@pytest.mark.service
def test_the_login_api_may_not_write(redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.url("login_api")) as client:
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.zadd(blocked_set("user"), {"alice": 1})
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.zrem(blocked_set("user"), "alice")


@pytest.mark.service
def test_connections_that_died_cost_no_answer(
    redis_server: RedisServer, redis_reader: tuple[BlockReader, Block]
) -> None:
    reader, block = redis_reader
    block(ALICE, NOW + 1)
    reader.ping()
    with redis_server.admin() as admin:
        admin.execute_command("CLIENT", "KILL", "USER", "login_api")
    assert reader.blocked(BOTH, NOW) == Blocked(NOW + 1)


@pytest.mark.service
def test_no_redis_and_a_wrong_password_are_an_unavailable_part(redis_server: RedisServer) -> None:
    nobody_there = f"redis://login_api:x@127.0.0.1:{free_port()}"
    wrong = redis_server.url("login_api").replace(redis_server.passwords["login_api"], "hunter2")
    for url in (nobody_there, wrong):
        reader = RedisBlockReader(url, timeout_ms=250)
        with pytest.raises(PartUnavailableError, match="redis"):
            reader.blocked(BOTH, NOW)
        with pytest.raises(PartUnavailableError, match="redis"):
            reader.ping()
        reader.close()
