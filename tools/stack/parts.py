"""The parts of the stack as a table: how each starts, what it waits for, when it is healthy."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2
import redis
import requests
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from tools.stack import binaries, job, prepare, topics
from tools.stack.layout import ROOT, Stack

_PROBE_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class Part:
    """A process of the stack, or (with `task`) a step, done again whenever `redo_after` restarts.

    `ready` tells whether it is healthy; any exception means not yet. `before` runs once ahead of
    the first start.
    """

    name: str
    needs: tuple[str, ...] = ()
    port: int | None = None
    command: list[str] = field(default_factory=list)
    environment: dict[str, str] | None = None
    folder: Path = ROOT
    ready: Callable[[], bool] = lambda: True
    before: Callable[[], None] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    task: Callable[[], str] | None = None
    redo_after: str | None = None


def parts(stack: Stack) -> list[Part]:
    """All parts, in the order in which people expect to see them."""
    ports = stack.ports
    home = stack.data / "flink" / "home"
    flink = home / "bin"
    flink_environment = prepare.flink_environment(stack)
    redis_folder = stack.data / "redis"
    postgres_folder = stack.data / "postgres"
    kafka_folder = stack.data / "kafka"
    database = f"postgresql://login_api:{stack.secrets.postgres}@127.0.0.1:{ports.postgres}"
    return [
        Part(
            "redis",
            port=ports.redis,
            command=[
                binaries.redis_server(), str(ROOT / "redis" / "redis.conf"),
                "--port", str(ports.redis), "--dir", str(redis_folder),
                "--aclfile", str(redis_folder / "users.acl"),
            ],
            ready=lambda: _redis_answers(stack),
        ),
        Part(
            "postgres",
            port=ports.postgres,
            before=lambda: prepare.initialise_postgres(stack),
            command=[
                *binaries.as_postgres_user(), binaries.postgres_program("postgres"),
                "-D", str(postgres_folder / "db"), "-h", "127.0.0.1", "-p", str(ports.postgres),
                "-k", "",
            ],
            ready=lambda: _postgres_answers(f"{database}/postgres"),
            stop_signal=signal.SIGINT,  # SIGTERM would wait for every client to leave
        ),
        Part(
            "kafka",
            port=ports.kafka,
            before=lambda: prepare.format_kafka(stack),
            command=[
                binaries.java(), "-Xms256m", "-Xmx512m", "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC", f"-Dlog4j2.configurationFile={kafka_folder}/log4j2.properties",
                "-cp", f"{binaries.jars('kafka')}/*", "kafka.Kafka",
                str(kafka_folder / "server.properties"),
            ],
            ready=lambda: _kafka_answers(stack),
        ),
        Part("topics", needs=("kafka",), task=lambda: topics.create(stack.kafka_bootstrap)),
        Part(
            "flink-jobmanager",
            port=ports.flink,
            command=[
                str(flink / "jobmanager.sh"), "start-foreground",
                *prepare.metrics_options(ports.flink_metrics),
            ],
            environment=flink_environment,
            folder=home,  # not the checkout: its sources would be run in place of the jar's
            ready=lambda: "flink-version" in _overview(stack),
        ),
        Part(
            "flink-taskmanager",
            command=[
                str(flink / "taskmanager.sh"), "start-foreground",
                *prepare.metrics_options(ports.flink_taskmanager_metrics),
            ],
            environment=flink_environment,
            folder=home,  # not the checkout: its sources would be run in place of the jar's
            ready=lambda: int(str(_overview(stack)["slots-total"])) > 0,
        ),
        Part(
            "login-api",
            needs=("topics", "postgres", "redis"),
            port=ports.login_api,
            before=lambda: _create_database(f"{database}/postgres"),
            command=[binaries.python(), "-m", "login_api"],
            environment={
                **os.environ,
                "LOGIN_API_PORT": str(ports.login_api),
                "LOGIN_API_DATABASE_URL": stack.database_url,
                "LOGIN_API_REDIS_URL": stack.redis_url("login_api"),
                "LOGIN_API_KAFKA_BOOTSTRAP": stack.kafka_bootstrap,
                "LOGIN_API_POLICY_FILE": str(stack.policy_file),
                "LOGIN_API_PLACES_KEY": stack.secrets.places,
                "LOGIN_API_ADMIN_TOKEN": stack.secrets.admin_token,
                "LOGIN_API_DASHBOARD_ORIGINS": ",".join(
                    f"http://{host}:{ports.blocked_api}" for host in ("127.0.0.1", "localhost")
                ),
            },
            ready=lambda: _answers(f"{stack.login_url}/readyz"),
        ),
        Part(
            "blocked-api",
            needs=("redis", "block-detector"),  # nobody knows who is blocked until it reports
            port=ports.blocked_api,
            command=[binaries.python(), "-m", "blocked_api"],
            environment={
                **os.environ,
                "BLOCKED_API_PORT": str(ports.blocked_api),
                "BLOCKED_API_REDIS_URL": stack.redis_url("blocked_api"),
                "BLOCKED_API_LOGIN_API_URL": stack.login_url,
            },
            ready=lambda: _answers(f"{stack.blocked_url}/readyz"),
        ),
        Part(
            "block-detector",
            needs=("topics", "redis", "flink-jobmanager", "flink-taskmanager"),
            task=lambda: job.ensure(stack),
            redo_after="flink-jobmanager",
        ),
    ]  # fmt: skip


def inner_ports(stack: Stack) -> dict[str, int]:
    """Ports of parts that no table row shows, checked all the same before a start."""
    inner = {
        "kafka (controller)": stack.ports.kafka_controller,
        "flink (rpc)": stack.ports.flink_rpc,
        "flink (metrics)": stack.ports.flink_metrics,
        "flink (taskmanager metrics)": stack.ports.flink_taskmanager_metrics,
    }
    return {name: port for name, port in inner.items() if port}


def log_file(stack: Stack, name: str) -> Path:
    """Where a part's output goes."""
    return stack.logs / f"{name}.log"


def _answers(url: str) -> bool:
    return requests.get(url, timeout=_PROBE_TIMEOUT_S).ok


def _overview(stack: Stack) -> dict[str, object]:
    response = requests.get(f"{stack.flink_url}/overview", timeout=_PROBE_TIMEOUT_S)
    document: dict[str, object] = response.json()
    return document


def _redis_answers(stack: Stack) -> bool:
    with redis.Redis.from_url(
        stack.redis_url("admin"), socket_timeout=_PROBE_TIMEOUT_S
    ) as connection:
        return bool(connection.ping())


def _postgres_answers(url: str) -> bool:
    psycopg2.connect(url, connect_timeout=1).close()
    return True


def _create_database(url: str) -> None:
    connection = psycopg2.connect(url, connect_timeout=5)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = 'login_api'")
            if cursor.fetchone() is None:
                cursor.execute("CREATE DATABASE login_api")
    finally:
        connection.close()


def _kafka_answers(stack: Stack) -> bool:
    try:
        admin = KafkaAdminClient(
            bootstrap_servers=stack.kafka_bootstrap, request_timeout_ms=2_000,
            bootstrap_timeout_ms=1_500,
        )  # fmt: skip
    except KafkaError:
        return False
    try:
        admin.list_topics()
    finally:
        admin.close()
    return True
