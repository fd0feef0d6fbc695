"""Copies all that the local stack keeps into a folder, and makes a stack of such a folder again.

The steps and their order serve elsewhere too (docs/operations.md): the savepoint before the events,
and back: topics before the job.
"""

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import redis
from kafka import KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from flink_control.rest import FlinkError, FlinkRest
from login_api.topics import admin_of
from login_blocking.kafka_access import KafkaAccess
from login_blocking.names import (
    BLOCK_COMMANDS,
    BLOCK_EVENTS,
    LOGIN_ATTEMPTS,
    LOGIN_ATTEMPTS_REJECTED,
)
from tools.stack import binaries, job, layout, live, prepare, processes, topics
from tools.stack.layout import NoStackError, Ports, Stack, WrongPortError
from tools.stack.parts import Part, parts
from tools.topic_records import records_of

_TOPICS: Final = (BLOCK_EVENTS, BLOCK_COMMANDS, LOGIN_ATTEMPTS, LOGIN_ATTEMPTS_REJECTED)
_READY_WITHIN_S: Final = 60.0
_REWRITTEN_WITHIN_S: Final = 60.0


class BackupError(Exception):
    """Something could not be copied; the message says what."""


def main() -> int:
    """Runs the command line; its exit status."""
    parser = argparse.ArgumentParser(prog="tools.backup", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("make", help="copy a running stack")
    command.add_argument("folder", type=Path)
    command.add_argument("--state-dir", type=Path, default=layout.DEFAULT_STATE_DIR)
    command = commands.add_parser("restore", help="make a stack, which is not started, of a copy")
    command.add_argument("folder", type=Path)
    command.add_argument("--state-dir", type=Path, required=True, help="a folder that is not there")
    arguments = parser.parse_args()
    try:
        os.umask(0o077)  # a copy holds every account's hash and all secrets
        if arguments.command == "make":
            make(live.load(arguments.state_dir), arguments.folder)
        else:
            restore(arguments.folder, arguments.state_dir, _ports_of(arguments.folder))
            print(f"Start it: make up STATE={arguments.state_dir}")
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"{error.cmd[0]}: {error.stderr.decode(errors='replace')}\n")
        return 1
    except (
        BackupError,
        NoStackError,
        WrongPortError,
        FlinkError,
        KafkaError,
        redis.RedisError,
        subprocess.TimeoutExpired,
        OSError,
    ) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _ports_of(folder: Path) -> Ports:
    try:
        copied = json.loads((folder / "stack.json").read_text())
    except FileNotFoundError:
        return Ports.chosen()
    return Ports.chosen(Ports(**copied["ports"]))


def make(stack: Stack, folder: Path) -> None:
    """Copies a running stack into a folder that is not there yet; readable by its owner only."""
    if folder.exists():
        raise BackupError(f"{folder} is there already: choose another folder")
    folder.mkdir(mode=0o700, parents=True)
    # First: the list can then be rebuilt from events of more blocks than the job knows, not fewer.
    flink = FlinkRest(stack.flink_url)
    job_id = flink.running(job.JOB_NAME)
    if job_id is None:
        raise BackupError(f"no job runs: {layout.make('status', stack.state_dir)}")
    savepoint = Path(flink.savepoint(job_id).removeprefix("file:"))
    shutil.copytree(savepoint, folder / "savepoint")
    _say("savepoint", folder / "savepoint")
    for topic in _TOPICS:
        count = _read_topic(stack, topic, folder / f"{topic}.ndjson")
        _say(f"topic {topic}, {count:,} records", folder / f"{topic}.ndjson")
    _postgres(stack, "pg_dump", "-Fc", "-f", str(folder / "accounts.dump"))
    _say("accounts", folder / "accounts.dump")
    _copy_redis(stack, folder / "redis")
    _say("known places, guards", folder / "redis")
    for name in ("secrets.json", "policy.yaml", "stack.json"):
        shutil.copy(stack.state_dir / name, folder / name)
    _say("secrets, policy", folder / "secrets.json", folder / "policy.yaml")


def restore(folder: Path, state_dir: Path, ports: Ports) -> Stack:
    """A stack of a copy, in a folder that is not there yet; `make up` starts it."""
    if state_dir.exists():
        raise BackupError(f"{state_dir} is there already: choose another folder")
    if not (folder / "secrets.json").is_file():
        raise BackupError(f"{folder} holds no backup: make backup TO=folder writes one")
    # The stack that is copied may run: with the same passwords it would be the one written to.
    for name in ("postgres", "kafka"):
        holder = processes.holder_of(getattr(ports, name))
        if holder is not None:
            raise BackupError(
                f"port {getattr(ports, name)} for {name} is taken by {holder}: make down first"
            )
    try:
        return _restore(folder, state_dir, ports)
    except BaseException:
        # Half a stack would be taken for a whole one, and be in the way of the next try.
        shutil.rmtree(state_dir, ignore_errors=True)
        raise


