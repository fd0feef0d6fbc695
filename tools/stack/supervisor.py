"""The process that starts the parts in order of health, starts again what dies, and stops all."""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

from flink_control.rest import FlinkError
from tools.stack import job, processes
from tools.stack.layout import Stack
from tools.stack.parts import Part, log_file
from tools.stack.prepare import log_tail
from tools.stack.processes import Identity

_TICK_S: Final = 0.1
_LOGS_EVERY_S: Final = 30.0
_START_TIMEOUT_S: Final = 120.0
_LOG_LIMIT_BYTES: Final = 32 * 1024 * 1024
_BACKOFF_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(slots=True)
class Running:
    """What the supervisor knows of one part."""

    part: Part
    state: str = "waiting"
    """waiting, starting, healthy, done (a task), restarting, failed, stopped."""
    process: subprocess.Popen[bytes] | None = None
    identity: Identity | None = None
    started_at: float = 0.0
    restarts: int = 0
    again_at: float = 0.0
    ever_healthy: bool = False
    detail: str = ""
    worker: threading.Thread | None = None

    @property
    def is_up(self) -> bool:
        """Whether others may lean on it."""
        return self.state in ("healthy", "done")


def bound_logs(folder: Path, limit_bytes: int = _LOG_LIMIT_BYTES) -> None:
    """Keeps each log, and one older file of it, near a size.

    Copied and emptied in place: the parts hold their files open, for appending. What a part writes
    between the two is lost. On a disk that is full the older file is lost too: no log is worth the
    supervisor's end, which would leave its parts alone.
    """
    for log in folder.glob("*.log"):
        with suppress(OSError):
            if log.stat().st_size > limit_bytes:
                with suppress(OSError):
                    shutil.copyfile(log, log.with_suffix(".log.1"))
                os.truncate(log, 0)


class Supervisor:
    """Runs a stack until it is told to stop, or until a part never becomes healthy."""

    def __init__(self, stack: Stack, parts: list[Part]) -> None:
        self._stack = stack
        self._parts = {part.name: Running(part) for part in parts}
        self._stopping = threading.Event()
        self._identity = processes.identity(os.getpid())

    def run(self) -> int:
        """0 after an orderly stop, 1 if a part could not be started (all are stopped then)."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        failed = False
        logs_looked_at = time.monotonic()
        while not self._stopping.is_set() and not failed:
            for running in self._parts.values():
                self._advance(running)
            failed = any(running.state == "failed" for running in self._parts.values())
            self._write_state("starting")
            if time.monotonic() - logs_looked_at > _LOGS_EVERY_S:
                bound_logs(self._stack.logs)
                logs_looked_at = time.monotonic()
            self._stopping.wait(_TICK_S)
        self._stop_all()
        self._write_state("failed" if failed else "stopped")
        return 1 if failed else 0

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping.set()

    def _advance(self, running: Running) -> None:
        match running.state:
            case "waiting" | "restarting":
                needs = all(self._parts[name].is_up for name in running.part.needs)
                if needs and time.monotonic() >= running.again_at:
                    self._start(running)
            case "starting":
                self._look_whether_ready(running)
            case "healthy" if running.process is not None and running.process.poll() is not None:
                self._restart(running, f"ended with {running.process.returncode}")

    def _start(self, running: Running) -> None:
        running.state = "starting"
        running.started_at = time.monotonic()
        # In a thread: a first start may format a log or wait for a job, and others go on meanwhile.
        running.worker = threading.Thread(target=self._begin, args=(running,), daemon=True)
        running.worker.start()

    def _begin(self, running: Running) -> None:
        part = running.part
        try:
            if part.before is not None and not running.ever_healthy:
                part.before()
            if part.task is not None:
                running.detail = part.task()
                running.state = "done"
                running.ever_healthy = True
                return
            with log_file(self._stack, part.name).open("ab") as log:
                running.process = subprocess.Popen(
                    part.command,
                    env=part.environment,
                    cwd=part.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            running.identity = processes.identity(running.process.pid)
            while running.state == "starting" and not self._stopping.is_set():
                if self._probe(part):
                    running.state = "healthy"
                    running.ever_healthy = True
                    running.detail = ""
                time.sleep(_TICK_S)
        except FlinkError as error:
            self._failed_to_start(running, str(error))
        except subprocess.CalledProcessError as error:
            output = (error.stdout or b"") + (error.stderr or b"")
            self._failed_to_start(running, output.decode(errors="replace")[-2_000:])
        except Exception as error:  # noqa: BLE001 — one part's failure is said, not this process' end
            self._failed_to_start(running, f"{type(error).__name__}: {error}")

    def _probe(self, part: Part) -> bool:
        try:
            return part.ready()
        except Exception:  # noqa: BLE001 — a part that starts refuses in many ways
            return False

    def _look_whether_ready(self, running: Running) -> None:
        process = running.process
        if running.part.task is None and process is not None and process.poll() is not None:
            self._failed_to_start(running, f"ended with {process.returncode}")
        elif time.monotonic() - running.started_at > _START_TIMEOUT_S:
            self._failed_to_start(running, f"not healthy after {_START_TIMEOUT_S:.0f} s")

    def _failed_to_start(self, running: Running, why: str) -> None:
        if self._stopping.is_set():
            return
        if running.ever_healthy:
            self._restart(running, why)
            return
        running.detail = why + "\n" + log_tail(log_file(self._stack, running.part.name))
        running.state = "failed"

    def _restart(self, running: Running, why: str) -> None:
        processes.stop(running.identity, signal.SIGKILL)
        backoff = _BACKOFF_S[min(running.restarts, len(_BACKOFF_S) - 1)]
        running.restarts += 1
        running.again_at = time.monotonic() + backoff
        running.process = None
        running.detail = why
        running.state = "restarting"
        for other in self._parts.values():
            if other.part.redo_after == running.part.name and other.state == "done":
                other.state = "waiting"

    def _stop_all(self) -> None:
        self._write_state("stopping")
        try:
            job.stop(self._stack)
        except FlinkError as error:
            # Its newest checkpoint serves the next start just as well.
            print(f"no savepoint: {error}", flush=True)
        for running in reversed(self._parts.values()):
            processes.stop(running.identity, running.part.stop_signal)
            running.state = running.state if running.state == "failed" else "stopped"
            self._write_state("stopping")

    def _write_state(self, state: str) -> None:
        if state == "starting" and all(running.is_up for running in self._parts.values()):
            state = "healthy"
        document: dict[str, Any] = {
            "state": state,
            "supervisor": self._identity,
            "parts": {
                name: {
                    "state": running.state,
                    "port": running.part.port,
                    "identity": running.identity,
                    "restarts": running.restarts,
                    "detail": running.detail,
                    "stop_signal": running.part.stop_signal,
                }
                for name, running in self._parts.items()
            },
        }
        temporary = self._stack.state_file.with_suffix(".new")
        temporary.write_text(json.dumps(document))
        temporary.replace(self._stack.state_file)
