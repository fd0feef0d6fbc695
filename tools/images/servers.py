"""What our containers lean on: Redis, Postgres and Kafka of the local stack, on free ports."""

import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tools.images.containers import wait_for
from tools.stack import layout, prepare, processes
from tools.stack.layout import ROOT, Ports, Stack
from tools.stack.parts import Part, log_file, parts

_WITHIN_S = 300.0
_BELOW_EPHEMERAL = range(20_000, 32_000)


@contextmanager
def running_servers(folder: Path) -> Iterator[Stack]:
    """Redis, Postgres with an empty database, and Kafka with the topics; ended in the end."""
    ports = Ports(**{name: free_port() for name in Ports.__slots__})
    stack = layout.create(folder, ports, ROOT / "policies" / "default.yaml")
    prepare.prepare(stack)
    table = {part.name: part for part in parts(stack)}
    with ExitStack() as until_done:
        for name in ("redis", "postgres", "kafka"):
            until_done.enter_context(_running(stack, table[name]))
        for name in ("redis", "postgres", "kafka"):
            wait_for(f"{name} answers", table[name].ready, _WITHIN_S)
        topics, database = table["topics"].task, table["login-api"].before
        assert topics is not None  # noqa: S101 — the table's
        assert database is not None  # noqa: S101
        topics()
        database()
        yield stack


def free_port() -> int:
    """One that nobody holds, of those that no connection of others takes in the meantime."""
    while True:
        port = _BELOW_EPHEMERAL.start + secrets.randbelow(len(_BELOW_EPHEMERAL))
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextmanager
def _running(stack: Stack, part: Part) -> Iterator[None]:
    if part.before is not None:
        part.before()
    with log_file(stack, part.name).open("ab") as log:
        process = subprocess.Popen(
            part.command, env=part.environment, cwd=part.folder, stdin=subprocess.DEVNULL,
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    identity = processes.identity(process.pid)
    try:
        yield
    finally:
        processes.stop(identity, part.stop_signal)
        process.wait()
