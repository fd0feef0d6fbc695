"""Replays recorded sets through the running stack and compares each with its expected blocks."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kafka.errors import KafkaError

from flink_control.rest import FlinkError
from login_blocking.events import EventKind
from login_blocking.policy_file import PolicyError
from tools.policies import find_policy
from tools.recordings import RecordingError, read_recording
from tools.replay import block_lines, replay
from tools.stack import layout, live
from tools.stack.layout import NoStackError, Stack

_LAYOUT: Final = (
    "DATA holds recordings SET.ndjson or SET.ndjson.gz, and expected/SET.POLICY.ndjson with the"
    " blocks of each pair to compare. POLICY is DATA/policies/POLICY.json, or a shipped policy."
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A recorded set, and what a policy must make of it."""

    recording: Path
    policy: str
    expected: Path

    @property
    def name(self) -> str:
        """The set and the policy."""
        return f"{_set(self.recording)}, {self.policy}"


def main() -> int:
    """Runs the command line: 0 if every set is equal, 1 if one is not or there is none."""
    parser = argparse.ArgumentParser(
        prog="tools.verify_replay", description=__doc__, epilog=_LAYOUT
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="the folder, see below")
    parser.add_argument("--policy", nargs="+", help="only these; else all that expected/ names")
    parser.add_argument("--set", nargs="+", help="only these sets; else all")
    parser.add_argument("--state-dir", type=Path, default=layout.DEFAULT_STATE_DIR)
    arguments = parser.parse_args()
    compared = pairs(arguments.data, arguments.set, arguments.policy)
    if not compared:
        sys.stderr.write(f"nothing to compare in {arguments.data}: {_LAYOUT}\n")
        return 1
    missing = _missing(arguments, compared)
    if missing:
        sys.stderr.write(f"nothing is expected of {', '.join(missing)}: {_LAYOUT}\n")
        return 1
    try:
        stack = live.load(arguments.state_dir)
        equal = [_is_equal(stack, arguments.data, pair) for pair in compared]
    except (NoStackError, RecordingError, PolicyError, FlinkError, KafkaError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0 if all(equal) else 1


def pairs(
    data: Path, sets: Sequence[str] | None = None, policies: Sequence[str] | None = None
) -> list[Pair]:
    """All that a folder lets one compare; None for all sets, or all policies."""
    return [
        Pair(recording, policy, expected)
        for recording in _recordings(data)
        if sets is None or _set(recording) in sets
        for expected in sorted((data / "expected").glob(f"{_set(recording)}.*.ndjson"))
        if (policy := expected.name.removeprefix(f"{_set(recording)}.").removesuffix(".ndjson"))
        and (policies is None or policy in policies)
    ]


def _missing(arguments: argparse.Namespace, compared: Sequence[Pair]) -> list[str]:
    """What was named, or without that lies there, and would be passed over in silence."""
    sets = arguments.set or [_set(recording) for recording in _recordings(arguments.data)]
    wanted = [("set", name) for name in sets]
    wanted += [("policy", name) for name in arguments.policy or ()]
    found = {("set", _set(pair.recording)) for pair in compared}
    found |= {("policy", pair.policy) for pair in compared}
    return [f"{kind} {name}" for kind, name in wanted if (kind, name) not in found]


def _recordings(data: Path) -> list[Path]:
    return sorted([*data.glob("*.ndjson"), *data.glob("*.ndjson.gz")])


def _set(recording: Path) -> str:
    return recording.name.partition(".")[0]


def _is_equal(stack: Stack, data: Path, pair: Pair) -> bool:
    own = data / "policies" / f"{pair.policy}.json"
    policy = own if own.is_file() else find_policy(pair.policy)
    attempts = read_recording(pair.recording)
    events = replay(stack, attempts, policy.read_text(encoding="utf-8"))
    blocks = block_lines([event for event in events if event.event is EventKind.BLOCKED])
    equal = blocks == pair.expected.read_text(encoding="utf-8").splitlines()
    print(f"{pair.name}: {len(blocks)} blocks, {'equal' if equal else 'DIFFERENT'}", flush=True)
    return equal


if __name__ == "__main__":
    sys.exit(main())
