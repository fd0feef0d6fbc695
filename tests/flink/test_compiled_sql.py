"""The compiled SQL on a Flink mini cluster finds the hits that the definition demands."""

import json
import random
from collections import defaultdict, deque
from pathlib import Path

import pytest

from flink_jobs.rules_sql import ATTEMPTS, hits_sql
from login_blocking.policy import Policy, Rule

pytestmark = [
    pytest.mark.flink,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore"),  # PyFlink's own, and those of what it imports
]

RULES = (
    Rule("five", "user", "failures", 5, 60_000, (None,)),
    Rule("two", "user", "failures", 2, 1_000, (None,)),
    Rule("three-slow", "user", "failures", 3, 600_000, (None,)),
)

Attempt = dict[str, str | int | None]


def test_hits_are_those_of_the_definition(tmp_path: Path) -> None:
    attempts = [*_at_the_edges(), *_random_streams(random.Random(20261124), 2_000)]
    source = tmp_path / "attempts.json"
    source.write_text("".join(json.dumps(attempt) + "\n" for attempt in attempts))

    assert _run(source) == _expected(attempts)


def _at_the_edges() -> list[Attempt]:
    inside = [0, 10_000, 20_000, 30_000, 59_999]
    outside = [0, 10_000, 20_000, 30_000, 60_000]
    late = [60_000, 50_000, 40_000, 30_000, 1]
    streams = {"inside": inside, "outside": outside, "late": late, "equal": [7] * 6}
    return [
        _attempt(f"{user}-{number}", user, ts, "failure")
        for user, times in streams.items()
        for number, ts in enumerate(times)
    ]


def _random_streams(rng: random.Random, streams: int) -> list[Attempt]:
    attempts = []
    for number in range(streams * 8):
        user = None if rng.random() < 0.02 else f"user{rng.randrange(streams)}"
        outcome = rng.choice(["failure"] * 8 + ["success", "blocked", "limited"])
        ts = rng.choice([rng.randrange(120_000), rng.randrange(120) * 1_000])
        attempts.append(_attempt(f"r{number}", user, ts, outcome))
    return attempts


def _attempt(identity: str, user: str | None, ts: int, outcome: str) -> Attempt:
    return {"id": identity, "ts": ts, "user": user, "ip": None, "outcome": outcome}


def _expected(attempts: list[Attempt]) -> set[tuple[str, str, str, int, int]]:
    hits = set()
    for rule in RULES:
        last: defaultdict[str, deque[int]] = defaultdict(deque)
        for attempt in attempts:
            user, ts = attempt["user"], attempt["ts"]
            if not isinstance(user, str) or attempt["outcome"] != "failure":
                continue
            assert isinstance(ts, int)
            times = last[user]
            times.append(ts)
            if len(times) > rule.threshold:
                times.popleft()
            if len(times) == rule.threshold and abs(ts - times[0]) < rule.within_ms:
                hits.add((rule.name, user, str(attempt["id"]), ts, times[0]))
    return hits


def _run(source: Path) -> set[tuple[str, str, str, int, int]]:
    from pyflink.table import EnvironmentSettings, TableEnvironment  # noqa: PLC0415 — slow to load

    tables = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    tables.get_config().set("table.exec.resource.default-parallelism", "1")
    tables.execute_sql(
        f"""CREATE TEMPORARY TABLE {ATTEMPTS} (
          id STRING, ts BIGINT, `user` STRING, ip STRING, outcome STRING, arrival AS PROCTIME()
        ) WITH ('connector' = 'filesystem', 'path' = 'file://{source}', 'format' = 'json')"""
    )
    # Through files: Python fetches a row of a result at a time, which is slow.
    found = source.parent / "hits"
    tables.execute_sql(
        f"""CREATE TEMPORARY TABLE hits (
          subject_type STRING, subject STRING, rule STRING, ts BIGINT, oldest BIGINT,
          attempt_id STRING
        ) WITH ('connector' = 'filesystem', 'path' = 'file://{found}', 'format' = 'json')"""
    )
    tables.execute_sql(f"INSERT INTO hits {hits_sql(Policy(RULES, 1))}").wait()
    lines = [line for file in found.iterdir() for line in file.read_text().splitlines()]
    hits = map(json.loads, lines)
    return {(h["rule"], h["subject"], h["attempt_id"], h["ts"], h["oldest"]) for h in hits}
