"""Measures what a subject costs the detector: bytes in a checkpoint, on the heap, on disk.

Made-up failures go straight into each rule's own SQL in a Flink of its own, no stack is needed.
Every subject fails `failures` times, each time beside another one, all within the rule's window.
Names and addresses are 12 letters that do not compress, as long as those of people.
"""

import argparse
import contextlib
import multiprocessing
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import requests
from pyflink.common import Configuration
from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.java_gateway import get_gateway
from pyflink.table import Schema, StreamTableEnvironment

from flink_control.rest import FlinkRest
from flink_jobs.rules_sql import ATTEMPTS, hits_sql, interval_sql, state_ttl_ms
from login_blocking.policy import Rule
from login_blocking.policy_file import parse_policy
from tools.stack import binaries
from tools.stack.layout import Ports

_FIRST_TS: Final = 1_795_500_000_000
_WITHIN_MS: Final = 50_000
"""Shorter than every window: nothing is forgotten while it is measured."""
_DEADLINE_S: Final = 900.0
_RULES: Final = """
rules:
  - {name: failures, subject: user, count: failures, threshold: 5, within: 60s, block: [15m]}
  - {name: failures-reset, subject: user, count: failures, threshold: 5, within: 60s, block: [15m],
     reset_on_success: true}
  - {name: address-failures, subject: ip, count: failures, threshold: 20, within: 10m, block: [1h]}
  - {name: distinct-users, subject: ip, count: distinct_users, threshold: 10, within: 10m,
     block: [1h]}
  - {name: distinct-addresses, subject: user, count: distinct_ips, threshold: 5, within: 10m,
     block: [15m]}
forget_level_after: 30d
"""


@dataclass(frozen=True, slots=True)
class Shape:
    """One measurement: which rule, how much of what, and on what."""

    rule: Rule
    subjects: int
    failures: int
    backend: str
    parallelism: int

    @property
    def total(self) -> int:
        """All failures that are made up."""
        return self.subjects * self.failures


@dataclass(frozen=True, slots=True)
class Cost:
    """What a shape took, in bytes and failures a second."""

    checkpoint: int
    heap: int
    disk: int
    rate: float


