"""Waiting for what happens soon, without sleeping longer than it takes."""

import time
from collections.abc import Callable


def eventually(happened: Callable[[], object], within_s: float = 60.0) -> None:
    """Returns when it has happened; fails if it does not in time."""
    deadline = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)
