"""Containers of our images, as hardened as compose and Kubernetes start them."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.images.engine import Engine, EngineError

_POLL_S = 0.5
_GRACE_S = 20


@dataclass(frozen=True, slots=True)
class Container:
    """A started container; `name` is the engine's for it."""

    engine: Engine
    name: str

    def wait_until_healthy(self, within_s: float) -> float:
        """Seconds until its image's HEALTHCHECK passes; EngineError with its log if it does not."""
        began = time.monotonic()
        while time.monotonic() - began < within_s:
            state = self._state()
            if not state["Running"]:
                raise EngineError(f"{self.name} ended with {state['ExitCode']}:\n{self.log_tail()}")
            if self._is_healthy():
                return time.monotonic() - began
            time.sleep(_POLL_S)
        raise EngineError(f"{self.name} is not healthy after {within_s:.0f} s:\n{self.log_tail()}")

    def stop(self) -> tuple[int, float]:
        """Asks it to end, by its stop signal; its exit status, and the seconds that took."""
        began = time.monotonic()
        _call([self.engine.name, "stop", "--time", str(_GRACE_S), self.name])
        return int(self._state()["ExitCode"]), time.monotonic() - began

    def run(self, *command: str) -> str:
        """What a command inside it prints; EngineError if it fails."""
        return _call([self.engine.name, "exec", self.name, *command])

    def log_tail(self, lines: int = 25) -> str:
        """Its last lines."""
        done = subprocess.run(
            [self.engine.name, "logs", "--tail", str(lines), self.name],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout + done.stderr

    def _state(self) -> dict[str, Any]:
        found = json.loads(_call([self.engine.name, "inspect", self.name]))
        state: dict[str, Any] = found[0]["State"]
        return state

    def _is_healthy(self) -> bool:
        if self.engine.name == "docker":
            health = self._state().get("Health")
            return isinstance(health, dict) and health["Status"] == "healthy"
        # Podman leaves the asking to systemd, which a sandbox has not.
        command = [self.engine.name, "healthcheck", "run", self.name]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0


@contextmanager
def started(
    engine: Engine,
    image: str,
    name: str,
    *arguments: str,
    environment: Mapping[str, str],
    volumes: Sequence[str] = (),
    writable: Sequence[str] = ("/tmp",),  # noqa: S108 — the container's own
) -> Iterator[Container]:
    """Runs it in this machine's network; it is removed in the end, whatever happens."""
    container = Container(engine, name)
    command = [*engine.run, "--detach", "--name", name, *_hardened(engine, writable)]
    for variable in environment:
        # Its value goes by our own environment: no list of processes shows it.
        command += ["--env", variable]
    for volume in volumes:
        command += ["--volume", volume]
    remove = [engine.name, "rm", "--force", "--volumes", name]
    subprocess.run(remove, check=False, capture_output=True)
    try:
        _call([*command, image, *arguments], {**os.environ, **environment})
        yield container
    finally:
        subprocess.run(remove, check=False, capture_output=True)


def output_of(
    engine: Engine, image: str, *command: str, user: str | None = None, hard: bool = True
) -> tuple[int, str]:
    """Exit status and output of a container that runs one command, without any setting."""
    whole = [*engine.run, "--rm", "--entrypoint", ""]
    whole += _hardened(engine, ["/tmp"]) if hard else ["--network=host"]  # noqa: S108
    whole += ["--user", user] if user else []
    done = subprocess.run([*whole, image, *command], check=False, capture_output=True, text=True)
    # Podman's own complaints that there is no systemd are no output of the container's.
    said = [line for line in done.stderr.splitlines() if "systemd connection" not in line]
    return done.returncode, done.stdout + "\n".join(said)


def open_to_all(folder: Path) -> Path:
    """Makes a folder and its files readable for the users of containers."""
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)
    return folder


def wait_for(what: str, ready: Callable[[], bool], within_s: float) -> None:
    """Polls until it is so; EngineError with its name if it never is. Exceptions mean not yet."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if ready():
                return
        except Exception:  # noqa: BLE001, S110 — what starts refuses in many ways
            pass
        time.sleep(_POLL_S)
    raise EngineError(f"not after {within_s:.0f} s: {what}")


def _hardened(engine: Engine, writable: Sequence[str]) -> list[str]:
    folders = [f"--tmpfs={path}:{engine.tmpfs}" for path in writable]
    return ["--network=host", *engine.hardened, *folders]


def _call(command: list[str], environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise EngineError(f"{' '.join(command[:4])} … failed:\n{done.stderr[-2_000:]}")
    return done.stdout
