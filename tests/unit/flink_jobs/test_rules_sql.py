import pytest

from flink_jobs.rules_sql import UnsupportedRuleError, hits_sql, state_ttl_ms
from login_blocking.policy import Policy, Rule

USER_FAILURES = Rule("user-failures", "user", "failures", 5, 60_000, (None,))


def test_failures_of_a_user_are_one_lag_over_arrival() -> None:
    sql = hits_sql(Policy((USER_FAILURES,), 1))

    assert sql == (
        "WITH lagged AS (\n"
        "SELECT `user` AS subject, ts, id AS attempt_id,\n"
        "  LAG(ts, 4) OVER (PARTITION BY `user` ORDER BY arrival) AS oldest_of_5\n"
        "FROM login_attempts\n"
        "WHERE outcome = 'failure' AND `user` IS NOT NULL\n"
        ")\n"
        "SELECT 'user' AS subject_type, subject, 'user-failures' AS rule, ts,\n"
        "  oldest_of_5 AS oldest, attempt_id\n"
        "FROM lagged\n"
        "WHERE ABS(ts - oldest_of_5) < 60000"
    )


def test_rule_that_is_not_compiled_yet_is_refused_by_name() -> None:
    spraying = Rule("spraying", "ip", "distinct_users", 10, 600_000, (None,))

    with pytest.raises(UnsupportedRuleError, match="spraying"):
        hits_sql(Policy((USER_FAILURES, spraying), 1))


def test_counts_outlive_the_longest_window() -> None:
    slow = Rule("slow", "user", "failures", 5, 600_000, (None,))

    assert state_ttl_ms(Policy((USER_FAILURES, slow), 1)) > 600_000
