"""What heartbeats and rebuilding say about the list of blocks, on a real server."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from flink_jobs.heartbeat import HeartbeatError, RedisHeartbeat, server_run_id
from login_blocking.names import BLOCK_STATE
from tests.support.services import REPOSITORY, RedisServer, free_port, running_redis

pytestmark = pytest.mark.service

HEARTBEAT = (REPOSITORY / "redis" / "heartbeat.lua").read_text()
REBUILT = (REPOSITORY / "redis" / "rebuilt.lua").read_text()
REFILLED_AFTER_MS = 65_000
LONGEST_GAP_MS = 10_000
NOON = 1_795_500_000_000
THIS_RUN, OTHER_RUN = "a" * 40, "b" * 40


@dataclass(frozen=True, slots=True)
class Scripts:
    """The scripts as the detector's user runs them, and the eyes of the administrator."""

    detector: redis.Redis
    admin: redis.Redis

    def beat(self, run_id: str = THIS_RUN, lag_ms: str = "", at: str | None = None) -> str:
        """`at`: seconds and microseconds that the script is told in place of the server's."""
        script = HEARTBEAT if at is None else _with_clock(HEARTBEAT, at)
        return str(self.detector.eval(script, 1, BLOCK_STATE, run_id, lag_ms))

    def rebuilt(self, generation: str = "", run_id: str = THIS_RUN) -> str | None:
        return self.detector.eval(REBUILT, 1, BLOCK_STATE, run_id, generation)  # type: ignore[return-value]

    def now(self) -> int:
        seconds, microseconds = self.admin.time()  # type: ignore[misc]
        return int(seconds) * 1_000 + int(microseconds) // 1_000

    def state(self) -> dict[str, str]:
        return self.admin.hgetall(BLOCK_STATE)  # type: ignore[return-value]

    def have(self, **times: int) -> None:
        """A state as earlier heartbeats and changes left it."""
        known = {"generation": "17", "run_id": THIS_RUN, "version": "41", **times}
        self.admin.hset(BLOCK_STATE, mapping=known)


def _with_clock(script: str, at: str) -> str:
    seconds, microseconds = map(int, at.split())
    return f"""
        local server = redis
        local redis = {{call = function(command, ...)
          if command == 'TIME' then return {{'{seconds}', '{microseconds}'}} end
          return server.call(command, ...)
        end}}
        {script}"""


@pytest.fixture
def scripts(redis_server: RedisServer) -> Iterator[Scripts]:
    url = redis_server.url("detector")
    with (
        redis.Redis.from_url(url, decode_responses=True) as detector,
        redis_server.admin() as admin,
    ):
        yield Scripts(detector, admin)
        admin.flushall()


def at(scripts: Scripts, field: str, *, expected: int) -> None:
    """`expected` was reckoned from a clock read a moment ago."""
    assert expected <= int(scripts.state()[field]) <= expected + 1_000


def test_first_heartbeat_makes_a_generation_that_is_complete_after_a_refill(
    scripts: Scripts,
) -> None:
    now = scripts.now()

    generation = scripts.beat()

    state = scripts.state()
    assert set(state) == {"generation", "run_id", "complete_at", "heartbeat"}
    assert state["generation"] == generation
    assert now * 1_000 <= int(generation) <= (now + 1_000) * 1_000
    assert state["run_id"] == THIS_RUN
    at(scripts, "heartbeat", expected=now)
    assert int(state["complete_at"]) == int(state["heartbeat"]) + REFILLED_AFTER_MS


def test_next_heartbeat_changes_nothing_but_itself(scripts: Scripts) -> None:
    scripts.beat()
    before = scripts.state()
    now = scripts.now()
    scripts.admin.hset(BLOCK_STATE, "heartbeat", str(now - 1_000))

    scripts.beat()

    assert {**scripts.state(), "heartbeat": ""} == {**before, "heartbeat": ""}
    at(scripts, "heartbeat", expected=now)


def test_generation_is_the_moment_with_all_its_zeros(scripts: Scripts) -> None:
    """Else a later one could be the smaller number, and one could come twice."""
    assert scripts.beat(at="1764150000 000042") == "1764150000000042"


