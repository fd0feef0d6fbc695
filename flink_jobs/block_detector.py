"""The detector's entry: attempts from Kafka, counted in SQL, judged in Python, blocks to Redis.

Submit it as the launcher jar (flink_jobs/launcher), through the web UI or its REST calls.
"""

import sys
import traceback
from pathlib import Path

import cloudpickle
from pydantic import ValidationError
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.table import Schema, StreamTableEnvironment

from flink_jobs import by_value
from flink_jobs.lifecycle import EVENT_TYPE, BlockLifecycle
from flink_jobs.resources import resource
from flink_jobs.rules_sql import ATTEMPTS, hits_sql, state_ttl_ms
from flink_jobs.settings import Settings, load_settings
from login_blocking.policy_file import PolicyError, parse_policy


def run(settings: Settings) -> None:
    """Builds and submits the job; returns when the cluster has taken it."""
    policy = parse_policy(settings.policy_source())
    environment = StreamExecutionEnvironment.get_execution_environment()
    tables = StreamTableEnvironment.create(environment)
    tables.get_config().set("python.execution-mode", "thread")
    tables.get_config().set("table.exec.state.ttl", f"{state_ttl_ms(policy)} ms")
    cloudpickle.register_pickle_by_value(by_value)

    tables.execute_sql(attempts_table(settings))
    tables.execute_sql(events_table(settings))
    hits = tables.to_data_stream(tables.sql_query(hits_sql(policy)))
    redis_url = None if settings.redis_url is None else settings.redis_url.get_secret_value()
    events = (
        hits.key_by(by_value.subject_of)
        .process(
            BlockLifecycle(policy, redis_url, resource("apply_block.lua")), output_type=EVENT_TYPE
        )
        .name("block lifecycle")
        .uid("block-lifecycle")
    )
    schema = Schema.new_builder().column("subject", "STRING").column("event", "STRING").build()
    statements = tables.create_statement_set()
    statements.add_insert("block_events", tables.from_data_stream(events, schema))
    statements.attach_as_datastream()
    environment.execute(settings.job_name)


def attempts_table(settings: Settings) -> str:
    """The table of attempts over Kafka, with `arrival` as the order in which they are read."""
    start = "earliest-offset" if settings.bounded else "group-offsets"
    bound = "'scan.bounded.mode' = 'latest-offset'," if settings.bounded else ""
    return f"""\
CREATE TEMPORARY TABLE {ATTEMPTS} (
  id STRING, ts BIGINT, `user` STRING, ip STRING, outcome STRING, arrival AS PROCTIME()
) WITH (
  'connector' = 'kafka',
  'topic' = '{settings.attempts_topic}',
  'properties.bootstrap.servers' = '{settings.kafka_bootstrap}',
  'properties.group.id' = '{settings.job_name}',
  'properties.auto.offset.reset' = 'earliest',
  'scan.startup.mode' = '{start}',
  {bound}
  'format' = 'json',
  'json.ignore-parse-errors' = 'true'
)"""


def events_table(settings: Settings) -> str:
    """The table of block events over Kafka: subject as the key, the event's JSON as the value."""
    return f"""\
CREATE TEMPORARY TABLE block_events (subject STRING, event STRING) WITH (
  'connector' = 'kafka',
  'topic' = '{settings.events_topic}',
  'properties.bootstrap.servers' = '{settings.kafka_bootstrap}',
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
    except (PolicyError, ValidationError, ValueError, OSError) as error:
        return _report(f"{type(error).__name__}: {error}")
    except Exception:  # noqa: BLE001 — whatever it is, the person who submitted must see it
        return _report(traceback.format_exc())
    return 0


def _report(message: str) -> int:
    sys.stderr.write(message + "\n")
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(message, encoding="utf-8")
    return 1


if __name__ == "__main__":
    sys.exit(main())
