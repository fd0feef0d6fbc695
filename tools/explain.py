"""Prints the SQL that a policy becomes, and what each part is for."""

import argparse
import sys

from flink_jobs.rules_sql import hits_sql, state_name, state_ttl_ms
from login_blocking.policy import duration_text
from login_blocking.policy_file import PolicyError, parse_policy
from tools.policies import find_policy


def main() -> int:
    """Runs the command line; its exit status."""
    parser = argparse.ArgumentParser(prog="tools.explain", description=__doc__)
    parser.add_argument("policy", help="a file, or the name of a shipped policy")
    try:
        policy = parse_policy(find_policy(parser.parse_args().policy).read_text(encoding="utf-8"))
    except (PolicyError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for rule in policy.rules:
        order = (
            "in event-time order: many partitions, which are read at different speed"
            if rule.in_event_time_order
            else "in order of arrival: one user's attempts share a partition"
        )
        blocks = ", ".join("for ever" if ms is None else duration_text(ms) for ms in rule.block_ms)
        print(f"-- {rule.name}: {rule.reason} of one {rule.subject}, {order}")
        forgotten = duration_text(policy.forget_level_after_ms)
        print(f"-- blocks last {blocks}; forgotten {forgotten} after the last one ended")
        print(f"-- counts are kept {duration_text(state_ttl_ms(rule))}, as {state_name(rule)}")
        print(f"{hits_sql(rule)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