def test_generation_made_by_a_change_before_the_first_heartbeat_is_made_anew(
    scripts: Scripts,
) -> None:
    """Nobody knows of which run of the server it is."""
    scripts.admin.hset(BLOCK_STATE, mapping={"generation": "17", "version": "1"})
    now = scripts.now()

    assert scripts.beat() != "17"

    assert scripts.state()["version"] == "1"
    at(scripts, "complete_at", expected=now + REFILLED_AFTER_MS)


def test_state_without_a_generation_gets_one(scripts: Scripts) -> None:
    now = scripts.now()
    for act in (scripts.beat, scripts.rebuilt):
        scripts.have(complete_at=now - 1, heartbeat=now - 1_000)
        scripts.admin.hdel(BLOCK_STATE, "generation")

        assert act() == scripts.state()["generation"]
        assert int(scripts.state().get("complete_at", now + 1)) > now


def test_another_run_of_the_server_renews_the_generation_and_keeps_the_version(
    scripts: Scripts,
) -> None:
    now = scripts.now()
    scripts.have(complete_at=now - 1, heartbeat=now - 1_000)

    generation = scripts.beat(OTHER_RUN)

    state = scripts.state()
    assert state["generation"] == generation != "17"
    assert state["run_id"] == OTHER_RUN
    assert state["version"] == "41"
    at(scripts, "complete_at", expected=now + REFILLED_AFTER_MS)
    assert scripts.beat(OTHER_RUN) == generation


def test_list_that_nobody_has_called_complete_is_so_after_a_refill(scripts: Scripts) -> None:
    now = scripts.now()
    scripts.have(heartbeat=now - 1_000)

    assert scripts.beat() == "17"

    at(scripts, "complete_at", expected=now + REFILLED_AFTER_MS)


def test_no_heartbeat_at_all_while_refilling_is_a_gap(scripts: Scripts) -> None:
    now = scripts.now()
    scripts.have(complete_at=now + 5_000)

    assert scripts.beat() == "17"

    at(scripts, "complete_at", expected=now + REFILLED_AFTER_MS)


@pytest.mark.parametrize(
    ("gap_ms", "complete_in_ms", "then_in_ms"),
    [
        pytest.param(LONGEST_GAP_MS, 5_000, 5_000, id="a gap of exactly ten seconds is none"),
        pytest.param(LONGEST_GAP_MS + 1, 5_000, REFILLED_AFTER_MS, id="a longer one begins anew"),
        pytest.param(LONGEST_GAP_MS + 1, 1, REFILLED_AFTER_MS, id="to the last millisecond"),
        pytest.param(LONGEST_GAP_MS + 1, 0, 0, id="what is complete stays so"),
    ],
)
def test_gap_while_refilling_begins_the_refill_anew(
    scripts: Scripts, gap_ms: int, complete_in_ms: int, then_in_ms: int
) -> None:
    scripts.have(heartbeat=NOON - gap_ms, complete_at=NOON + complete_in_ms)

    scripts.beat(at=f"{NOON // 1_000} 000000")

    assert int(scripts.state()["complete_at"]) - NOON == then_in_ms


def test_lag_is_told_as_given_and_forgotten_when_unknown(scripts: Scripts) -> None:
    scripts.beat(lag_ms="90061001")
    assert scripts.state()["lag_ms"] == "90061001"
    scripts.beat(lag_ms="")
    assert "lag_ms" not in scripts.state()


def test_rebuilding_completes_the_list_it_began_with(scripts: Scripts) -> None:
    generation = scripts.beat()

    assert scripts.rebuilt() == generation
    scripts.beat()
    before = scripts.state()
    now = scripts.now()
    assert scripts.rebuilt(generation) == generation

    assert {**scripts.state(), "complete_at": ""} == {**before, "complete_at": ""}
    at(scripts, "complete_at", expected=now)
    scripts.beat()
    at(scripts, "complete_at", expected=now)


def test_rebuilding_an_emptied_redis_makes_a_generation_that_heartbeats_keep(
    scripts: Scripts,
) -> None:
    now = scripts.now()

    generation = scripts.rebuilt()

    assert scripts.state() == {"generation": generation, "run_id": THIS_RUN}
    assert scripts.beat() == generation
    at(scripts, "complete_at", expected=now + REFILLED_AFTER_MS)
    assert generation is not None
    assert scripts.rebuilt(generation) == generation
    at(scripts, "complete_at", expected=now)


