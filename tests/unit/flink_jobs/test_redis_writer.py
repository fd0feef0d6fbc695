"""A Redis that is away is waited for once, not by every block; with a real one: tests/contract."""

import pytest
import redis

from flink_jobs.redis_writer import BlockWriteError, RedisBlockWriter
from login_blocking.subjects import Subject


class Away:
    """In place of the call: raises `error`, unless that is None, and counts."""

    def __init__(self) -> None:
        self.error: Exception | None = redis.TimeoutError()
        self.calls = 0
        self.now_s = 1_000.0

    def __call__(self, *_: object) -> bool:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return True

    def clock(self) -> float:
        return self.now_s


@pytest.fixture
def away() -> Away:
    return Away()


@pytest.fixture
def writer(away: Away, monkeypatch: pytest.MonkeyPatch) -> RedisBlockWriter:
    made = RedisBlockWriter("redis://nowhere", "", pause_s=1.0, clock=away.clock)
    monkeypatch.setattr(made, "_call", away)
    return made


def fails(writer: RedisBlockWriter, times: int = 1) -> None:
    for number in range(times):
        with pytest.raises(BlockWriteError):
            writer.apply(Subject("user", f"user-{number}"), {})


def test_a_write_is_tried_twice(writer: RedisBlockWriter, away: Away) -> None:
    fails(writer)

    assert away.calls == 2


def test_after_a_failure_the_others_fail_at_once(writer: RedisBlockWriter, away: Away) -> None:
    fails(writer, times=100)

    assert away.calls == 2


def test_after_the_pause_one_is_tried_once(writer: RedisBlockWriter, away: Away) -> None:
    fails(writer, times=100)
    away.now_s += 0.999
    fails(writer, times=100)
    assert away.calls == 2
    away.now_s += 0.001
    fails(writer, times=100)

    assert away.calls == 3


def test_success_ends_it(writer: RedisBlockWriter, away: Away) -> None:
    fails(writer)
    away.error, away.now_s = None, away.now_s + 1
    assert [writer.apply(Subject("user", "alice"), {}) for _ in range(3)] == [True] * 3
    assert away.calls == 2 + 3
    away.error = redis.ConnectionError()
    fails(writer)

    assert away.calls == 2 + 3 + 2


def test_what_redis_says_of_one_block_holds_no_other_up(
    writer: RedisBlockWriter, away: Away
) -> None:
    away.error = redis.ResponseError("no entry")
    fails(writer, times=3)

    assert away.calls == 6
