"""The supervisor with small real processes in place of servers."""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tools.stack import processes, supervisor
from tools.stack.layout import ROOT

pytestmark = [pytest.mark.service, pytest.mark.timeout(60)]

RUN = """
import sys
from pathlib import Path
from tools.stack import layout
from tools.stack.parts import Part
from tools.stack.supervisor import Supervisor

folder = Path(sys.argv[1])
(folder / "any.yaml").write_text("")
stack = layout.create(folder, layout.Ports.free(), folder / "any.yaml")
stack.logs.mkdir(exist_ok=True)

def part(name, *needs, code="import time; time.sleep(600)", ready=None):
    ready = ready or (lambda: name in (folder / "order").read_text().split())
    marked = f"import pathlib; pathlib.Path({str(folder)!r}, 'order').open('a').write('{name} ');"
    return Part(name, needs=needs, command=[sys.executable, "-c", marked + code], ready=ready)

sys.exit(Supervisor(stack, eval(sys.argv[2])).run())
"""


class Running:
    """A supervisor in a process of its own."""

    def __init__(self, folder: Path, parts: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(folder), parts], cwd=ROOT, start_new_session=True
        )

    def state(self) -> dict[str, Any]:
        try:
            known: dict[str, Any] = json.loads((self.folder / "state.json").read_text())
        except FileNotFoundError:
            return {"state": "", "parts": {}}
        return known

    def pids(self) -> list[int]:
        parts = self.state()["parts"].values()
        return [part["identity"]["pid"] for part in parts if part["identity"]]

    def until(self, happened: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + 20
        while not happened(state := self.state()):
            assert time.monotonic() < deadline, state
            time.sleep(0.05)
        return state

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=30)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Running]]:
    started: list[Running] = []

    def begin(parts: str) -> Running:
        started.append(Running(tmp_path, parts))
        return started[-1]

    yield begin
    for running in started:
        if running.process.poll() is None:
            running.end()
        for pid in running.pids():
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGKILL)


def healthy(state: dict[str, Any]) -> bool:
    return bool(state["state"] == "healthy")


def gone(pids: list[int]) -> bool:
    return not any(map(_lives, pids))


def _lives(pid: int) -> bool:
    # Whoever adopted it may leave it as a zombie.
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_parts_start_after_those_they_need(start: Callable[[str], Running]) -> None:
    running = start("[part('c', 'b'), part('b', 'a'), part('a')]")

    running.until(healthy)

    assert (running.folder / "order").read_text().split() == ["a", "b", "c"]


def test_part_that_dies_is_started_again_and_counted(start: Callable[[str], Running]) -> None:
    running = start("[part('a')]")
    first = running.until(healthy)["parts"]["a"]["identity"]["pid"]

    os.kill(first, signal.SIGKILL)

    after = running.until(lambda s: healthy(s) and s["parts"]["a"]["restarts"] == 1)
    assert after["parts"]["a"]["identity"]["pid"] != first


def test_part_that_cannot_start_is_named_and_all_are_stopped(
    start: Callable[[str], Running],
) -> None:
    broken = "part('b', code='raise SystemExit(\\'no disk\\')', ready=lambda: False)"
    running = start(f"[part('a'), {broken}]")

    assert running.process.wait(timeout=30) == 1

    state = running.state()
    assert state["state"] == "failed"
    assert state["parts"]["b"]["state"] == "failed"
    assert "no disk" in state["parts"]["b"]["detail"]
    assert gone(running.pids())


def test_orderly_end_leaves_no_process(start: Callable[[str], Running]) -> None:
    running = start("[part('a'), part('b', 'a')]")
    running.until(healthy)
    pids = running.pids()

    assert running.end() == 0

    assert len(pids) == 2
    assert gone(pids)
    assert running.state()["state"] == "stopped"


def test_down_ends_what_a_killed_supervisor_left(start: Callable[[str], Running]) -> None:
    running = start("[part('a'), part('b', 'a')]")
    running.until(healthy)
    pids = running.pids()
    running.process.kill()
    running.process.wait(timeout=10)
    assert all(psutil.pid_exists(pid) for pid in pids)

    down = [sys.executable, "-m", "tools.stack", "--state-dir", str(running.folder), "down"]
    subprocess.run(down, cwd=ROOT, check=True, capture_output=True, timeout=60)

    assert gone(pids)


def test_stranger_with_the_same_id_is_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as stranger:
        known = processes.identity(stranger.pid)
        processes.stop({**known, "created": known["created"] - 100})

        assert stranger.poll() is None
        stranger.kill()


def test_full_disk_costs_a_log_and_not_the_supervisor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "part.log").write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(shutil, "copyfile", full)
    supervisor.bound_logs(tmp_path, limit_bytes=2)

    assert (tmp_path / "part.log").read_bytes() == b""


def test_log_that_grew_large_is_set_aside_while_its_part_goes_on_writing(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    with log.open("ab", buffering=0) as writing:
        writing.write(b"old " * 10)
        supervisor.bound_logs(tmp_path, limit_bytes=40)
        assert not (tmp_path / "part.log.1").exists()

        writing.write(b"!")
        supervisor.bound_logs(tmp_path, limit_bytes=40)
        writing.write(b"new")

    assert log.read_bytes() == b"new"
    assert (tmp_path / "part.log.1").read_bytes() == b"old " * 10 + b"!"
