"""`python -m tools.stack up|down|status|logs`: the stack's command line."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flink_control import live_job
from flink_control.rest import FlinkError, FlinkRest
from login_blocking.policy_file import PolicyError
from tools.policies import find_policy
from tools.stack import job, layout, live, prepare, processes
from tools.stack.binaries import MissingProgramError
from tools.stack.layout import DEFAULT_STATE_DIR, ROOT, NoStackError, Ports, Stack, WrongPortError
from tools.stack.parts import inner_ports, parts
from tools.stack.supervisor import Supervisor

_UP_TIMEOUT_S = 300.0
_DOWN_TIMEOUT_S = 90.0
_DOWN = 3
_console = Console(highlight=False)


def main() -> int:
    """Runs one command; its exit status."""
    arguments = _parser().parse_args()
    state_dir: Path = arguments.state_dir
    try:
        match arguments.command:
            case "up":
                ports = Ports.free() if arguments.ports == "auto" else _ports(state_dir)
                named = arguments.policy
                ended = up(state_dir, ports, None if named is None else find_policy(named))
            case "run":
                stack = layout.load(state_dir)
                ended = Supervisor(stack, parts(stack)).run()
            case "down":
                ended = down(state_dir)
            case "savepoint":
                print(live_job.savepoint(FlinkRest(live.load(state_dir).flink_url)))
                ended = 0
            case "status":
                ended = status(state_dir, as_json=arguments.json)
            case _:
                ended = logs(state_dir, arguments.part)
    except (MissingProgramError, NoStackError, WrongPortError, PolicyError, FlinkError) as error:
        # Flink's words may hold brackets, and a command is there to be copied.
        _console.print(str(error), style="red", markup=False, soft_wrap=True)
        return _DOWN if isinstance(error, NoStackError) and arguments.command == "status" else 1
    return ended


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tools.stack", description=__doc__)
    parser.add_argument("--state-dir", type=Path, default=DEFAULT_STATE_DIR)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("up", help="start everything; leave it running")
    command.add_argument("--ports", choices=["default", "auto"], default="default")
    command.add_argument("--policy", help="file or name; default: the one in force before")
    commands.add_parser("run", help="the supervisor itself, in the foreground")
    commands.add_parser("down", help="stop everything that up started")
    commands.add_parser("savepoint", help="write a savepoint of the live job; its path")
    command = commands.add_parser("status", help="0 healthy, 1 partly, 3 down")
    command.add_argument("--json", action="store_true")
    command = commands.add_parser("logs", help="the newest log lines")
    command.add_argument("part", nargs="?")
    return parser


def _ports(state_dir: Path) -> Ports:
    """A stack keeps its ports."""
    try:
        return Ports.chosen(layout.load(state_dir).ports)
    except NoStackError:
        return Ports.chosen()


def up(state_dir: Path, ports: Ports, policy: Path | None) -> int:
    """Starts the stack and shows it coming up; leaves nothing behind if it does not."""
    state = live.state_of(state_dir)
    if state is not None and processes.alive(state["supervisor"]):
        if state["state"] == "healthy":
            _console.print("The stack is up already.")
            if policy is not None:
                another = layout.make("upgrade", state_dir)
                _console.print(f"Its policy stays; another one: {another} POLICY=file")
            _show(layout.load(state_dir), state)
            return 0
        return _follow(layout.load(state_dir))
    _end_orphans(state)
    if policy is None:
        before = state_dir / "policy.yaml"
        policy = before if before.is_file() else ROOT / "policies" / "default.yaml"
    stack = layout.create(state_dir, ports, policy)
    for part, port in {
        **{p.name: p.port for p in parts(stack) if p.port},
        **inner_ports(stack),
    }.items():
        holder = processes.holder_of(port)
        if holder is not None:
            (name, *_) = (name for name, number in asdict(ports).items() if number == port)
            _console.print(
                f"Port {port} for {part} is taken by {holder}: end it (a stack in another folder: "
                f"make down STATE=folder), or choose another port ({Ports.variable(name)}).",
                style="red",
            )
            return 1
    prepare.prepare(stack)
    stack.state_file.unlink(missing_ok=True)
    with (stack.logs / "supervisor.log").open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "tools.stack", "--state-dir", str(state_dir), "run"],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        return _follow(stack)
    except KeyboardInterrupt:
        _console.print("Stopping what was started.")
        down(state_dir)
        return 130


def _follow(stack: Stack) -> int:
    began = time.monotonic()
    seen: dict[str, str] = {}
    while time.monotonic() - began < _UP_TIMEOUT_S:
        state = live.state_of(stack.state_dir)
        if state is not None:
            for name, part in state["parts"].items():
                if seen.get(name) != part["state"] and part["state"] != "waiting":
                    _console.print(f"{time.monotonic() - began:6.1f} s  {name:18} {part['state']}")
                seen[name] = part["state"]
            if state["state"] == "healthy":
                _show(stack, state)
                return 0
            if state["state"] == "failed":
                _explain(stack, state)
                return 1
        time.sleep(0.1)
    _console.print(f"The stack is not up after {_UP_TIMEOUT_S:.0f} s; stopping it.", style="red")
    down(stack.state_dir)
    return 1


def _explain(stack: Stack, state: dict[str, Any]) -> None:
    for name, part in state["parts"].items():
        if part["state"] == "failed":
            _console.print(f"{name} could not be started:", style="red")
            _console.print(part["detail"], markup=False)
            _console.print(f"Its whole log: {stack.logs / name}.log. Everything was stopped again.")


def down(state_dir: Path) -> int:
    """Stops what `up` started, in reverse order; nothing else, and no error if nothing runs."""
    state = live.state_of(state_dir)
    if state is None:
        _console.print(f"Nothing runs in {state_dir}.")
        return 0
    supervisor = state["supervisor"]
    if processes.alive(supervisor):
        os.kill(supervisor["pid"], signal.SIGTERM)
        deadline = time.monotonic() + _DOWN_TIMEOUT_S
        while processes.alive(supervisor) and time.monotonic() < deadline:
            time.sleep(0.05)
    _end_orphans(live.state_of(state_dir))
    _console.print("The stack is down. Its data stays; the next start goes on from it.")
    return 0


def _end_orphans(state: dict[str, Any] | None) -> None:
    """Ends what a supervisor left that was itself killed."""
    for part in reversed(state["parts"].values() if state else []):
        processes.stop(part["identity"], signal.Signals(part["stop_signal"]))


def status(state_dir: Path, *, as_json: bool) -> int:
    """Shows the parts; 0 if all are healthy, 1 if some are not, 3 if nothing runs."""
    state = live.state_of(state_dir)
    up_now = state is not None and processes.alive(state["supervisor"])
    if as_json:
        print(json.dumps(state if up_now else {"state": "down"}, indent=2))
    elif state is not None and up_now:
        if not _show(layout.load(state_dir), state):
            return 1
    else:
        layout.load(state_dir)
        start = layout.make("up", state_dir)
        _console.print(f"The stack is down. Start it: {start}", soft_wrap=True)
    if state is None or not up_now:
        return _DOWN
    return 0 if state["state"] == "healthy" else 1


def logs(state_dir: Path, part: str | None) -> int:
    """Prints the newest lines of one part's log, or of all."""
    files = sorted(layout.load(state_dir).logs.glob("*.log"))
    chosen = [file for file in files if part in (None, file.stem)]
    if not chosen:
        names = ", ".join(file.stem for file in files)
        _console.print(f"There is no log of {part}; there are {names}.", style="red")
        return 1
    for file in chosen:
        print(f"== {file}")
        print(prepare.log_tail(file, 200 if part else 15))
    return 0


