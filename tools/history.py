"""Judges recorded attempts by the compiled job on a Flink of its own, inside this process' JVM.

No stack is needed: attempts come from a file, block events go to files.
"""

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pyflink.common import Configuration
from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.table import Schema, StreamTableEnvironment

from flink_jobs import pipeline
from flink_jobs.lifecycle import BlockLifecycle
from flink_jobs.rules_sql import interval_sql
from login_blocking.attempts import Attempt
from login_blocking.commands import Command
from login_blocking.events import BlockEvent
from login_blocking.events import decode as decode_event
from login_blocking.policy_file import parse_policy
from tools.replay import disorder_ms


def judge(
    attempts: Sequence[Attempt], policy_text: str, commands: Sequence[Command] = ()
) -> list[BlockEvent]:
    """Every block event of these attempts under a policy, each once; raises PolicyError.

    With commands, hits and commands take effect in the order of their times.
    """
    policy = parse_policy(policy_text)
    # The interpreter inside the JVM finds its packages by the first python3 on PATH.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(prefix="history-") as folder:
        recording, found = Path(folder) / "attempts.json", Path(folder) / "events"
        with recording.open("w", encoding="utf-8") as lines:
            for position, attempt in enumerate(attempts):
                row = {**json.loads(attempt.encode()), "position": position}
                lines.write(json.dumps(row) + "\n")
        configuration = Configuration()
        configuration.set_string("python.executable", sys.executable)
        environment = StreamExecutionEnvironment.get_execution_environment(configuration)
        environment.set_parallelism(1)
        tables = StreamTableEnvironment.create(environment)
        tables.execute_sql(_recording_table(recording, disorder_ms(attempts) + 1))
        stream = tables.to_data_stream(tables.sql_query("SELECT * FROM recording"))
        lifecycle = BlockLifecycle(policy, None, in_time_order=bool(commands))
        commanded = _commands(tables, Path(folder) / "commands", commands) if commands else None
        events = pipeline.block_events(tables, stream, policy, lifecycle, commanded)
        schema = Schema.new_builder().column("subject", "STRING").column("event", "STRING").build()
        tables.create_temporary_view("judged", events, schema)
        tables.execute_sql(
            "CREATE TEMPORARY TABLE block_events (event STRING) WITH "
            f"('connector' = 'filesystem', 'path' = 'file://{found}', 'format' = 'raw')"
        )
        statements = tables.create_statement_set()
        statements.add_insert_sql("INSERT INTO block_events SELECT event FROM judged")
        statements.attach_as_datastream()
        environment.execute("history")
        unique = {}
        for file in found.glob("*"):
            for line in file.read_bytes().splitlines():
                event = decode_event(line)
                unique[event.id] = event
        return list(unique.values())


def _commands(
    tables: StreamTableEnvironment, file: Path, commands: Sequence[Command]
) -> DataStream:
    file.write_bytes(b"".join(command.encode() + b"\n" for command in commands))
    tables.execute_sql(
        "CREATE TEMPORARY TABLE commands (`value` STRING) WITH "
        f"('connector' = 'filesystem', 'path' = 'file://{file}', 'format' = 'raw')"
    )
    return tables.to_data_stream(tables.sql_query(pipeline.commands_sql("commands")))


def _recording_table(recording: Path, delay_ms: int) -> str:
    return f"""\
CREATE TEMPORARY TABLE recording (
  id STRING, ts BIGINT, `user` STRING, ip STRING, outcome STRING, known BOOLEAN,
  `position` BIGINT, reason STRING, record_key BYTES, record_value BYTES, `partition` INT,
  stamp AS TO_TIMESTAMP_LTZ(ts, 3), WATERMARK FOR stamp AS stamp - {interval_sql(delay_ms)}
) WITH ('connector' = 'filesystem', 'path' = 'file://{recording}', 'format' = 'json')"""
