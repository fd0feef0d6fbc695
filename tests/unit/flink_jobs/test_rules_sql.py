from dataclasses import replace
from pathlib import Path

import pytest

from flink_jobs.rules_sql import hits_sql, interval_sql, state_name, state_ttl_ms
from login_blocking.policy import Rule

SNAPSHOTS = Path(__file__).parent / "snapshots"

RULES = [
    Rule("user-failures", "user", "failures", 5, 60_000, (None,)),
    Rule("user-reset", "user", "failures", 5, 60_000, (None,), reset_on_success=True),
    Rule("ip-failures", "ip", "failures", 20, 600_000, (None,)),
    Rule("ip-reset", "ip", "failures", 20, 600_000, (None,), reset_on_success=True),
    Rule("spraying", "ip", "distinct_users", 10, 600_000, (None,)),
    Rule("elsewhere", "user", "failures", 5, 60_000, (None,), places="unknown"),
    Rule("at-home", "user", "distinct_ips", 5, 60_000, (None,), places="known"),
    Rule("distributed", "user", "distinct_ips", 5, 90_061_001, (None,)),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_sql_of_each_kind_of_rule_is_the_one_kept(rule: Rule) -> None:
    assert hits_sql(rule) + "\n" == (SNAPSHOTS / f"{rule.name}.sql").read_text()


def test_interval_is_exact_to_the_millisecond() -> None:
    text = "INTERVAL '1 01:01:01.001' DAY(2) TO SECOND(3)"

    assert interval_sql(90_061_001) == text


def test_rule_keeps_its_counts_as_long_as_it_counts_the_same() -> None:
    rule = RULES[0]

    assert state_name(replace(rule, block_ms=(1, 2))) == state_name(rule)


@pytest.mark.parametrize(
    "changed",
    [
        replace(RULES[0], threshold=6),
        replace(RULES[0], within_ms=60_001),
        replace(RULES[0], reset_on_success=True),
        replace(RULES[0], count="distinct_ips"),
        replace(RULES[0], name="other"),
        replace(RULES[0], places="unknown"),
    ],
)
def test_rule_that_counts_otherwise_starts_afresh(changed: Rule) -> None:
    assert state_name(changed) != state_name(RULES[0])


def test_counts_outlive_the_window() -> None:
    assert all(state_ttl_ms(rule) > rule.within_ms for rule in RULES)
