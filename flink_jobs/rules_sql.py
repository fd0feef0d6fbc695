"""States the counting of each rule as Flink SQL: the JVM counts, Python sees only the hits."""

import hashlib
import json
from typing import Final

from login_blocking.policy import Rule

ATTEMPTS: Final = "attempts"
"""The table that rules read, columns as `flink_jobs.attempts_source` states them."""

HIT_COLUMNS: Final = ("subject_type", "subject", "rule", "ts", "oldest", "attempt_id")

_READ_SLOWER_MS: Final = 3_600_000


def hits_sql(rule: Rule) -> str:
    """The query that yields the hits of one rule, with HIT_COLUMNS.

    Each rule has its own query and so its own state: a rule that changes starts afresh and the
    others keep their counts (docs/decisions/0002-one-query-a-rule.md).
    """
    if rule.count != "failures":
        return _distinct(rule)
    if not rule.reset_on_success:
        return _failures(rule)
    return _reset_by_time(rule) if rule.in_event_time_order else _reset_by_arrival(rule)


def state_name(rule: Rule) -> str:
    """The name under which snapshots keep a rule's counts: another as soon as it counts otherwise.

    How long its blocks last is not part of it.
    """
    counting: list[str | int] = [
        rule.subject,
        rule.count,
        rule.threshold,
        rule.within_ms,
        rule.reset_on_success,
    ]
    if rule.places != "any":
        counting.append(rule.places)
    digest = hashlib.sha256(json.dumps(counting).encode()).hexdigest()[:12]
    return f"rule-{rule.name}-{digest}"


def state_ttl_ms(rule: Rule) -> int:
    """How long counts are kept after a subject's last failure.

    Attempts may be read slower than they were made, so an hour above the window; a bound at all,
    because the names are the attacker's to choose.
    """
    return rule.within_ms + _READ_SLOWER_MS


def interval_sql(milliseconds: int) -> str:
    """The SQL literal of a duration."""
    seconds, rest = divmod(milliseconds, 1_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"INTERVAL '{days} {hours:02}:{minutes:02}:{seconds:02}.{rest:03}' DAY(2) TO SECOND(3)"


def nullable_text(constant: str) -> str:
    """A constant of type STRING: streams can only be joined when their types are the very same."""
    return f"NULLIF(CAST('{constant}' AS STRING), '')"


def _failures(rule: Rule) -> str:
    """The threshold-th last failure is one look back: as cheap as a counter, and exact."""
    subject = _subject(rule)
    return f"""\
SELECT {_about(rule)}, ts, oldest, attempt_id
FROM (
  SELECT {subject} AS subject, ts, id AS attempt_id,
    -- the threshold-th last failure of the subject, this one included
    LAG(ts, {rule.threshold - 1}) OVER (PARTITION BY {subject} ORDER BY {_order(rule)}) AS oldest
  FROM {ATTEMPTS}
  WHERE outcome = 'failure' AND {_counted(rule)}
)
WHERE ABS(ts - oldest) < {rule.within_ms}"""  # noqa: S608 — a policy's names are [a-z0-9-]


def _reset_by_arrival(rule: Rule) -> str:
    """A hit needs `threshold` rows in a row without a success, so successes may be rows too.

    One user's attempts share a partition, where the position tells what came before what.
    """
    subject = _subject(rule)
    over = f"OVER (PARTITION BY {subject} ORDER BY {_order(rule)})"
    return f"""\
SELECT {_about(rule)}, ts, oldest, attempt_id
FROM (
  SELECT {subject} AS subject, ts, id AS attempt_id, outcome,
    -- the threshold-th last attempt, and whether a success came after it
    LAG(ts, {rule.threshold - 1}) {over} AS oldest,
    LAG(`position`, {rule.threshold - 1}) {over} AS oldest_position,
    MAX(CASE WHEN outcome = 'success' THEN `position` END) {over} AS last_success
  FROM {ATTEMPTS}
  WHERE outcome IN ('failure', 'success') AND {_counted(rule)}
)
WHERE outcome = 'failure' AND ABS(ts - oldest) < {rule.within_ms}
  AND (last_success IS NULL OR last_success < oldest_position)"""  # noqa: S608


def _reset_by_time(rule: Rule) -> str:
    """Positions of different partitions cannot be compared: the successes so far are numbered."""
    subject = _subject(rule)
    order = _order(rule)
    over = f"OVER (PARTITION BY subject ORDER BY {order})"
    return f"""\
SELECT {_about(rule)}, ts, oldest, attempt_id
FROM (
  SELECT subject, ts, attempt_id, successes,
    LAG(ts, {rule.threshold - 1}) {over} AS oldest,
    LAG(successes, {rule.threshold - 1}) {over} AS successes_then
  FROM (
    SELECT {subject} AS subject, ts, id AS attempt_id, outcome, {order},
      COUNT(CASE WHEN outcome = 'success' THEN 1 END) OVER (
        PARTITION BY {subject} ORDER BY {order}
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS successes
    FROM {ATTEMPTS}
    WHERE outcome IN ('failure', 'success') AND {_counted(rule)}
  )
  WHERE outcome = 'failure'
)
WHERE ABS(ts - oldest) < {rule.within_ms} AND successes = successes_then"""  # noqa: S608


def _distinct(rule: Rule) -> str:
    """Both ends of the window belong to it, and failures of equal time see each other."""
    subject = _subject(rule)
    other = "ip" if rule.subject == "user" else "`user`"
    return f"""\
SELECT {_about(rule)}, ts, ts AS oldest, attempt_id
FROM (
  SELECT {subject} AS subject, ts, id AS attempt_id,
    COUNT(DISTINCT {other}) OVER (
      PARTITION BY {subject} ORDER BY {_order(rule)}
      RANGE BETWEEN {interval_sql(rule.within_ms)} PRECEDING AND CURRENT ROW) AS others
  FROM {ATTEMPTS}
  WHERE outcome = 'failure' AND {_counted(rule)}
)
WHERE others >= {rule.threshold}"""  # noqa: S608


def _about(rule: Rule) -> str:
    subject_type, name = nullable_text(rule.subject), nullable_text(rule.name)
    return f"{subject_type} AS subject_type, subject, {name} AS rule"


def _subject(rule: Rule) -> str:
    return "`user`" if rule.subject == "user" else "ip"


def _counted(rule: Rule) -> str:
    places = {"any": "", "known": " AND known", "unknown": " AND known IS NOT TRUE"}
    return f"{_subject(rule)} IS NOT NULL{places[rule.places]}"


def _order(rule: Rule) -> str:
    return "event_time" if rule.in_event_time_order else "arrival"
