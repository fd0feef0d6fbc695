"""The detector's entry: attempts from Kafka, counted in SQL, judged in Python, blocks to Redis.

Submit it as the launcher jar (flink_jobs/launcher), through the web UI or its REST calls.
"""

import sys
import traceback
from pathlib import Path
from typing import Final

from py4j.protocol import Py4JJavaError
from pydantic import ValidationError
from pyflink.common import Configuration, Duration, WatermarkStrategy
from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.table import Schema, StreamTableEnvironment

from flink_jobs import attempts_source, preflight
from flink_jobs.kafka_tables import access_sql
from flink_jobs.lifecycle import BlockLifecycle, RedisTarget
from flink_jobs.pipeline import block_events, commands_sql
from flink_jobs.refusal import RefusedError
from flink_jobs.resources import resource
from flink_jobs.rules_sql import ATTEMPTS
from flink_jobs.settings import Settings, load_settings
from login_blocking.complaints import complaints
from login_blocking.policy_file import PolicyError, parse_policy

_COMMANDS_IDLE_MS: Final = 1_000
_REPLACES: Final = "detector.replaces"
"""In a submission's configuration: the job that is to be stopped for this one."""
_FRESH: Final = "detector.fresh"
"""In a submission's configuration: that it may begin without the state of the job before."""
_JAR: Final = "detector.jar"
"""In the job's own configuration: the id of the jar that it came from."""
_BEGINS_FROM: Final = "detector.begins-from"
"""In the job's own configuration: the snapshot, or the job in whose place it comes; else empty."""
_POLICY: Final = "detector.policy"
"""In a submission's configuration: a policy that wins over the settings'. In the job's own: the one
in force."""


def run(settings: Settings) -> None:
    """Builds and submits the job; returns when the cluster has taken it."""
    environment = preflight.own_environment()
    submitted_with = preflight.configuration(environment)
    policy_text = submitted_with.get(_POLICY) or settings.policy_source()
    policy = parse_policy(policy_text)
    replaced = submitted_with.get(_REPLACES)
    if settings.preflight:
        fresh = settings.fresh_start or submitted_with.get(_FRESH) == "true"
        preflight.check(environment, settings, replaced, fresh=fresh)
    _tell(environment, policy_text, submitted_with)
    tables = StreamTableEnvironment.create(environment)
    if not settings.bounded:
        tables.get_config().set("table.exec.source.idle-timeout", "1 s")

    attempts = attempts_source.from_kafka(tables, settings)
    commands = None if settings.commands_topic is None else _commands(tables, settings)
    redis = _redis(settings)
    lifecycle = BlockLifecycle(
        policy, redis, in_time_order=settings.bounded and commands is not None
    )
    ticks = redis is not None and attempts_source.ticks(settings)
    events = block_events(tables, attempts, policy, lifecycle, commands, ticks=ticks)

    tables.execute_sql(events_table(settings))
    schema = Schema.new_builder().column("subject", "STRING").column("event", "STRING").build()
    statements = tables.create_statement_set()
    statements.add_insert("block_events", tables.from_data_stream(events, schema))
    if settings.rejected_topic is not None:
        tables.execute_sql(rejected_table(settings, settings.rejected_topic))
        statements.add_insert_sql(rejected_sql(settings))
    statements.attach_as_datastream()
    try:
        if replaced is None:
            environment.execute(settings.job_name)
        else:
            _execute_in_place_of(environment, settings.job_name, replaced)
    except Py4JJavaError as error:
        if preflight.is_trial(environment):
            raise preflight.TrialOverError from error
        raise


def _execute_in_place_of(
    environment: StreamExecutionEnvironment, job_name: str, replaced: str
) -> None:
    """What `execute` does, with the other job's state, taken at the last moment."""
    graph = environment._generate_stream_graph(clear_transformations=True, job_name=job_name)  # noqa: SLF001 — no other way in
    taken = Configuration()
    taken.set_string(preflight.SNAPSHOT, preflight.take_over(environment, replaced))
    taken.set_string("execution.state-recovery.ignore-unclaimed-state", "true")
    # Into the configuration, not into the graph: there Flink writes over it from here.
    environment.configure(taken)
    environment._j_stream_execution_environment.execute(graph)  # noqa: SLF001 — no other way in


def _tell(
    environment: StreamExecutionEnvironment, policy_text: str, submitted_with: dict[str, str]
) -> None:
    """Shows in the web UI and by REST what an upgrade needs to bring this very job back.

    And what state it was given: whoever begins with what it leaves must know that it had it.
    """
    # A list in YAML, of one: ['file:/…/flink-web-upload/<id of the jar in REST>']
    jar = submitted_with.get("pipeline.jars", "").rpartition("/")[2].rstrip("]'")
    begins_from = submitted_with.get(_REPLACES) or submitted_with.get(preflight.SNAPSHOT) or ""
    environment.get_config().set_global_job_parameters(
        {_POLICY: policy_text, _JAR: jar, _BEGINS_FROM: begins_from}
    )


