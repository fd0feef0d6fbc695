"""Starts the local stack's live job unless it runs, from where it left off."""

import argparse
import sys
from pathlib import Path

from flink_control.jar import WrongJarError
from flink_control.rest import FlinkError
from login_blocking.policy_file import PolicyError
from tools.replay import policy_file
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
        file = policy_file(given.policy) if given.policy else stack.policy_file
        policy = file.read_text(encoding="utf-8")
        submitted = job.submit(stack, policy, snapshot=given.from_, fresh=given.fresh)
        if submitted.fresh:
            layout.choose_policy(stack, policy)
    except (NoStackError, PolicyError, FlinkError, WrongJarError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Whether the job was submitted is not known: make status\n")
        return 130
    if submitted.fresh:
        began_from = submitted.snapshot or "no earlier state"
        print(f"job {submitted.job_id} runs, from {began_from}, and judges by {file}")
        return 0
    unused = given.policy or given.from_ or given.fresh
    hint = f"; what was named is not heeded ({layout.make('upgrade', given.state_dir)} does)"
    print(f"job {submitted.job_id} already runs{hint if unused else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
