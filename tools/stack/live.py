"""A stack that runs, for whoever works on it: by the ports of one that is down another is met."""

import json
from pathlib import Path
from typing import Any

from tools.stack import layout, processes
from tools.stack.layout import NoStackError, Stack


def load(state_dir: Path) -> Stack:
    """The stack of that folder, which runs; raises NoStackError if it does not."""
    stack = layout.load(state_dir)
    state = state_of(state_dir)
    if state is None or not processes.alive(state["supervisor"]):
        start = layout.make("up", state_dir)
        raise NoStackError(f"the stack in {state_dir} is down; start it: {start}")
    return stack


def state_of(state_dir: Path) -> dict[str, Any] | None:
    """What its supervisor said last of itself and its parts, None if none ever ran."""
    try:
        state: dict[str, Any] = json.loads((state_dir / "state.json").read_text())
    except FileNotFoundError:
        return None
    return state