def _redis(settings: Settings) -> RedisTarget | None:
    if settings.redis_url is None:
        return None
    return RedisTarget(
        settings.redis_url.get_secret_value(),
        resource("apply_block.lua"),
        resource("heartbeat.lua"),
        attempts_source.watermark_behind_ms(settings),
    )


def _commands(tables: StreamTableEnvironment, settings: Settings) -> DataStream:
    """Commands as rows beside hits: the operator reads them itself, in Python."""
    tables.execute_sql(commands_table(settings))
    commands = tables.to_data_stream(tables.sql_query(commands_sql("block_commands")))
    if settings.bounded:
        return commands
    # They have no event time, and would hold back the lifecycle's for ever: it tells the lag.
    idle = WatermarkStrategy.no_watermarks().with_idleness(Duration.of_millis(_COMMANDS_IDLE_MS))
    return commands.assign_timestamps_and_watermarks(idle)


def commands_table(settings: Settings) -> str:
    """The table of commands over Kafka, as text: they are few."""
    start = "earliest-offset" if settings.bounded else "group-offsets"
    bound = "'scan.bounded.mode' = 'latest-offset'," if settings.bounded else ""
    return f"""\
CREATE TEMPORARY TABLE block_commands (`value` STRING) WITH (
  'connector' = 'kafka',
  'topic' = '{settings.commands_topic}',
  {access_sql(settings.kafka())}
  'properties.group.id' = '{settings.job_name}',
  'properties.auto.offset.reset' = 'earliest',
  'scan.startup.mode' = '{start}',
  {bound}
  'format' = 'raw'
)"""


def rejected_table(settings: Settings, topic: str) -> str:
    """The table of what is no attempt: key and value as they came, the rest in headers."""
    return f"""\
CREATE TEMPORARY TABLE rejected_attempts (
  record_key BYTES, record_value BYTES, headers MAP<STRING, BYTES> METADATA
) WITH (
  'connector' = 'kafka',
  'topic' = '{topic}',
  {access_sql(settings.kafka())}
  'key.format' = 'raw',
  'key.fields' = 'record_key',
  'value.format' = 'raw',
  'value.fields-include' = 'EXCEPT_KEY'
)"""


def rejected_sql(settings: Settings) -> str:
    """The statement that keeps what is no attempt, with its reason and the place it came from."""
    headers = {
        "reason": "reason",
        "topic": f"'{settings.attempts_topic}'",
        "partition": "CAST(`partition` AS STRING)",
        "offset": "CAST(`position` AS STRING)",
    }
    pairs = ", ".join(f"'{name}', ENCODE({value}, 'UTF-8')" for name, value in headers.items())
    return f"""\
INSERT INTO rejected_attempts
SELECT record_key, record_value, MAP[{pairs}] FROM {ATTEMPTS} WHERE reason IS NOT NULL"""  # noqa: S608


def events_table(settings: Settings) -> str:
    """The table of block events over Kafka: subject as the key, the event's JSON as the value."""
    return f"""\
CREATE TEMPORARY TABLE block_events (subject STRING, event STRING) WITH (
  'connector' = 'kafka',
  'topic' = '{settings.events_topic}',
  {access_sql(settings.kafka())}
  'properties.linger.ms' = '0',
  'key.format' = 'raw',
  'key.fields' = 'subject',
  'value.format' = 'raw',
  'value.fields-include' = 'EXCEPT_KEY'
)"""


def main() -> int:
    """Runs with the settings at hand; on an error writes it where the launcher looks for it."""
    try:
        run(load_settings())
    except preflight.TrialOverError:
        return 1  # so Flink wants a program to end of which it only wants the plan
    except Exception as error:  # noqa: BLE001 — whatever it is, the person who submitted must see it
        return _report(_in_words(error))
    return 0


def _in_words(error: Exception) -> str:
    match error:
        case ValidationError():
            return "\n".join(complaints(error, "DETECTOR_"))
        case RefusedError():
            return str(error)
        case Py4JJavaError():
            return preflight.root_cause(error)
        case PolicyError() | ValueError() | OSError():
            return f"{type(error).__name__}: {error}"
        case _:
            return traceback.format_exc()


def _report(message: str) -> int:
    sys.stderr.write(message + "\n")
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(message, encoding="utf-8")
    return 1


if __name__ == "__main__":
    sys.exit(main())
