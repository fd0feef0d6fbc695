"""`python -m flink_control submit|upgrade|savepoint|stop|status|keep`: the job's command line.

Exit status: 0 done, 1 refused (the message says why and what helps), 2 wrong usage.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from flink_control import live_job
from flink_control.jar import WrongJarError
from flink_control.keeper import Keeper
from flink_control.rest import FlinkError, FlinkRest
from flink_control.snapshots import Snapshots

_IN_THE_IMAGE: Final = Path("/opt/flink/usrlib/block-detector.jar")
_CHECKPOINTS: Final = Path("/opt/flink/checkpoints")
_STATUS_TIMEOUT_S: Final = 4.0


def main() -> int:
    """Runs the command line; its exit status."""
    arguments = _parser().parse_args()
    try:
        flink = FlinkRest(arguments.flink)
        match arguments.command:
            case "submit":
                return _submit(flink, arguments)
            case "upgrade":
                return _upgrade(flink, arguments)
            case "savepoint":
                print(live_job.savepoint(flink))
            case "stop":
                print(live_job.stop(flink) or "no job runs")
            case "keep":
                Keeper(
                    flink,
                    arguments.jar,
                    _snapshots(arguments.checkpoints),
                    policy_file=arguments.policy,
                ).run()
            case _:
                well, words = live_job.health(FlinkRest(arguments.flink, _STATUS_TIMEOUT_S))
                print(words)
                return 0 if well else 1
    except (FlinkError, WrongJarError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _snapshots(folder: Path) -> Snapshots:
    # The record lies beside what it tells of: both go together, or neither.
    return Snapshots(folder, folder / "last-job.json")


def _submit(flink: FlinkRest, arguments: argparse.Namespace) -> int:
    deadline = time.monotonic() + arguments.wait
    while time.monotonic() < deadline and not _can_begin(flink):
        time.sleep(0.5)
    policy = None if arguments.policy is None else arguments.policy.read_text(encoding="utf-8")
    kept = None if arguments.checkpoints is None else _snapshots(arguments.checkpoints)
    while True:
        try:
            submitted = live_job.submit(
                flink,
                arguments.jar,
                policy_text=policy,
                snapshot=arguments.from_,
                fresh=arguments.fresh,
                kept=kept,
            )
            break
        except live_job.NotStartedError as error:
            if time.monotonic() >= deadline:
                raise
            # Where all parts have just started at once, a TaskManager may be given up as lost.
            print(f"{error}; once more", flush=True)
    if not submitted.fresh:
        unused = " (upgrade gives it another policy or jar)" if policy or arguments.from_ else ""
        print(f"job {submitted.job_id} already runs{unused}")
    else:
        print(f"job {submitted.job_id} runs, from {submitted.snapshot or 'no earlier state'}")
    return 0


def _can_begin(flink: FlinkRest) -> bool:
    """Whether there is nothing to wait for: a slot is free, or the job has taken the last one."""
    try:
        return bool(flink.slots()[0] or flink.alive(live_job.JOB_NAME))
    except FlinkError:
        return False


def _upgrade(flink: FlinkRest, arguments: argparse.Namespace) -> int:
    policy = None if arguments.policy is None else arguments.policy.read_text(encoding="utf-8")
    kept = _snapshots(arguments.checkpoints)
    try:
        upgraded = live_job.upgrade(flink, arguments.jar, policy_text=policy)
    except live_job.RolledBackError as error:
        _note(kept, kept.remember, error.job_id, error.savepoint)
        raise
    except live_job.NotStartedError as error:
        _note(kept, kept.remember_failure, error.job_id)
        raise
    _note(kept, kept.remember, upgraded.job_id, upgraded.savepoint)
    print(f"job {upgraded.job_id} judges after a pause of {upgraded.pause_s:.1f} s")
    return 0


def _note(kept: Snapshots, note: Callable[..., None], *what: str) -> None:
    """Tells a keeper what it cannot see, where there may be one; the upgrade counts without."""
    if not kept.folder.is_dir():
        return
    try:
        note(*what)
    except OSError as error:
        sys.stderr.write(f"not noted for a keeper: {error}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="flink_control", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (
        ("submit", "start the job unless it runs"),
        ("upgrade", "another version or policy for the running job, nothing lost"),
        ("savepoint", "write a savepoint; the job goes on"),
        ("stop", "stop the job with a savepoint"),
        ("status", "0 if exactly one job runs and all its tasks do"),
        ("keep", "for ever: start the job again whenever none runs, from its newest state"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument(
            "--flink", default=os.environ.get("FLINK_URL", "http://127.0.0.1:8081"),
            metavar="URL", help="the JobManager's REST address (FLINK_URL)",
        )  # fmt: skip
        if name in ("submit", "upgrade", "keep"):
            command.add_argument("--jar", type=Path, default=_IN_THE_IMAGE, metavar="FILE")
            command.add_argument(
                "--policy", type=Path, metavar="FILE",
                help="carried by the job; else the JobManager's DETECTOR_POLICY_FILE counts",
            )  # fmt: skip
        if name == "submit":
            state = command.add_mutually_exclusive_group()
            state.add_argument(
                "--from", dest="from_", metavar="PATH",
                help="a savepoint or checkpoint; else the newest that the JobManager remembers",
            )  # fmt: skip
            state.add_argument(
                "--fresh",
                action="store_true",
                help="without the state of the job before: its levels are lost, and its blocks "
                "cannot be lifted",
            )
            command.add_argument(
                "--wait", type=float, default=0.0, metavar="SECONDS",
                help="for a JobManager that answers and a free slot; a job that does not start is "
                "tried again meanwhile",
            )  # fmt: skip
        if name in ("submit", "keep", "upgrade"):
            command.add_argument(
                "--checkpoints", type=Path, metavar="DIR",
                default=None if name == "submit" else _CHECKPOINTS,
                help="Flink's checkpoint folder, where the last job is noted too: what is known "
                "when the JobManager remembers none",
            )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
