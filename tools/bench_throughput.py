"""Measures attempts a second: each rule alone and all together, as a share of merely reading them.

Reads the running stack's Kafka with a Flink of its own (one slot), so all shapes run in the same
way on the same attempts. Ratios carry over to other machines, absolute figures do not.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pyflink.common import Configuration
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.table import StreamTableEnvironment

from flink_jobs import attempts_source
from flink_jobs.rules_sql import hits_sql, state_ttl_ms
from flink_jobs.settings import Settings
from login_blocking.policy import Rule
from login_blocking.policy_file import parse_policy
from tools.stack import binaries, layout, live, topics
from tools.stack.layout import ROOT, NoStackError, Stack

_FIRST_TS: Final = 1_795_500_000_000


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="tools.bench_throughput", description=__doc__)
    parser.add_argument("--attempts", type=int, default=2_000_000)
    parser.add_argument("--users", type=int, default=500_000)
    parser.add_argument("--addresses", type=int, default=100_000)
    parser.add_argument("--malformed", type=int, default=0, help="every n-th record is no attempt")
    parser.add_argument("--backend", choices=["hashmap", "rocksdb"], default="hashmap")
    parser.add_argument(
        "--heap", default="8g", help="of the JVM; too small a one shows as slowness"
    )
    parser.add_argument("--only", nargs="+", help="only these shapes")
    parser.add_argument("--state-dir", type=Path, default=layout.DEFAULT_STATE_DIR)
    arguments = parser.parse_args()
    try:
        stack = live.load(arguments.state_dir)
    except NoStackError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    # Read by the JVM that PyFlink starts: the collector decides more than the query does.
    os.environ["JAVA_TOOL_OPTIONS"] = (
        f"-XX:+UseParallelGC -Xms{arguments.heap} -Xmx{arguments.heap}"
    )
    with _topic(stack) as topic:
        print(f"writing {arguments.attempts:,} attempts", flush=True)
        _write(stack, topic, arguments)
        policy = parse_policy((ROOT / "policies" / "default.yaml").read_text(encoding="utf-8"))
        shapes: dict[str, list[Rule] | None] = {"json pass-through": None, "pass-through": []}
        shapes |= {rule.name: [rule] for rule in policy.rules}
        shapes["all rules"] = list(policy.rules)
        base = 0.0
        print(f"{'shape':20} {'attempts/s':>10} {'of pass-through':>16} {'state, MB':>10}")
        for name, rules in shapes.items():
            if arguments.only and name not in arguments.only:
                continue
            seconds, state = _measure(stack, topic, rules, arguments.backend)
            rate = arguments.attempts / seconds
            base = base or rate
            print(f"{name:20} {rate:10,.0f} {rate / base:16.2f} {state / 1e6:10.1f}", flush=True)
    return 0


@contextmanager
def _topic(stack: Stack) -> Iterator[str]:
    name = f"bench-{uuid.uuid4().hex[:8]}"
    topics.create_topics(stack.kafka_bootstrap, {name: {"retention.ms": "-1"}})
    try:
        yield name
    finally:
        topics.delete_topics(stack.kafka_bootstrap, [name])


def _environment(backend: str, checkpoints: Path) -> StreamTableEnvironment:
    jars = ";".join(f"file://{jar}" for jar in binaries.jars("flink").glob("*.jar"))
    configuration = Configuration()
    configuration.set_string("pipeline.jars", jars)
    configuration.set_string("state.backend.type", backend)
    configuration.set_string("execution.checkpointing.dir", f"file://{checkpoints}")
    configuration.set_string("execution.checkpointing.interval", "10 s")
    configuration.set_string("taskmanager.memory.managed.size", "512m")
    configuration.set_string("taskmanager.memory.network.min", "128m")
    configuration.set_string("taskmanager.memory.network.max", "128m")
    environment = StreamExecutionEnvironment.get_execution_environment(configuration)
    environment.set_parallelism(1)
    return StreamTableEnvironment.create(environment)


def _write(stack: Stack, topic: str, arguments: argparse.Namespace) -> None:
    """A tenth are successes; the stamps go on by a millisecond an attempt."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        tables = _environment("hashmap", Path(folder))
        tables.execute_sql(
            f"""CREATE TEMPORARY TABLE numbers (n BIGINT, u BIGINT, a BIGINT) WITH (
              'connector' = 'datagen', 'rows-per-second' = '10000000', 'fields.n.kind' = 'sequence',
              'fields.n.start' = '0', 'fields.n.end' = '{arguments.attempts - 1}',
              'fields.u.min' = '1', 'fields.u.max' = '{arguments.users}',
              'fields.a.min' = '0', 'fields.a.max' = '{arguments.addresses - 1}')"""
        )
        tables.execute_sql(
            f"""CREATE TEMPORARY TABLE written (
              k STRING, v STRING, stamp TIMESTAMP_LTZ(3) METADATA FROM 'timestamp'
            ) WITH ('connector' = 'kafka', 'topic' = '{topic}',
              'properties.bootstrap.servers' = '{stack.kafka_bootstrap}',
              'properties.linger.ms' = '20', 'properties.batch.size' = '262144',
              'key.format' = 'raw', 'key.fields' = 'k', 'value.format' = 'raw',
              'value.fields-include' = 'EXCEPT_KEY')"""
        )
        bad = f"MOD(n, {arguments.malformed}) = 0" if arguments.malformed else "FALSE"
        tables.execute_sql(
            f"""INSERT INTO written
            SELECT k, CASE WHEN {bad} THEN CONCAT('{{"v":1,"id":', k) ELSE CONCAT(
              '{{"v":1,"id":"', UUID(), '","ts":', CAST(ts AS STRING), ',"user":"', k,
              '","ip":"10.', CAST(a / 65536 AS STRING), '.', CAST(MOD(a / 256, 256) AS STRING),
              '.', CAST(MOD(a, 256) AS STRING), '","outcome":"',
              CASE WHEN MOD(n, 10) = 0 THEN 'success' ELSE 'failure' END, '"}}') END,
              TO_TIMESTAMP_LTZ(ts, 3)
            FROM (SELECT n, u, a, CONCAT('user', CAST(u AS STRING)) AS k,
              {_FIRST_TS} + n AS ts FROM numbers)"""  # noqa: S608
        ).wait()


