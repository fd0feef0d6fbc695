"""Changes the live job's policy, or its version, without losing blocks, levels or attempts.

The job is stopped with a savepoint and started from it. Rules that count the same keep their
counts, changed ones start fresh, blocks stay as they are; attempts wait in Kafka meanwhile.
"""

import argparse
import sys
from pathlib import Path

from flink_control import live_job
from flink_control.rest import FlinkError, FlinkRest
from flink_jobs.rules_sql import state_name
from login_blocking.policy import Policy
from login_blocking.policy_file import PolicyError, parse_policy
from tools.interrupts import finished_before_ctrl_c, left_half_done
from tools.policies import find_policy
from tools.stack import job, layout, live
from tools.stack.layout import NoStackError, Stack


def main() -> int:
    """Runs the command line; its exit status."""
    parser = argparse.ArgumentParser(prog="tools.upgrade", description=__doc__)
    parser.add_argument("--policy", help="a file, or the name of a shipped policy; else the same")
    parser.add_argument("--state-dir", type=Path, default=layout.DEFAULT_STATE_DIR)
    arguments = parser.parse_args()
    try:
        stack = live.load(arguments.state_dir)
        file = find_policy(arguments.policy) if arguments.policy else stack.policy_file
        with finished_before_ctrl_c():
            pause_s = upgrade(stack, file)
    except (NoStackError, PolicyError, FlinkError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        unknown = (
            "which policy the job judges by is not known, and the Login API's guard has the old one"
        )
        return left_half_done(unknown, arguments.state_dir)
    after = "" if pause_s is None else f" after a pause of {pause_s:.1f} s"
    print(f"Judging by {file}{after}.")
    return 0


def upgrade(stack: Stack, file: Path) -> float | None:
    """Seconds without a judge, None if none ran before.

    What was refused changes nothing: the old policy goes on.
    """
    new, old = (it.read_text(encoding="utf-8") for it in (file, stack.policy_file))
    _say_what_changes(parse_policy(old), parse_policy(new))
    if live_job.only(FlinkRest(stack.flink_url)) is None:
        layout.choose_policy(stack, new)
        job.ensure(stack)
        return None
    pause_s = job.upgrade(stack, new)
    layout.choose_policy(stack, new)
    return pause_s


def _say_what_changes(old: Policy, new: Policy) -> None:
    before = {rule.name: state_name(rule) for rule in old.rules}
    for rule in new.rules:
        if before.get(rule.name) == state_name(rule):
            print(f"  {rule.name}: keeps its counts")
        else:
            print(f"  {rule.name}: starts fresh")
    for name in before.keys() - {rule.name for rule in new.rules}:
        print(f"  {name}: goes; its blocks stay")


if __name__ == "__main__":
    sys.exit(main())
