"""Replays recorded sets through the running stack and compares each with its expected blocks."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from login_blocking.events import EventKind
from tools.recordings import read_recording
from tools.replay import block_lines, policy_file, replay
from tools.stack import layout
from tools.stack.layout import NoStackError


def main() -> int:
    """Runs the command line: 0 if every set is equal, 1 if one is not."""
    parser = argparse.ArgumentParser(prog="tools.verify_replay", description=__doc__)
    parser.add_argument("data", type=Path, help="folder of SET.ndjson[.gz] and expected/")
    parser.add_argument("--policy", nargs="+", help="only these; else all of DATA/policies")
    parser.add_argument("--set", nargs="+", help="only these sets; else all")
    parser.add_argument("--state-dir", type=Path, default=layout.DEFAULT_STATE_DIR)
    arguments = parser.parse_args()
    try:
        stack = layout.load(arguments.state_dir)
    except NoStackError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    different = 0
    for recording, policy in _pairs(arguments.data, arguments.set, arguments.policy):
        name = recording.name.partition(".")[0]
        expected = arguments.data / "expected" / f"{name}.{policy.stem}.ndjson"
        if not expected.exists():
            print(f"{name}, {policy.stem}: nothing is expected; left out")
            continue
        events = replay(stack, read_recording(recording), policy.read_text(encoding="utf-8"))
        blocks = block_lines([event for event in events if event.event is EventKind.BLOCKED])
        equal = blocks == expected.read_text(encoding="utf-8").splitlines()
        different += not equal
        verdict = "equal" if equal else "DIFFERENT"
        print(f"{name}, {policy.stem}: {len(blocks)} blocks, {verdict}", flush=True)
    return 1 if different else 0


def _pairs(
    data: Path, sets: list[str] | None, policies: list[str] | None
) -> Iterator[tuple[Path, Path]]:
    shipped = {file.stem: file for file in sorted((data / "policies").glob("*.json"))}
    for recording in sorted(data.glob("*.ndjson*")):
        if sets is None or recording.name.partition(".")[0] in sets:
            for name in policies or shipped:
                yield recording, shipped.get(name, policy_file(name))


if __name__ == "__main__":
    sys.exit(main())
