"""Replays recorded sets through the running stack and compares each with its expected blocks."""

import argparse
import sys
from pathlib import Path

from login_blocking.events import EventKind
from tools.replay import block_lines, policy_file, read_recording, replay
from tools.stack import layout
from tools.stack.layout import NoStackError


def main() -> int:
    """Runs the command line: 0 if every set is equal, 1 if one is not."""
    parser = argparse.ArgumentParser(prog="tools.verify_replay", description=__doc__)
    parser.add_argument("data", type=Path, help="folder of SET.ndjson[.gz] and expected/")
    parser.add_argument("--policy", default="seed", help="name of a shipped policy")
    parser.add_argument("--state-dir", type=Path, default=layout.DEFAULT_STATE_DIR)
    arguments = parser.parse_args()
    try:
        stack = layout.load(arguments.state_dir)
    except NoStackError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    policy_text = policy_file(arguments.policy).read_text(encoding="utf-8")
    different = 0
    for file in sorted(arguments.data.glob("*.ndjson*")):
        name = file.name.partition(".")[0]
        expected = arguments.data / "expected" / f"{name}.{arguments.policy}.ndjson"
        if not expected.exists():
            print(f"{name}: nothing is expected of policy {arguments.policy}; left out")
            continue
        events = replay(stack, read_recording(file), policy_text)
        blocks = block_lines([event for event in events if event.event is EventKind.BLOCKED])
        equal = blocks == expected.read_text(encoding="utf-8").splitlines()
        different += not equal
        print(f"{name}: {len(blocks)} blocks, {'equal' if equal else 'DIFFERENT'}", flush=True)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
