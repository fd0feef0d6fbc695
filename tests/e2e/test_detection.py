"""What the live job does about records that do not come through the Login API's front door."""

import json
import secrets
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import requests
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from flink_control.rest import FlinkRest
from login_blocking.attempts import Attempt, Outcome
from login_blocking.commands import Action, Command
from login_blocking.names import BLOCK_COMMANDS, LOGIN_ATTEMPTS, LOGIN_ATTEMPTS_REJECTED
from login_blocking.subjects import Subject
from tests.support.waiting import eventually
from tools import rebuild_redis, upgrade
from tools.stack import job
from tools.stack.layout import ROOT, Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


@pytest.fixture
def producer(stack: Stack) -> Iterator[KafkaProducer]:
    opened = KafkaProducer(bootstrap_servers=stack.kafka_bootstrap, acks="all")
    yield opened
    opened.close(timeout=5)


@pytest.fixture
def held(stack: Stack) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(stack.redis_url("admin"), decode_responses=True) as connection:
        yield connection


def now() -> int:
    return time.time_ns() // 1_000_000


def fail(producer: KafkaProducer, user: str, ip: str, times: int = 1) -> None:
    for _ in range(times):
        attempt = Attempt(str(uuid.uuid4()), now(), user, ip, Outcome.FAILURE)
        producer.send(
            LOGIN_ATTEMPTS, key=attempt.key(), value=attempt.encode(), timestamp_ms=attempt.ts
        )
    producer.flush(timeout=10)


def fresh_network() -> str:
    return f"198.18.{secrets.randbelow(256)}"


def spray(producer: KafkaProducer) -> str:
    ip = f"{fresh_network()}.{secrets.randbelow(256)}"
    for number in range(10):
        fail(producer, f"sprayed-{number}-{secrets.token_hex(4)}", ip)
    return ip


def test_last_attempt_of_a_spraying_attack_is_judged_though_all_fall_silent(
    stack: Stack, producer: KafkaProducer, held: redis.Redis
) -> None:
    ip = spray(producer)

    eventually(lambda: held.zscore("blocked:ips", ip) is not None)


def test_many_addresses_that_guess_at_one_name_block_it(
    stack: Stack, producer: KafkaProducer, held: redis.Redis
) -> None:
    user, network = f"guessed-{secrets.token_hex(4)}", fresh_network()
    for number in range(5):
        fail(producer, user, f"{network}.{number}")

    eventually(lambda: bool(held.hexists(f"block:user:{user}", "distributed")))


def test_unblock_command_frees_at_once(
    stack: Stack, producer: KafkaProducer, held: redis.Redis
) -> None:
    user = f"freed-{secrets.token_hex(4)}"
    fail(producer, user, "198.51.100.1", times=5)
    eventually(lambda: held.zscore("blocked:users", user) is not None)

    unblock = Command("c", now(), Action.UNBLOCK, Subject("user", user), "eve", "called us")
    producer.send(BLOCK_COMMANDS, key=unblock.key(), value=unblock.encode()).get(timeout=10)

    eventually(lambda: held.zscore("blocked:users", user) is None)


def test_malformed_records_are_kept_and_the_job_goes_on(
    stack: Stack, producer: KafkaProducer, held: redis.Redis
) -> None:
    run = secrets.token_hex(8).encode()
    bad = [run, b"\xff" + run, json.dumps({"v": 2, "run": run.decode()}).encode()]
    flink = FlinkRest(stack.flink_url)
    job_id = flink.running(job.JOB_NAME)
    assert job_id is not None
    for value in bad:
        producer.send(LOGIN_ATTEMPTS, key=b"k", value=value)
    user = f"after-{secrets.token_hex(4)}"
    fail(producer, user, "198.51.100.1", times=5)

    eventually(lambda: held.zscore("blocked:users", user) is not None)
    eventually(lambda: {v for v, _ in _rejected(stack) if run in v} == set(bad))
    reasons = {reason for value, reason in _rejected(stack) if run in value}
    assert reasons == {"not a JSON object", "not UTF-8", "v: not a known version"}
    assert flink.exceptions(job_id) == ""


