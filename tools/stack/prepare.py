"""Writes what the servers need before they start: configurations, an empty database."""

import hashlib
import os
import shutil
import string
import subprocess
import sys
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import yaml

from tools.stack import binaries
from tools.stack.layout import ROOT, Stack


def prepare(stack: Stack) -> None:
    """All preparations; each is skipped or repeated harmlessly when done before."""
    stack.logs.mkdir(exist_ok=True)
    for part in ("redis", "postgres", "kafka", "flink", "flink/uploads", "flink/tmp"):
        (stack.data / part).mkdir(parents=True, exist_ok=True)
    write_redis_users(stack)
    _write_kafka_properties(stack)
    write_flink_home(stack.data / "flink" / "home", _flink(stack))


def initialise_postgres(stack: Stack) -> None:
    """Makes the database cluster at the first start."""
    data = stack.data / "postgres" / "db"
    if (data / "PG_VERSION").exists():
        return
    shutil.rmtree(data, ignore_errors=True)
    password = stack.data / "postgres" / "password"
    password.touch(mode=0o600)
    password.write_text(stack.secrets.postgres)
    try:
        subprocess.run(
            [
                *binaries.as_postgres_user(), binaries.postgres_program("initdb"),
                "-D", str(data), "-U", "login_api", "--auth=scram-sha-256",
                f"--pwfile={password}", "--locale=C.UTF-8", "--encoding=UTF8",
            ],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
    finally:
        password.unlink()


def format_kafka(stack: Stack) -> None:
    """Formats Kafka's log folder at the first start."""
    if (stack.data / "kafka" / "log" / "meta.properties").exists():
        return
    # Not with a dash in front, as Kafka's own: its tool would take it for an option.
    identity = "-"
    while identity.startswith("-"):
        identity = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    subprocess.run(
        [
            binaries.java(), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
            "-cp", f"{binaries.jars('kafka')}/*", "kafka.tools.StorageTool",
            "format", "-t", identity, "-c", str(stack.data / "kafka" / "server.properties"),
        ],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip


def write_redis_users(stack: Stack) -> None:
    """The users of this stack's Redis, with its passwords."""
    template = string.Template((ROOT / "redis" / "users.acl").read_text())
    hashes = {
        f"{user.upper()}_PASSWORD_SHA256": hashlib.sha256(password.encode()).hexdigest()
        for user in ("admin", "detector", "login_api", "blocked_api")
        if (password := getattr(stack.secrets, f"redis_{user}"))
    }
    target = stack.data / "redis" / "users.acl"
    target.touch(mode=0o600)
    target.write_text(template.substitute(hashes))


def _write_kafka_properties(stack: Stack) -> None:
    folder = stack.data / "kafka"
    broker, controller = stack.kafka_bootstrap, f"127.0.0.1:{stack.ports.kafka_controller}"
    (folder / "server.properties").write_text(
        f"""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{controller}
listeners=PLAINTEXT://{broker},CONTROLLER://{controller}
advertised.listeners=PLAINTEXT://{broker}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder / "log"}
auto.create.topics.enable=false
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
"""
    )
    (folder / "log4j2.properties").write_text(
        """\
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %c{1} %m%n
rootLogger.level=WARN
rootLogger.appenderRef.console.ref=console
"""
    )


def write_flink_home(home: Path, own: dict[str, Any]) -> None:
    """A Flink of the wheel's programs and our jars, with these settings."""
    wheel = binaries.pyflink()
    shutil.rmtree(home, ignore_errors=True)
    for folder in ("lib", "conf", "plugins", "log"):
        (home / folder).mkdir(parents=True)
    # flink-python in lib, not opt alone: the native library loads once per process, not per job.
    python_jars = list((wheel / "opt").glob("flink-python-*.jar"))
    for jar in [
        *(wheel / "lib").glob("*.jar"),
        *binaries.jars("flink").glob("*.jar"),
        *python_jars,
    ]:
        (home / "lib" / jar.name).symlink_to(jar)
    (home / "plugins" / "metrics-prometheus").symlink_to(wheel / "plugins" / "metrics-prometheus")
    (home / "opt").symlink_to(wheel / "opt")
    (home / "bin").symlink_to(wheel / "bin")
    # Not the wheel's: that logs the environment in which a job is compiled, passwords and all.
    shutil.copy(ROOT / "deploy" / "flink" / "log4j-console.properties", home / "conf")
    defaults = yaml.safe_load((wheel / "conf" / "config.yaml").read_text())
    settings = {"env.java.opts.all": defaults["env"]["java"]["opts"]["all"], **own}
    (home / "conf" / "config.yaml").write_text(yaml.safe_dump(settings, width=10_000))


def _flink(stack: Stack) -> dict[str, Any]:
    local, data = "127.0.0.1", stack.data / "flink"
    return {
        "rest.address": local,
        "rest.bind-address": local,
        "rest.port": stack.ports.flink,
        "jobmanager.rpc.address": local,
        "jobmanager.rpc.port": stack.ports.flink_rpc,
        "jobmanager.bind-host": local,
        "jobmanager.memory.process.size": "1100m",
        "taskmanager.host": local,
        "taskmanager.bind-host": local,
        "taskmanager.memory.process.size": "2200m",
        "taskmanager.memory.managed.fraction": 0.1,
        # One slot for the live job, one for a replay beside it.
        "taskmanager.numberOfTaskSlots": 2,
        "parallelism.default": 1,
        "pipeline.max-parallelism": stack.max_parallelism,
        "env.java.opts.jobmanager": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "env.java.opts.taskmanager": "-XX:+UseParallelGC",
        "cluster.intercept-user-system-exit": "THROW",
        "execution.buffer-timeout.interval": "1 ms",
        "execution.checkpointing.interval": "10 s",
        # Without a folder checkpoints live in the JobManager's memory, at most 5 MB.
        "execution.checkpointing.dir": f"file://{stack.checkpoints}",
        "execution.checkpointing.savepoint-dir": f"file://{stack.checkpoints}",
        "execution.checkpointing.num-retained": 2,
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "execution.checkpointing.tolerable-failed-checkpoints": 10,
        "state.backend.type": "hashmap",
        "restart-strategy.type": "exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff": "200 ms",
        "restart-strategy.exponential-delay.max-backoff": "5 s",
        # A TaskManager that is gone is noticed by two missed calls, in seconds; one that is only
        # slow, on a machine that is busy with other work, must not be given up.
        "heartbeat.interval": 1000,
        "heartbeat.timeout": 30_000,
        "slot.request.timeout": 120_000,
        "python.executable": sys.executable,
        "python.client.executable": sys.executable,
        "web.upload.dir": str(data / "uploads"),
        # The default lets any page in a browser on this machine read the UI's answers.
        "web.access-control-allow-origin": f"http://{local}:{stack.ports.flink}",
        "io.tmp.dirs": str(data / "tmp"),
    }


def metrics_options(port: int) -> list[str]:
    """What a Flink process takes to show its metrics to Prometheus on a port; 0: it shows none."""
    if not port:
        return []
    reporter = "org.apache.flink.metrics.prometheus.PrometheusReporterFactory"
    return [
        "-D", f"metrics.reporter.prom.factory.class={reporter}",
        "-D", f"metrics.reporter.prom.port={port}",
    ]  # fmt: skip


def flink_environment(stack: Stack) -> dict[str, str]:
    """What Flink's scripts and the job read from their environment."""
    return {
        **flink_paths(stack.data / "flink" / "home"),
        "DETECTOR_KAFKA_BOOTSTRAP": stack.kafka_bootstrap,
        "DETECTOR_REDIS_URL": stack.redis_url("detector"),
        "DETECTOR_POLICY_FILE": str(stack.policy_file),
    }


def flink_paths(home: Path) -> dict[str, str]:
    """This process' environment, and where Flink's scripts find what they need."""
    paths = {
        # The interpreter inside the TaskManager finds its packages by the first python3 on PATH.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "FLINK_HOME": str(home),
        "FLINK_CONF_DIR": str(home / "conf"),
        "FLINK_LIB_DIR": str(home / "lib"),
        "FLINK_OPT_DIR": str(home / "opt"),
        "FLINK_PLUGINS_DIR": str(home / "plugins"),
        "FLINK_LOG_DIR": str(home / "log"),
        "FLINK_PID_DIR": str(home / "log"),
    }
    return {**os.environ, **paths}


def log_tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log, empty if there is none."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""
