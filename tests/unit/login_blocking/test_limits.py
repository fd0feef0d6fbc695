from dataclasses import replace

from login_blocking.limits import LONGEST_MS, Limit, limits
from login_blocking.policy import Exemptions, Policy, Rule
from login_blocking.subjects import Subject

RULES = (
    Rule("fast", "user", "failures", 5, 60_000, (None,), places="unknown"),
    Rule("slow", "user", "failures", 100, 10 * LONGEST_MS, (None,), reset_on_success=True),
    Rule("distributed", "user", "distinct_ips", 5, 60_000, (None,)),
    Rule("ip", "ip", "failures", 20, 60_000, (None,)),
)
POLICY = Policy(RULES, 86_400_000, Exemptions(frozenset({"root"})))


def test_limits_are_those_of_the_rules_that_count_failures_of_the_subject() -> None:
    assert limits(POLICY, Subject("user", "alice")) == (
        Limit("fast", 5, 60_000, reset_on_success=False, places="unknown"),
        Limit("slow", 100, LONGEST_MS, reset_on_success=True, places="any"),
    )
    assert [it.rule for it in limits(POLICY, Subject("ip", "192.0.2.1"))] == ["ip"]


def test_who_is_exempt_has_none() -> None:
    assert limits(POLICY, Subject("user", "root")) == ()
    assert limits(replace(POLICY, rules=RULES[:3]), Subject("ip", "192.0.2.1")) == ()