def test_late_attempt_counts_for_its_user_and_is_counted_where_event_time_rules(
    stack: Stack, producer: KafkaProducer, held: redis.Redis
) -> None:
    user, ip = f"late-{secrets.token_hex(4)}", f"{fresh_network()}.7"
    began, before = now(), _late(stack)
    fail(producer, user, ip, times=4)

    def fail_in_the_past() -> None:
        late = Attempt(str(uuid.uuid4()), began - 50_000, user, ip, Outcome.FAILURE)
        producer.send(LOGIN_ATTEMPTS, key=late.key(), value=late.encode(), timestamp_ms=late.ts)

    fail_in_the_past()
    eventually(lambda: held.zscore("blocked:users", user) is not None)

    def every_rule_has_dropped_one() -> bool:
        fail_in_the_past()  # late only once the others have been judged
        dropped = _late(stack) - before
        return len(dropped) == 3

    eventually(every_rule_has_dropped_one, within_s=30)  # Flink collects its metrics every 10 s


def test_other_spellings_of_an_attempt_count(
    stack: Stack, producer: KafkaProducer, held: redis.Redis
) -> None:
    user = f'odd-"{secrets.token_hex(4)}'
    for number in range(5):
        document = {"outcome": "failure", "ip": None, "ts": now(), "id": f"{number}", "v": 1}
        value = json.dumps({**document, "user": user}, indent=1)
        producer.send(LOGIN_ATTEMPTS, key=user.encode(), value=value.encode())
    producer.flush(timeout=10)

    eventually(lambda: held.zscore("blocked:users", user) is not None)


def test_emptied_redis_is_rebuilt_from_the_events(
    stack: Stack, producer: KafkaProducer, held: redis.Redis
) -> None:
    user = f"rebuilt-{secrets.token_hex(4)}"
    fail(producer, user, "198.51.100.1", times=5)
    eventually(lambda: held.zscore("blocked:users", user) is not None)
    before = held.hgetall(f"block:user:{user}")

    held.flushall()
    rebuild_redis.rebuild(stack)

    assert held.zscore("blocked:users", user) is not None
    assert held.hgetall(f"block:user:{user}") == before


def test_changed_policy_keeps_blocks_and_the_counts_of_rules_that_stay(
    stack: Stack, producer: KafkaProducer, held: redis.Redis, tmp_path: Path
) -> None:
    blocked, counted = (f"up-{secrets.token_hex(4)}" for _ in range(2))
    fail(producer, blocked, "198.51.100.1", times=5)
    fail(producer, counted, "198.51.100.2", times=4)
    eventually(lambda: held.zscore("blocked:users", blocked) is not None)
    end = held.zscore("blocked:users", blocked)
    default = (ROOT / "policies" / "default.yaml").read_text()
    changed = tmp_path / "changed.yaml"
    changed.write_text(default.replace("threshold: 20", "threshold: 25"))
    assert changed.read_text() != default

    upgrade.upgrade(stack, changed)
    try:
        fail(producer, counted, "198.51.100.2")

        eventually(lambda: held.zscore("blocked:users", counted) is not None)
        assert held.zscore("blocked:users", blocked) == end
    finally:
        upgrade.upgrade(stack, ROOT / "policies" / "default.yaml")


def _late(stack: Stack) -> Counter[str]:
    """Attempts dropped as late, by the part of the job that did."""
    flink = FlinkRest(stack.flink_url)
    job_id = flink.running(job.JOB_NAME)
    assert job_id is not None
    dropped: Counter[str] = Counter()
    for vertex in flink.job(job_id)["vertices"]:
        url = f"{stack.flink_url}/jobs/{job_id}/vertices/{vertex['id']}/subtasks/metrics"
        names = [metric["id"] for metric in requests.get(url, timeout=5).json()]
        late = [name for name in names if name.endswith("numLateRecordsDropped")]
        if late:
            values = requests.get(url, params={"get": ",".join(late)}, timeout=5).json()
            dropped[vertex["id"]] += sum(int(value["sum"]) for value in values)
    return dropped


def _rejected(stack: Stack) -> list[tuple[bytes, str]]:
    consumer = KafkaConsumer(bootstrap_servers=stack.kafka_bootstrap)
    try:
        known = consumer.partitions_for_topic(LOGIN_ATTEMPTS_REJECTED) or ()
        partitions = [TopicPartition(LOGIN_ATTEMPTS_REJECTED, n) for n in known]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        found = []
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            for records in consumer.poll(timeout_ms=500).values():
                found += [(r.value, dict(r.headers)["reason"].decode()) for r in records]
        return found
    finally:
        consumer.close()
