"""`make verify-compose`: docker-compose.yml, run by podman as it stands, and what that proves."""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from rich.console import Console
from rich.table import Table

from tools.demo import DemoError
from tools.stack.binaries import MissingProgramError
from tools.stack.layout import ROOT, Ports
from tools.verify_compose import proofs, stand_ins
from tools.verify_compose.containers import Addresses, Podman, PodmanError
from tools.verify_compose.proofs import NotProvedError, Running
from tools.verify_compose.rendered import Project, RefusedError, render

_PREFIX: Final = "verify-compose-"
_OWN: Final = "login-blocking/"
_NOT_PROVED: Final = (
    "what Docker's engine does by itself: names, isolation and ways out of its networks, rotated",
    "  logs, start_interval (here podman's bridges, isolated, with names in /etc/hosts)",
    "how Prometheus finds the TaskManagers by a name server (that it reaches them is proved)",
    "up --wait, restart and depends_on by compose itself: done here by the same rules",
    "the entrypoints of public images, where a stand-in took their place",
)
_console = Console(highlight=False, width=150)


def main() -> int:
    """Runs the command line: 0 if all was proved, 1 if not."""
    parser = argparse.ArgumentParser(prog="tools.verify_compose", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave all running, to look at it")
    parser.add_argument("--tag", help="of our own images; else the one in the file")
    arguments = parser.parse_args()
    if shutil.which("podman") is None or shutil.which("buildah") is None:
        _console.print(
            "podman and buildah are needed; Debian: apt install podman buildah", style="red"
        )
        return 1
    signal.signal(signal.SIGTERM, _interrupted)
    podman = Podman(_PREFIX)
    table = Table("what", "proved")
    try:
        podman.remove_all()  # what a killed run has left
        with tempfile.TemporaryDirectory(prefix="verify-compose-") as folder:
            _prove_all(podman, Path(folder) / "env", table, arguments.tag)
    except (NotProvedError, PodmanError, RefusedError, MissingProgramError, DemoError) as error:
        _console.print(table)
        _console.print(f"NOT PROVED: {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        _console.print("Removing what was started.")
        return 130
    finally:
        if not arguments.keep:
            podman.remove_all()
    _console.print(table)
    _console.print("Not proved here:")
    for words in _NOT_PROVED:
        _console.print(f"  {words}")
    return 0


def _prove_all(podman: Podman, env_file: Path, table: Table, tag: str | None) -> None:
    def prove(what: str, proof: Callable[[], str]) -> None:
        _console.print(f"… {what}")
        words = proof()
        table.add_row(what, words)
        _console.print(f"  {words}", markup=False)

    prove("a missing secret is refused", lambda: _refused(env_file))
    project, variables = _rendered(env_file)
    table.add_row("docker compose config", f"{len(project.services)} services, no warning")
    running = Running(project, podman, Addresses.plan(project), {}, variables)
    prove("images", lambda: _find_images(running, tag))
    podman.create_networks(running.addresses)
    prove("started in the order of depends_on", lambda: proofs.start_in_order(running))
    prove("each is confined", lambda: proofs.confined(running))
    prove("networks", lambda: proofs.reachable(running))
    attacked = ""

    def the_demo() -> str:
        nonlocal attacked
        words, attacked = proofs.the_demo(running)
        return words

    prove("the demo", the_demo)
    prove("who calls", lambda: proofs.told_apart(running))
    if "prometheus" in running.images:
        prove("Prometheus' targets are up", lambda: proofs.scraped(running))
    prove("a second up", lambda: proofs.steps_again(running))
    prove("Redis restarted", lambda: proofs.redis_keeps(running, attacked))
    prove("JobManager killed", lambda: proofs.keeper_heals(running))
    prove("TaskManager killed", lambda: proofs.taskmanager_heals(running))
    prove("the demo once more", the_demo)
    prove("no secret in a log", lambda: proofs.silent(running))
    prove("memory", lambda: proofs.memory(running))
    prove("stopped", lambda: proofs.stops(running))
    prove("started again", lambda: proofs.start_again(running))
    prove("kept", lambda: proofs.kept(running, attacked))


def _refused(env_file: Path) -> str:
    env_file.touch()
    try:
        render(env_file)
    except RefusedError as error:
        words = str(error)
        if "run make env" not in words:
            raise NotProvedError(f"a missing secret is not told well: {words}") from error
        return words.rpartition("required variable ")[2]
    raise NotProvedError("compose accepts the file without its secrets")


def _rendered(env_file: Path) -> tuple[Project, dict[str, str]]:
    """The file with fresh secrets, on ports of this machine that are free."""
    env_file.unlink()
    subprocess.run(
        ["sh", str(ROOT / "tools" / "make-env"), str(env_file)], check=True, capture_output=True
    )
    free = Ports.free()
    ports = {
        "LOGIN_API": free.login_api, "BLOCKED_API": free.blocked_api, "FLINK": free.flink,
        "PROMETHEUS": free.kafka, "GRAFANA": free.redis,
    }  # fmt: skip
    with env_file.open("a") as opened:
        opened.writelines(f"STACK_PORT_{name}={port}\n" for name, port in ports.items())
    lines = env_file.read_text().splitlines()
    variables = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    return render(env_file), variables


def _find_images(running: Running, tag: str | None) -> str:
    """Our own must be here; of the others the public one, else its stand-in, else none."""
    own, missing, instead = {}, [], []
    for service in running.project.services.values():
        if service.image.startswith(_OWN):
            name, _, version = service.image.partition(":")
            found = running.podman.image(f"{name}:{tag or version}")
            if found is None:
                raise NotProvedError(f"{service.image} is not here; build it: make images")
            own[name.removeprefix(_OWN)] = found
            running.images[service.name] = found
    for service in running.project.services.values():
        if service.image.startswith(_OWN):
            continue
        found = running.podman.image(service.image)
        if found is None:
            found = stand_ins.build(service.image, own)
            instead.append(service.image)
        if found is None:
            missing.append(service.image)
        else:
            running.images[service.name] = found
    words = f"ours: {', '.join(sorted(own))}"
    words += f"; stand-ins for {', '.join(sorted(set(instead) - set(missing)))}" if instead else ""
    return words + (f"; left out: {', '.join(missing)}" if missing else "")


def _interrupted(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