def main() -> int:
    """Runs the command line."""
    rules = {rule.name: rule for rule in parse_policy(_RULES).rules}
    parser = argparse.ArgumentParser(prog="tools.bench_state", description=__doc__)
    parser.add_argument("--subjects", type=int, nargs="+", default=[100_000, 500_000, 1_000_000])
    parser.add_argument("--failures", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--parallelism", type=int, nargs="+", default=[1])
    parser.add_argument("--backend", nargs="+", choices=_BACKENDS, default=list(_BACKENDS))
    parser.add_argument("--rule", nargs="+", choices=list(rules), default=list(rules))
    parser.add_argument("--heap", default="6g", help="at most, of the JVM")
    arguments = parser.parse_args()
    # Read by the JVM that PyFlink starts.
    os.environ["JAVA_TOOL_OPTIONS"] = f"-XX:+UseParallelGC -Xmx{arguments.heap}"
    print(
        f"{'rule':19} {'backend':8} {'tasks':>5} {'subjects':>9} {'each':>4} {'failures/s':>10} "
        "  bytes a subject: checkpoint       heap       disk"
    )
    for name in arguments.rule:
        for backend in arguments.backend:
            for parallelism in arguments.parallelism:
                for subjects in arguments.subjects:
                    for failures in arguments.failures:
                        shape = Shape(rules[name], subjects, failures, backend, parallelism)
                        # A process each: a mini cluster leaves things behind on its heap.
                        with multiprocessing.get_context("spawn").Pool(1) as process:
                            _print(shape, process.apply(measure, (shape,)))
    return 0


_BACKENDS: Final = ("hashmap", "rocksdb")


def _print(shape: Shape, cost: Cost) -> None:
    each = [round(size / shape.subjects) for size in (cost.checkpoint, cost.heap, cost.disk)]
    print(
        f"{shape.rule.name:19} {shape.backend:8} {shape.parallelism:5} {shape.subjects:9,} "
        f"{shape.failures:4} {cost.rate:10,.0f} {each[0]:28,} {each[1]:10,} {each[2]:10,}",
        flush=True,
    )


def measure(shape: Shape) -> Cost:
    """Runs one shape until all its failures are counted and a checkpoint holds them."""
    with tempfile.TemporaryDirectory(prefix="bench-state-") as folder:
        port = Ports.free().flink
        stream = _query(_environment(shape, Path(folder), port), shape)
        before = _heap_used()
        job = stream.get_execution_environment().execute_async("bench-state")
        url = f"http://127.0.0.1:{port}"
        flink, job_id = FlinkRest(url, timeout_s=120.0), str(job.get_job_id())
        try:
            seconds = _until_counted(flink, job_id, shape.total)
            checkpoint = _next_checkpoint(f"{url}/jobs/{job_id}/checkpoints")
            disk = _size(Path(folder) / "rocksdb")
            heap = _heap_used() - before
        finally:
            job.cancel().result()
        return Cost(checkpoint, heap, disk, shape.total / seconds)


def _environment(shape: Shape, folder: Path, port: int) -> StreamTableEnvironment:
    settings = {
        "pipeline.jars": ";".join(f"file://{jar}" for jar in binaries.jars("flink").glob("*.jar")),
        "state.backend.type": shape.backend,
        "state.backend.rocksdb.localdir": str(folder / "rocksdb"),
        "execution.checkpointing.dir": f"file://{folder / 'checkpoints'}",
        "execution.checkpointing.interval": "3 s",
        "taskmanager.numberOfTaskSlots": str(shape.parallelism),
        "taskmanager.memory.managed.size": "1g",
        "taskmanager.memory.network.min": "128m",
        "taskmanager.memory.network.max": "128m",
        "metrics.fetcher.update-interval": "200 ms",
        "rest.port": str(port),
        "rest.bind-port": str(port),
        "rest.bind-address": "127.0.0.1",
    }
    configuration = Configuration()
    for name, value in settings.items():
        configuration.set_string(name, value)
    environment = StreamExecutionEnvironment.get_execution_environment(configuration)
    environment.set_parallelism(shape.parallelism)
    return StreamTableEnvironment.create(environment)


def _query(tables: StreamTableEnvironment, shape: Shape) -> DataStream:
    """The rule over made-up failures, and how many rows reach its operator that counts.

    A quiet source beside them stays when they are all made: so the job does not end, and the
    watermark does not run to the end of time, which would empty the windows.
    """
    rule, share = shape.rule, shape.total // shape.parallelism  # each task makes a range
    other = f"MOD(n, {shape.subjects}) + {shape.subjects} * (n / {shape.subjects})"
    subject, beside = f"MOD(n, {shape.subjects})", other
    user, ip = (subject, beside) if rule.subject == "user" else (beside, subject)
    tables.execute_sql(
        f"""CREATE TEMPORARY TABLE numbers (n BIGINT) WITH (
          'connector' = 'datagen', 'rows-per-second' = '100000000', 'fields.n.kind' = 'sequence',
          'fields.n.start' = '0', 'fields.n.end' = '{shape.total - 1}')"""
    )
    tables.execute_sql(
        """CREATE TEMPORARY TABLE quiet (n BIGINT) WITH (
          'connector' = 'datagen', 'rows-per-second' = '5')"""
    )
    made = tables.to_data_stream(
        tables.sql_query(
            f"""SELECT CAST(n AS STRING) AS id, ts, `user`, ip, outcome, FALSE AS known,
              n AS `position`, TO_TIMESTAMP_LTZ(ts, 3) AS stamp
            FROM (
              SELECT n, {_FIRST_TS} + MOD(n, {share}) * {_WITHIN_MS} / {share} AS ts,
                SUBSTRING(MD5(CAST({user} AS STRING)), 1, 12) AS `user`,
                SUBSTRING(MD5(CAST({ip} AS STRING)), 1, 12) AS ip, 'failure' AS outcome
              FROM numbers
              UNION ALL
              SELECT n, {_FIRST_TS} + MOD(n, 2), CAST(NULL AS STRING), CAST(NULL AS STRING), 'quiet'
              FROM quiet
            )"""  # noqa: S608 — made of numbers
        )
    )
    tables.create_temporary_view(ATTEMPTS, made, _schema())
    tables.get_config().set("table.exec.state.ttl", f"{state_ttl_ms(rule)} ms")
    hits = tables.to_data_stream(tables.sql_query(hits_sql(rule)))
    hits._j_data_stream.sinkTo(_discarding())  # noqa: SLF001 — no Python stage
    return hits


def _schema() -> Schema:
    return (
        Schema.new_builder()
        .column("id", "STRING")
        .column("ts", "BIGINT")
        .column("user", "STRING")
        .column("ip", "STRING")
        .column("outcome", "STRING")
        .column("known", "BOOLEAN")
        .column("position", "BIGINT")
        .column("stamp", "TIMESTAMP_LTZ(3)")
        .column_by_expression("arrival", "PROCTIME()")
        .column_by_expression("event_time", "stamp")
        .watermark("event_time", f"event_time - {interval_sql(1)}")
        .build()
    )


def _until_counted(flink: FlinkRest, job_id: str, expected: int) -> float:
    """Seconds from the first failure that the rule has read to the last."""
    began = 0.0
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline:
        counting = [v for v in flink.job(job_id)["vertices"] if v["name"].startswith("OverAgg")]
        read = max((int(vertex["metrics"]["read-records"]) for vertex in counting), default=0)
        now = time.perf_counter()
        if read and not began:
            began = now
        if read >= expected:
            return now - began
        time.sleep(0.05)
    raise TimeoutError(f"the rule read {read:,} of {expected:,}: {flink.exceptions(job_id)}")


def _next_checkpoint(url: str) -> int:
    """Bytes of a checkpoint that began when all was counted, and the watermark had gone by."""
    after = time.time() * 1_000 + 2_000
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline:
        newest = requests.get(url, timeout=120).json()["latest"]["completed"]
        if newest is not None and newest["trigger_timestamp"] > after:
            return int(newest["state_size"])
        time.sleep(0.2)
    raise TimeoutError("no checkpoint")


def _heap_used() -> int:
    """Of this process' JVM, in which the mini cluster runs, without what is garbage."""
    jvm = get_gateway().jvm
    for _ in range(2):
        jvm.System.gc()
    runtime = jvm.Runtime.getRuntime()
    return int(runtime.totalMemory() - runtime.freeMemory())


def _size(folder: Path) -> int:
    """Of all files that are there to the end of the count."""
    total = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # compacted away meanwhile
            total += file.stat().st_size
    return total


def _discarding() -> Any:  # noqa: ANN401 — a Java object
    sinks = get_gateway().jvm.org.apache.flink.streaming.api.functions.sink.v2
    return sinks.DiscardingSink()


if __name__ == "__main__":
    sys.exit(main())
