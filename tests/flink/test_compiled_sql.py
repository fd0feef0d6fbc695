"""The compiled job on a Flink mini cluster makes the blocks that the definition demands."""

import random
from pathlib import Path

import pytest

from login_blocking.attempts import Attempt, Outcome
from login_blocking.events import BlockEvent, EventKind
from login_blocking.policy_file import parse_policy
from tests.support import reference

pytestmark = [
    pytest.mark.flink,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore"),  # PyFlink's own, and those of what it imports
]

BEGINNING = 1_795_500_000_000
"""Not the epoch itself: Flink takes a row of time 0 for late."""

POLICY = """
rules:
  - {name: two, subject: user, count: failures, threshold: 2, within: 1s, block: [1ms]}
  - {name: five, subject: user, count: failures, threshold: 5, within: 60s, block: [1s, 20s]}
  - {name: slow, subject: user, count: failures, threshold: 3, within: 10m, block: [forever]}
  - {name: reset, subject: user, count: failures, threshold: 3, within: 60s, block: [1s],
     reset_on_success: true}
  - {name: ip-three, subject: ip, count: failures, threshold: 3, within: 10s, block: [1ms]}
  - {name: ip-reset, subject: ip, count: failures, threshold: 3, within: 60s, block: [1s],
     reset_on_success: true}
  - {name: spraying, subject: ip, count: distinct_users, threshold: 3, within: 20s, block: [1s]}
  - {name: elsewhere, subject: user, count: failures, threshold: 3, within: 60s, block: [1s],
     places: unknown}
  - {name: at-home, subject: user, count: failures, threshold: 3, within: 60s, block: [1s],
     places: known, reset_on_success: true}
  - {name: many-strangers, subject: user, count: distinct_ips, threshold: 2, within: 30s,
     block: [1s], places: unknown}
  - {name: distributed, subject: user, count: distinct_ips, threshold: 3, within: 30s, block: [1s]}
forget_level_after: 30d
"""


def test_blocks_are_those_of_the_definition(tmp_path: Path) -> None:
    from tools import history  # noqa: PLC0415 — PyFlink is slow to load

    attempts = [*_at_the_edges(), *_random_streams(random.Random(20261124), 2_000)]

    judged = history.judge(attempts, POLICY)

    started = [event for event in judged if event.event is EventKind.BLOCKED]
    expected = _facts(reference.blocks(parse_policy(POLICY), attempts))
    assert _facts(started) == expected
    assert {rule for rule, *_ in expected} == {rule.name for rule in parse_policy(POLICY).rules}


def _facts(events: list[BlockEvent]) -> set[tuple[str, str, int, int | None, int]]:
    return {(e.rule, e.subject, e.since, e.until, e.level) for e in events}


def _at_the_edges() -> list[Attempt]:
    inside = [0, 10_000, 20_000, 30_000, 59_999]
    outside = [0, 10_000, 20_000, 30_000, 60_000]
    late = [60_000, 50_000, 40_000, 30_000, 1]
    streams = {"inside": inside, "outside": outside, "late": late, "equal": [7] * 6}
    return [
        Attempt(f"{user}-{number}", BEGINNING + ts, user, None, Outcome.FAILURE)
        for user, times in streams.items()
        for number, ts in enumerate(times)
    ]


def _random_streams(rng: random.Random, streams: int) -> list[Attempt]:
    """Out of order, with equal times, successes between, and subjects that were not recorded."""
    attempts = []
    outcomes = [Outcome.FAILURE] * 7 + [Outcome.SUCCESS] * 2 + [Outcome.BLOCKED, Outcome.LIMITED]
    for number in range(streams * 8):
        user = None if rng.random() < 0.02 else f"user{rng.randrange(streams)}"
        ip = None if user and rng.random() < 0.02 else f"198.51.{rng.randrange(streams)}"
        ts = rng.choice([rng.randrange(120_000), rng.randrange(120) * 1_000])
        known = rng.random() < 0.4
        attempt = Attempt(f"r{number}", BEGINNING + ts, user, ip, rng.choice(outcomes), known)
        attempts.append(attempt)
    return attempts
