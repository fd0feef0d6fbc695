"""What the live job tells about itself and the list of blocks, and when it falls silent."""

from collections.abc import Iterator

import pytest
import redis
import requests

from flink_control.rest import FlinkRest
from login_blocking.names import BLOCK_STATE
from tests.support.waiting import eventually
from tools import rebuild_redis
from tools.stack import job
from tools.stack.layout import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


@pytest.fixture
def held(stack: Stack) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(stack.redis_url("admin"), decode_responses=True) as connection:
        yield connection


def now(held: redis.Redis) -> int:
    """By the clock that the state's times are of."""
    seconds, microseconds = held.time()  # type: ignore[misc]
    return int(seconds) * 1_000 + int(microseconds) // 1_000


def state(held: redis.Redis) -> dict[str, str]:
    return held.hgetall(BLOCK_STATE)  # type: ignore[return-value]


def heartbeat(held: redis.Redis) -> int:
    return int(state(held).get("heartbeat", 0))


def age_ms(held: redis.Redis) -> int:
    return now(held) - heartbeat(held)


def test_detector_beats_every_second_and_keeps_up(held: redis.Redis) -> None:
    eventually(lambda: age_ms(held) < 2_000)

    beats = {heartbeat(held)}

    def five_more() -> bool:
        beats.add(heartbeat(held))
        return len(beats) == 6

    eventually(five_more, within_s=15)
    assert max(beats) - min(beats) >= 4_000
    eventually(lambda: int(state(held).get("lag_ms", 60_000)) < 1_000)


def test_emptied_redis_is_incomplete_until_it_is_rebuilt(stack: Stack, held: redis.Redis) -> None:
    eventually(lambda: "generation" in state(held))
    before = state(held)["generation"]

    held.flushall()

    eventually(lambda: "complete_at" in state(held))
    emptied = state(held)
    assert emptied["generation"] != before
    assert int(emptied["complete_at"]) - now(held) > 50_000

    assert rebuild_redis.rebuild(stack).complete

    assert int(state(held)["complete_at"]) <= now(held)
    assert state(held)["generation"] == emptied["generation"]


def test_redis_that_stands_still_costs_heartbeats_and_not_the_job(
    stack: Stack, held: redis.Redis
) -> None:
    flink = FlinkRest(stack.flink_url)
    job_id = flink.running(job.JOB_NAME)
    assert job_id is not None
    eventually(lambda: age_ms(held) < 2_000)
    before = _failures(stack, job_id)

    held.client_pause(4_000)

    eventually(lambda: _failures(stack, job_id) > before)  # Flink collects metrics every 10 s
    eventually(lambda: age_ms(held) < 2_000)
    assert flink.running(job.JOB_NAME) == job_id
    assert flink.exceptions(job_id) == ""


def test_stopped_job_falls_silent_and_beats_again_when_it_goes_on(
    stack: Stack, held: redis.Redis
) -> None:
    eventually(lambda: age_ms(held) < 2_000)

    job.stop(stack)
    try:
        eventually(lambda: age_ms(held) > 5_000)
    finally:
        job.ensure(stack)

    eventually(lambda: age_ms(held) < 2_000)


def _failures(stack: Stack, job_id: str) -> int:
    for vertex in FlinkRest(stack.flink_url).job(job_id)["vertices"]:
        url = f"{stack.flink_url}/jobs/{job_id}/vertices/{vertex['id']}/subtasks/metrics"
        names = [metric["id"] for metric in requests.get(url, timeout=5).json()]
        failures = [name for name in names if name.endswith("heartbeat_failures")]
        if failures:
            values = requests.get(url, params={"get": failures[0]}, timeout=5).json()
            return int(values[0]["sum"])
    return 0
