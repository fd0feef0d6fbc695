"""Ctrl-C where something must not be left half done."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.stack import layout


@contextmanager
def finished_before_ctrl_c() -> Iterator[None]:
    """The first Ctrl-C is told to wait, the second is KeyboardInterrupt as ever."""

    def once(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        sys.stderr.write("It ends in a moment. Ctrl-C again leaves it half done.\n")

    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell
        yield
        return
    before = signal.signal(signal.SIGINT, once)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def left_half_done(what: str, state_dir: Path) -> int:
    """Says what is not known after the second Ctrl-C, and what helps; the exit status."""
    again = layout.make("upgrade", state_dir)
    sys.stderr.write(f"Left half done: {what}. {again} brings them together.\n")
    return 130
