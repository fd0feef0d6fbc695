"""From attempts to block events: one query a rule, all hits into one operator."""

from collections import Counter
from typing import Any, Final

import cloudpickle
from pyflink.datastream import DataStream
from pyflink.table import StreamTableEnvironment

from flink_jobs import attempts_source, by_value
from flink_jobs.heartbeat import TICK
from flink_jobs.lifecycle import EVENT_TYPE, BlockLifecycle
from flink_jobs.rules_sql import ATTEMPTS, hits_sql, nullable_text, state_name, state_ttl_ms
from login_blocking.policy import OPERATOR_RULE, Policy


def block_events(
    tables: StreamTableEnvironment,
    attempts: DataStream,
    policy: Policy,
    lifecycle: BlockLifecycle,
    commands: DataStream | None = None,
    *,
    ticks: bool = False,
) -> DataStream:
    """The block events of a policy, as rows of EVENT_TYPE.

    With `ticks` those among the attempts go the same way as hits, to become heartbeats.
    """
    cloudpickle.register_pickle_by_value(by_value)
    tables.get_config().set("python.execution-mode", "thread")
    attempts_source.register(tables, attempts)
    name_operators(attempts, "attempts")
    judged = []
    for rule in policy.rules:
        tables.get_config().set("table.exec.state.ttl", f"{state_ttl_ms(rule)} ms")
        hits = tables.to_data_stream(
            tables.sql_query(f"SELECT *, CAST(NULL AS STRING) AS command FROM ({hits_sql(rule)})")  # noqa: S608
        )
        name_operators(hits, state_name(rule))
        judged.append(hits)
    if commands is not None:
        name_operators(commands, "commands")
        judged.append(commands)
    if ticks:
        ticking = tables.to_data_stream(tables.sql_query(_TICKS_SQL))
        name_operators(ticking, "heartbeat")
        judged.append(ticking)
    first, *others = judged
    return (
        (first.union(*others) if others else first)
        .key_by(by_value.subject_of)
        .process(lifecycle, output_type=EVENT_TYPE)
        .name("block lifecycle")
        .uid("block-lifecycle")
    )


def commands_sql(table: str) -> str:
    """Commands (column `value`) as rows beside hits: the operator reads them itself, in Python."""
    return f"""\
SELECT JSON_VALUE(`value`, '$.subject_type') AS subject_type,
  JSON_VALUE(`value`, '$.subject') AS subject, {nullable_text(OPERATOR_RULE)} AS rule,
  CAST(NULL AS BIGINT) AS ts, CAST(NULL AS BIGINT) AS oldest, CAST(NULL AS STRING) AS attempt_id,
  `value` AS command
FROM {table} WHERE `value` IS JSON OBJECT"""  # noqa: S608


_TICKS_SQL: Final = f"""\
SELECT {nullable_text(TICK)} AS subject_type, outcome AS subject, {nullable_text(TICK)} AS rule,
  CAST(NULL AS BIGINT) AS ts, CAST(NULL AS BIGINT) AS oldest, CAST(NULL AS STRING) AS attempt_id,
  CAST(NULL AS STRING) AS command
FROM {ATTEMPTS} WHERE outcome = '{TICK}'"""  # noqa: S608


def name_operators(stream: DataStream, prefix: str) -> None:
    """Gives the operators of a query names of their own in snapshots, where they have none yet.

    Those that Flink would make up depend on the whole job: a changed rule would cost all others
    their counts.
    """
    seen: Counter[str] = Counter()
    _name(stream._j_data_stream.getTransformation(), prefix, seen)  # noqa: SLF001 — no other way in


def _name(transformation: Any, prefix: str, seen: Counter[str]) -> None:  # noqa: ANN401 — a Java object
    if transformation.getUid() is not None:
        return
    kind = transformation.getClass().getSimpleName()
    operator = transformation.getName().partition("[")[0].partition("(")[0].strip()
    if kind in ("PartitionTransformation", "UnionTransformation"):
        operator = kind
    seen[operator] += 1
    transformation.setUid(f"{prefix}-{operator}-{seen[operator]}")
    for above in transformation.getInputs():
        _name(above, prefix, seen)