def _restore(folder: Path, state_dir: Path, ports: Ports) -> Stack:
    state_dir.mkdir(parents=True)
    # With the number of key groups that its state was made with, and its secrets.
    for name in ("secrets.json", "stack.json"):
        shutil.copy(folder / name, state_dir / name)
    stack = layout.create(state_dir, ports, folder / "policy.yaml")
    prepare.prepare(stack)
    by_name = {part.name: part for part in parts(stack)}
    with _running(by_name["postgres"], stack):
        _postgres(stack, "psql", "-c", "CREATE DATABASE login_api", database="postgres")
        _postgres(stack, "pg_restore", "--exit-on-error", str(folder / "accounts.dump"))
        _say("accounts", folder / "accounts.dump")
    with _running(by_name["kafka"], stack):
        topics.create(stack.kafka_bootstrap)
        for topic in _TOPICS:
            count = _write_topic(stack, topic, folder / f"{topic}.ndjson")
            _say(f"topic {topic}, {count:,} records", folder / f"{topic}.ndjson")
    shutil.copytree(folder / "redis", stack.data / "redis", dirs_exist_ok=True)
    _say("known places, guards", folder / "redis")
    savepoint = stack.checkpoints / "restored"
    shutil.copytree(folder / "savepoint", savepoint)
    job.snapshots(stack).remember("restored", f"file://{savepoint}")
    _say("savepoint", folder / "savepoint")
    return stack


def _say(what: str, *files: Path) -> None:
    size = sum(
        each.stat().st_size
        for file in files
        for each in ([file] if file.is_file() else file.rglob("*"))
        if each.is_file()
    )
    print(f"  {what:44} {size:12,} bytes", flush=True)


def _postgres(stack: Stack, program: str, *arguments: str, database: str = "login_api") -> None:
    host = ["-h", "127.0.0.1", "-p", str(stack.ports.postgres), "-U", "login_api", "-d", database]
    subprocess.run(
        [binaries.postgres_program(program), *host, *arguments],
        env={**os.environ, "PGPASSWORD": stack.secrets.postgres},
        check=True, capture_output=True, timeout=600,
    )  # fmt: skip


def _copy_redis(stack: Stack, target: Path) -> None:
    """The files of the AOF, rewritten first: so the copy is short and of one moment."""
    with redis.Redis.from_url(stack.redis_url("admin"), decode_responses=True) as admin:
        admin.bgrewriteaof()
        deadline = time.monotonic() + _REWRITTEN_WITHIN_S
        while (info := admin.info("persistence"))["aof_rewrite_in_progress"]:
            if time.monotonic() > deadline:
                raise BackupError("Redis has not rewritten its AOF within a minute")
            time.sleep(0.05)
        if info["aof_last_bgrewrite_status"] != "ok":
            raise BackupError("Redis could not rewrite its AOF: see its log")
    shutil.copytree(stack.data / "redis" / "appendonlydir", target / "appendonlydir")


def _read_topic(stack: Stack, topic: str, target: Path) -> int:
    """All records that a topic holds now, partition by partition, in their order."""
    count = 0
    with target.open("w", encoding="ascii") as file:
        for record in records_of(KafkaAccess(stack.kafka_bootstrap), topic):
            file.write(json.dumps(_as_document(record)) + "\n")
            count += 1
    return count


def _write_topic(stack: Stack, topic: str, source: Path) -> int:
    """The records again, each in its partition, at its offset and with its own stamp.

    The savepoint goes on at offsets: after those that have expired their places stay empty.
    """
    producer = KafkaProducer(bootstrap_servers=stack.kafka_bootstrap, acks="all", linger_ms=20)
    first: dict[int, int] = {}
    answers = []
    try:
        with source.open(encoding="ascii") as file:
            for document in map(json.loads, file):
                partition = document["partition"]
                if partition not in first:
                    first[partition] = document["offset"]
                    for _ in range(document["offset"]):
                        producer.send(topic, value=b"", partition=partition)
                answers.append(producer.send(topic, **_of_document(document)))
        for answer in answers:
            answer.get(60)
    finally:
        producer.close()
    expired = {TopicPartition(topic, partition): before for partition, before in first.items()}
    if any(expired.values()):
        with admin_of(KafkaAccess(stack.kafka_bootstrap)) as admin:
            admin.delete_records(expired)
    return len(answers)


def _as_document(record: Any) -> dict[str, Any]:  # noqa: ANN401 — kafka-python has no types
    def text(value: bytes | None) -> str | None:
        return None if value is None else base64.b64encode(value).decode()

    return {
        "partition": record.partition,
        "offset": record.offset,
        "ts": record.timestamp,
        "key": text(record.key),
        "value": text(record.value),
        "headers": [[name, text(value)] for name, value in record.headers],
    }


def _of_document(document: dict[str, Any]) -> dict[str, Any]:
    def content(text: str | None) -> bytes | None:
        return None if text is None else base64.b64decode(text)

    return {
        "partition": document["partition"],
        "timestamp_ms": document["ts"],
        "key": content(document["key"]),
        "value": content(document["value"]),
        "headers": [(name, content(value) or b"") for name, value in document["headers"]],
    }


@contextmanager
def _running(part: Part, stack: Stack) -> Iterator[None]:
    """One part alone, while something is put into it."""
    if part.before is not None:
        part.before()
    with (stack.logs / f"{part.name}.log").open("ab") as log:
        process = subprocess.Popen(
            part.command, env=part.environment, cwd=part.folder, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + _READY_WITHIN_S
        while not _is_ready(part):
            if process.poll() is not None or time.monotonic() > deadline:
                told = prepare.log_tail(stack.logs / f"{part.name}.log")
                raise BackupError(f"{part.name} does not start:\n{told}")
            time.sleep(0.2)
        yield
    finally:
        process.send_signal(part.stop_signal)
        process.wait(60)


def _is_ready(part: Part) -> bool:
    try:
        return part.ready()
    except Exception:  # noqa: BLE001 — a part that starts refuses in many ways
        return False


if __name__ == "__main__":
    sys.exit(main())
