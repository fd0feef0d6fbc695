"""States the counting of a policy as Flink SQL: the JVM counts, Python sees only the hits."""

from login_blocking.policy import Policy, Rule

ATTEMPTS = "login_attempts"
"""The table the rules read: id STRING, ts BIGINT, user STRING, ip STRING, outcome STRING, and
`arrival`, the processing time."""

HIT_COLUMNS = ("subject_type", "subject", "rule", "ts", "oldest", "attempt_id")


class UnsupportedRuleError(ValueError):
    """A rule of a kind that is not compiled yet."""


def hits_sql(policy: Policy) -> str:
    """One query that yields the hits of all rules, with HIT_COLUMNS.

    All rules look back in one OVER: a subject's failures are kept once, and Flink takes two OVERs
    that differ only in LAG's offset for the same and runs one of them for both
    (docs/decisions/0002-one-over-for-all-lags.md). Raises UnsupportedRuleError.
    """
    for rule in policy.rules:
        if rule.subject != "user" or rule.count != "failures" or rule.reset_on_success:
            raise UnsupportedRuleError(
                f"rule {rule.name}: only failures of a user, without reset_on_success, "
                "are counted yet"
            )
    branches = "\nUNION ALL\n".join(_hits_of(rule) for rule in policy.rules)
    return f"WITH lagged AS (\n{_lagged(policy)}\n)\n{branches}"


def state_ttl_ms(policy: Policy) -> int:
    """How long counts are kept after a subject's last failure.

    Attempts may be read slower than they were made, so an hour above the longest window; a bound
    at all, because the names are the attacker's to choose.
    """
    return policy.longest_window_ms + 3_600_000


def _lagged(policy: Policy) -> str:
    # LAG looks back over the subject's failures in the order they arrive: the topic is keyed by
    # user, so that is one partition's order, the same in every run, and needs no watermark.
    thresholds = sorted({rule.threshold for rule in policy.rules})
    lags = ",\n".join(
        f"  LAG(ts, {threshold - 1}) OVER (PARTITION BY `user` ORDER BY arrival)"
        f" AS {_oldest(threshold)}"
        for threshold in thresholds
    )
    return f"""\
SELECT `user` AS subject, ts, id AS attempt_id,
{lags}
FROM {ATTEMPTS}
WHERE outcome = 'failure' AND `user` IS NOT NULL"""  # noqa: S608 — made of numbers alone


def _hits_of(rule: Rule) -> str:
    oldest = _oldest(rule.threshold)
    return f"""\
SELECT '{rule.subject}' AS subject_type, subject, '{rule.name}' AS rule, ts,
  {oldest} AS oldest, attempt_id
FROM lagged
WHERE ABS(ts - {oldest}) < {rule.within_ms}"""  # noqa: S608 — a policy's names are [a-z0-9-]


def _oldest(threshold: int) -> str:
    return f"oldest_of_{threshold}"
