"""Checks a policy, or prints the JSON Schema of policies for editors."""

import argparse
import json
import sys

from login_blocking.policy import duration_text
from login_blocking.policy_file import PolicyError, parse_policy, policy_json_schema
from tools.policies import find_policy


def main() -> int:
    """Runs the command line; its exit status."""
    parser = argparse.ArgumentParser(prog="tools.policy", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("schema", help="print the JSON Schema")
    check = commands.add_parser("check", help="the rules in words, or all that is wrong")
    check.add_argument("policy", help="a file, or the name of a shipped policy")
    arguments = parser.parse_args()
    if arguments.command == "schema":
        print(json.dumps(policy_json_schema(), indent=2))
        return 0
    try:
        policy = parse_policy(find_policy(arguments.policy).read_text(encoding="utf-8"))
    except (PolicyError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for rule in policy.rules:
        lasting = ", ".join("for ever" if ms is None else duration_text(ms) for ms in rule.block_ms)
        reset = ", forgotten at a success" if rule.reset_on_success else ""
        subject = "a user" if rule.subject == "user" else "an address"
        print(f"{rule.name}: {subject} with {rule.reason}{reset} is blocked {lasting}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