def test_rebuilding_without_a_detector_completes_the_list(scripts: Scripts) -> None:
    generation = scripts.rebuilt()
    assert generation is not None

    assert scripts.rebuilt(generation) == generation

    assert set(scripts.state()) == {"generation", "run_id", "complete_at"}


def test_rebuilding_after_a_restart_begins_with_a_list_that_is_not_complete(
    scripts: Scripts,
) -> None:
    now = scripts.now()
    scripts.have(complete_at=now - 1, heartbeat=now)

    generation = scripts.rebuilt(run_id=OTHER_RUN)

    state = scripts.state()
    assert generation != "17"
    assert state == {
        "generation": generation, "run_id": OTHER_RUN, "version": "41", "heartbeat": str(now),
    }  # fmt: skip


@pytest.mark.parametrize("emptied_and", ["nothing", "a heartbeat"])
def test_list_that_was_emptied_while_it_was_rebuilt_is_not_complete(
    scripts: Scripts, emptied_and: str
) -> None:
    generation = scripts.beat()
    assert scripts.rebuilt() == generation
    scripts.admin.delete(BLOCK_STATE)
    if emptied_and == "a heartbeat":
        scripts.beat()
    before = scripts.state()

    assert scripts.rebuilt(generation) is None

    assert scripts.state() == before


def test_server_that_was_restarted_while_it_was_rebuilt_is_not_complete(scripts: Scripts) -> None:
    generation = scripts.beat()
    assert scripts.rebuilt() == generation
    before = scripts.state()

    assert scripts.rebuilt(generation, run_id=OTHER_RUN) is None

    assert scripts.state() == before


def test_restart_is_noticed_by_the_next_heartbeat(tmp_path: Path) -> None:
    generations = []
    for _ in range(2):
        with running_redis(tmp_path) as server, server.admin() as admin:
            heartbeat = RedisHeartbeat(server.url("detector"), HEARTBEAT)
            for _ in range(2):
                heartbeat.beat(7)
                generations.append(admin.hget(BLOCK_STATE, "generation"))
            assert admin.hget(BLOCK_STATE, "run_id") == server_run_id(admin)
            heartbeat.close()
    first, second, third, fourth = generations
    assert first == second
    assert third == fourth != first


def test_frozen_redis_holds_a_heartbeat_for_one_timeout(
    scripts: Scripts, redis_server: RedisServer
) -> None:
    heartbeat = RedisHeartbeat(redis_server.url("detector"), HEARTBEAT, timeout_s=1)
    heartbeat.beat(None)
    redis_server.process.pause()
    try:
        for _ in range(2):  # with a connection, and with none
            began = time.monotonic()
            with pytest.raises(HeartbeatError):
                heartbeat.beat(None)
            assert time.monotonic() - began < 2  # never twice
    finally:
        redis_server.process.resume()
    heartbeat.beat(None)
    heartbeat.close()


def test_nobody_there_a_wrong_password_and_a_refusal_are_one_error(
    scripts: Scripts, redis_server: RedisServer
) -> None:
    wrong = redis_server.url("detector").replace(redis_server.passwords["detector"], "hunter2")
    for url in (f"redis://127.0.0.1:{free_port()}", wrong, redis_server.url("blocked_api")):
        heartbeat = RedisHeartbeat(url, HEARTBEAT)
        with pytest.raises(HeartbeatError) as refusal:
            heartbeat.beat(None)
        assert "hunter2" not in str(refusal.value)
        heartbeat.close()
    assert scripts.state() == {}


def test_connections_that_died_and_a_forgotten_script_cost_no_heartbeat(
    scripts: Scripts, redis_server: RedisServer
) -> None:
    heartbeat = RedisHeartbeat(redis_server.url("detector"), HEARTBEAT)
    heartbeat.beat(None)
    scripts.admin.execute_command("CLIENT", "KILL", "USER", "detector")  # type: ignore[no-untyped-call]
    scripts.admin.script_flush()
    scripts.admin.hset(BLOCK_STATE, "heartbeat", "1")

    heartbeat.beat(None)

    assert scripts.state()["heartbeat"] != "1"
    heartbeat.close()
