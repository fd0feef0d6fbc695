"""What our containers lean on: Redis, Postgres and Kafka of the local stack, on free ports."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tools.images.containers import wait_for
from tools.stack import layout, prepare, processes
from tools.stack.layout import ROOT, Ports, Stack
from tools.stack.parts import Part, log_file, parts

_WITHIN_S = 300.0


@contextmanager
def running_servers(folder: Path) -> Iterator[Stack]:
    """Redis, Postgres with an empty database, and Kafka with the topics; ended in the end."""
    stack = layout.create(folder, Ports.free(), ROOT / "policies" / "default.yaml")
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
