"""Starts the local stack's live job unless it runs, from where it left off."""

import argparse
import sys
from pathlib import Path

from flink_control.jar import WrongJarError
from flink_control.rest import FlinkError
from login_blocking.policy_file import PolicyError
from tools.interrupts import finished_before_ctrl_c, left_half_done
from tools.policies import find_policy
from tools.stack import job, layout, live
from tools.stack.layout import NoStackError


def main() -> int:
    """Runs the command line; its exit status."""
    parser = argparse.ArgumentParser(prog="tools.submit", description=__doc__)
    parser.add_argument("--policy", help="a file, or the name of a shipped policy; else the same")
    state = parser.add_mutually_exclusive_group()
    state.add_argument("--from", dest="from_", metavar="PATH", help="a savepoint or checkpoint")
    state.add_argument("--fresh", action="store_true", help="without the state of the job before")
    parser.add_argument("--state-dir", type=Path, default=layout.DEFAULT_STATE_DIR)
    given = parser.parse_args()
    try:
        stack = live.load(given.state_dir)
        file = find_policy(given.policy) if given.policy else stack.policy_file
        policy = file.read_text(encoding="utf-8")
        with finished_before_ctrl_c():
            submitted = job.submit(stack, policy, snapshot=given.from_, fresh=given.fresh)
            if submitted.fresh:
                layout.choose_policy(stack, policy)
    except (NoStackError, PolicyError, FlinkError, WrongJarError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        unknown = (
            "whether the job runs is not known, and the Login API's guard has the policy of before"
        )
        return left_half_done(unknown, given.state_dir)
    if submitted.fresh:
        began_from = submitted.snapshot or "no earlier state"
        print(f"job {submitted.job_id} runs, from {began_from}, and judges by {file}")
        return 0
    print(f"job {submitted.job_id} already runs{_not_heeded(given)}")
    return 0


def _not_heeded(given: argparse.Namespace) -> str:
    if given.from_ or given.fresh:
        return "; what it was to begin from is not heeded: that takes a job that was stopped"
    if given.policy:
        return f"; its policy stays, another one: {layout.make('upgrade', given.state_dir)}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