def _show(stack: Stack, state: dict[str, Any]) -> bool:
    """Prints the parts; whether the job, if it was submitted, judges."""
    judged, of_the_job = True, ""
    table = Table("part", "address", "state", "restarts", "process")
    table.columns[1].overflow = "fold"
    for name, part in state["parts"].items():
        address = f"127.0.0.1:{part['port']}" if part["port"] else part["detail"]
        if name == "block-detector":
            address, of_the_job = "", part["detail"]  # its id would not fit, nor what it refused
            if part["state"] == "done":
                judged, of_the_job = job.health(stack)
                part = {**part, "state": "running" if judged else "NOT WELL"}  # noqa: PLW2901
        pid = str(part["identity"]["pid"]) if part["identity"] else ""
        table.add_row(name, address, part["state"], str(part["restarts"]), pid)
    _console.print(table)
    if of_the_job:
        _console.print(f"block-detector: {of_the_job}", markup=False, soft_wrap=True)
    if not judged:
        _console.print("block-detector does not judge as it should, see above", style="red")
    for call, body in (
        ("register", '{"user":"alice","pass":"correct horse battery"}'),
        ("login", '{"user":"alice","pass":"wrong"}'),
    ):
        header = "-H 'Content-Type: application/json'"
        line = f"curl -X POST {stack.login_url}/{call} {header} -d '{body}'"
        _console.print(line, markup=False, soft_wrap=True)
    _console.print(f"curl {stack.blocked_url}/blocked", soft_wrap=True)
    _console.print(f"Dashboard: {stack.blocked_url}")
    _console.print(f"Flink web UI: {stack.flink_url}")
    return judged


if __name__ == "__main__":
    sys.exit(main())
