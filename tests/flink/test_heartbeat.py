"""A tick that has come all the way through the compiled job is a heartbeat in Redis."""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from flink_jobs.resources import resource
from login_blocking.names import BLOCK_STATE
from login_blocking.policy_file import parse_policy
from tests.support.services import RedisServer, free_port

pytestmark = [
    pytest.mark.flink,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore"),  # PyFlink's own, and those of what it imports
]

POLICY = """
rules:
  - {name: two, subject: user, count: failures, threshold: 2, within: 1s, block: [forever]}
forget_level_after: 30d
"""
BEGINNING = 1_795_500_000_000


@pytest.fixture
def held(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis_server.admin() as admin:
        admin.flushall()  # what tests before have left would be gone on from
        yield admin
        admin.flushall()


def test_ticks_become_one_heartbeat_a_second_and_no_events(
    tmp_path: Path, redis_server: RedisServer, held: redis.Redis
) -> None:
    held.config_resetstat()
    began = time.monotonic()

    events = _run(tmp_path, redis_server.url("detector"), ["tick"] * 100)

    most = time.monotonic() - began + 1

    seconds, _ = held.time()  # type: ignore[misc]
    state = held.hgetall(BLOCK_STATE)
    assert isinstance(state, dict)
    assert 0 <= seconds * 1_000 + 999 - int(state["heartbeat"]) < 60_000
    assert int(state["complete_at"]) > int(state["heartbeat"])
    calls = held.info("commandstats")
    assert isinstance(calls, dict)
    assert 1 <= calls["cmdstat_evalsha"]["calls"] <= min(most, 50)
    assert events == []


def test_attempts_alone_are_no_heartbeat(
    tmp_path: Path, redis_server: RedisServer, held: redis.Redis
) -> None:
    events = _run(tmp_path, redis_server.url("detector"), ["failure"] * 2)

    assert not held.hexists(BLOCK_STATE, "heartbeat")
    assert [event["event"] for event in events] == ["blocked"]


def test_redis_that_is_away_stops_no_verdict(tmp_path: Path) -> None:
    url = f"redis://127.0.0.1:{free_port()}"

    events = _run(tmp_path, url, ["tick", "failure", "tick", "failure", "tick"])

    assert [event["event"] for event in events] == ["blocked"]


def _run(tmp_path: Path, redis_url: str, outcomes: list[str]) -> list[dict[str, object]]:
    """Events of a user's attempts, or of ticks, in this order."""
    from pyflink.common import Configuration  # noqa: PLC0415 — PyFlink is slow to load
    from pyflink.datastream import StreamExecutionEnvironment  # noqa: PLC0415
    from pyflink.table import StreamTableEnvironment  # noqa: PLC0415

    from flink_jobs.lifecycle import BlockLifecycle, RedisTarget  # noqa: PLC0415
    from flink_jobs.pipeline import block_events  # noqa: PLC0415

    # The interpreter inside the JVM finds its packages by the first python3 on PATH.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    recording = tmp_path / "attempts.json"
    rows = [
        {
            "id": f"{position}",
            "ts": BEGINNING + position,
            "user": None if outcome == "tick" else "alice",
            "outcome": outcome,
            "position": position,
        }
        for position, outcome in enumerate(outcomes)
    ]
    recording.write_text("".join(json.dumps(row) + "\n" for row in rows))
    configuration = Configuration()
    configuration.set_string("python.executable", sys.executable)
    environment = StreamExecutionEnvironment.get_execution_environment(configuration)
    environment.set_parallelism(1)
    tables = StreamTableEnvironment.create(environment)
    tables.execute_sql(f"""\
CREATE TEMPORARY TABLE recording (
  id STRING, ts BIGINT, `user` STRING, ip STRING, outcome STRING, known BOOLEAN,
  `position` BIGINT, reason STRING, record_key BYTES, record_value BYTES, `partition` INT,
  stamp AS TO_TIMESTAMP_LTZ(ts, 3), WATERMARK FOR stamp AS stamp
) WITH ('connector' = 'filesystem', 'path' = 'file://{recording}', 'format' = 'json')""")
    attempts = tables.to_data_stream(tables.sql_query("SELECT * FROM recording"))
    target = RedisTarget(redis_url, resource("apply_block.lua"), resource("heartbeat.lua"), 0)
    lifecycle = BlockLifecycle(parse_policy(POLICY), target)
    events = block_events(tables, attempts, parse_policy(POLICY), lifecycle, ticks=True)
    with events.execute_and_collect("heartbeat") as found:
        return [json.loads(event["event"]) for event in found]
