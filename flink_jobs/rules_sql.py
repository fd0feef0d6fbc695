"""States the counting of a policy as Flink SQL: the JVM counts, Python sees only the hits."""

from login_blocking.policy import Policy, Rule

ATTEMPTS = "login_attempts"
"""The table the rules read: id STRING, ts BIGINT, user STRING, ip STRING, outcome STRING, and
`arrival`, the processing time."""

HIT_COLUMNS = ("subject_type", "subject", "rule", "ts", "oldest", "attempt_id")


class UnsupportedRuleError(ValueError):
    """A rule of a kind that is not compiled yet."""


def hits_sql(policy: Policy) -> str:
    """One query that yields the hits of all rules, with HIT_COLUMNS."""
    return "\nUNION ALL\n".join(_rule_sql(rule) for rule in policy.rules)


def state_ttl_ms(policy: Policy) -> int:
    """How long counts are kept after a subject's last failure.

    Attempts may be read slower than they were made, so an hour above the longest window; a bound
    at all, because the names are the attacker's to choose.
    """
    return policy.longest_window_ms + 3_600_000


def _rule_sql(rule: Rule) -> str:
    if rule.subject != "user" or rule.count != "failures" or rule.reset_on_success:
        raise UnsupportedRuleError(
            f"rule {rule.name}: only failures of a user, without reset_on_success, are counted yet"
        )
    # LAG looks back over the subject's failures in the order they arrive: the topic is keyed by
    # user, so that is one partition's order, the same in every run, and needs no watermark.
    return f"""\
SELECT '{rule.subject}' AS subject_type, subject, '{rule.name}' AS rule, ts, oldest, attempt_id
FROM (
  SELECT `{rule.subject}` AS subject, ts, id AS attempt_id,
    LAG(ts, {rule.threshold - 1}) OVER (PARTITION BY `{rule.subject}` ORDER BY arrival) AS oldest
  FROM {ATTEMPTS}
  WHERE outcome = 'failure' AND `{rule.subject}` IS NOT NULL
)
WHERE ABS(ts - oldest) < {rule.within_ms}"""  # noqa: S608 — the policy's names are [a-z0-9-]