def _measure(stack: Stack, topic: str, rules: list[Rule] | None, backend: str) -> tuple[float, int]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, _watched(Path(folder)) as state:
        tables = _environment(backend, Path(folder))
        settings = Settings(
            kafka_bootstrap=stack.kafka_bootstrap, attempts_topic=topic, bounded=True,
            job_name=topic, watermark_delay_ms=60_000,
        )  # fmt: skip
        statements = tables.create_statement_set()
        if rules is None:
            tables.execute_sql(_json_table(stack, topic))
            tables.execute_sql(
                "CREATE TEMPORARY TABLE discarded (ts BIGINT) WITH ('connector' = 'blackhole')"
            )
            statements.add_insert_sql(
                "INSERT INTO discarded SELECT ts FROM plain WHERE outcome = 'failure'"
            )
            began = time.perf_counter()
            statements.execute().wait()
            return time.perf_counter() - began, state[0]
        attempts = attempts_source.from_kafka(tables, settings)
        attempts_source.register(tables, attempts)
        queries = [hits_sql(rule) for rule in rules] or [
            "SELECT ts FROM attempts WHERE outcome = 'failure' AND ts < 0"
        ]
        for number, query in enumerate(queries):
            if rules:
                ttl = state_ttl_ms(rules[number])
                tables.get_config().set("table.exec.state.ttl", f"{ttl} ms")
            stream = tables.to_data_stream(tables.sql_query(query))
            stream._j_data_stream.sinkTo(_discarding())  # noqa: SLF001 — no Python stage
        environment = stream.get_execution_environment()
        began = time.perf_counter()
        environment.execute("bench")
        return time.perf_counter() - began, state[0]


def _discarding() -> object:
    from pyflink.java_gateway import get_gateway  # noqa: PLC0415 — starts the JVM

    sinks = get_gateway().jvm.org.apache.flink.streaming.api.functions.sink.v2
    return sinks.DiscardingSink()


def _json_table(stack: Stack, topic: str) -> str:
    return f"""CREATE TEMPORARY TABLE plain (
      id STRING, ts BIGINT, `user` STRING, ip STRING, outcome STRING
    ) WITH ('connector' = 'kafka', 'topic' = '{topic}', 'format' = 'json',
      'json.ignore-parse-errors' = 'true', 'scan.startup.mode' = 'earliest-offset',
      'scan.bounded.mode' = 'latest-offset', 'properties.group.id' = '{topic}',
      'properties.bootstrap.servers' = '{stack.kafka_bootstrap}')"""


@contextmanager
def _watched(folder: Path) -> Iterator[list[int]]:
    """The largest size that the checkpoints in a folder had, in bytes."""
    largest, ending = [0], threading.Event()

    def look() -> None:
        while not ending.wait(0.5):
            for checkpoint in folder.glob("*/chk-*/_metadata"):
                files = [*checkpoint.parent.glob("*"), *checkpoint.parents[1].glob("shared/*")]
                try:
                    largest[0] = max(largest[0], sum(file.stat().st_size for file in files))
                except FileNotFoundError:
                    continue

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield largest
    finally:
        ending.set()
        watcher.join()


if __name__ == "__main__":
    sys.exit(main())
