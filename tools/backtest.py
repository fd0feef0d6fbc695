"""Tries a policy on recorded attempts: who would have been blocked, by which rule, when, how long.

The live job's own compiled rules judge them, on a Flink inside this process; no stack is needed.
"""

import argparse
import logging
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Final, Self
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from login_blocking.attempts import Attempt
from login_blocking.events import BlockEvent, EventKind
from login_blocking.policy_file import PolicyError, parse_policy
from tools import backtest_report as report
from tools.backtest_chart import SUFFIXES, draw
from tools.policies import find_policy
from tools.recordings import Format, Reading, Recording, RecordingError, read
from tools.replay import block_lines

Judge = Callable[[list[Attempt], str], list[BlockEvent]]

_COLUMNS: Final = ("ts", "user", "ip", "success")
_INTERRUPTED: Final = 130
_ROWS: Final = 20
_LONGEST_NAME: Final = 40
_WIDTH_IN_FILES: Final = 110
_console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_IN_FILES)
_notes = Console(highlight=False, stderr=True)


class BacktestError(Exception):
    """A wish that cannot be fulfilled, found before anything was judged."""


def main(arguments: Sequence[str] | None = None, judge: Judge | None = None) -> int:
    """Runs the command line: 0 done, 1 could not be done, 2 wrong usage, 130 interrupted."""
    options = _parser().parse_args(arguments)
    with _Interrupts() as interrupts:
        try:
            _run(options, judge)
        except (KeyboardInterrupt, Exception) as error:
            if interrupts.happened:  # what is cut off in the JVM or amid an import raises anything
                _notes.print("Interrupted.")
                return _INTERRUPTED
            if not isinstance(error, BacktestError | RecordingError | PolicyError | OSError):
                raise
            _notes.print(str(error), style="red", markup=False, soft_wrap=True)
            return 1
    return 0


class _Interrupts:
    """Turns SIGINT and SIGTERM into KeyboardInterrupt, and remembers that one came."""

    def __init__(self) -> None:
        self.happened = False

    def __enter__(self) -> Self:
        signals = (signal.SIGINT, signal.SIGTERM)
        self._before = {number: signal.signal(number, self._interrupt) for number in signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        logging.disable(logging.NOTSET)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self.happened = True
        logging.disable(logging.CRITICAL)  # py4j's tracebacks of calls that were cut off
        raise KeyboardInterrupt


def _run(options: argparse.Namespace, judge: Judge | None) -> None:
    # Everything that can be wrong is looked at before the minutes of judging.
    for path in (options.chart, options.out):
        if path is not None and not path.absolute().parent.is_dir():
            raise BacktestError(f"{path}: there is no folder {path.absolute().parent}")
    names = [options.policy] if options.against is None else [options.against, options.policy]
    policies = [(_short_name(name, names), _policy_text(name)) for name in names]
    recording = _read(options)
    tried = [_try(recording.attempts, name, text, judge) for name, text in policies]
    history = report.History.of(recording.attempts)
    if options.chart is not None:
        blocks_by_name = {report.shown(one.name): one.blocks for one in tried}
        title = f"Blocks in {report.shown(options.data.name)}"
        draw(options.chart, title, blocks_by_name, history.span)
    if options.out is not None:
        lines = block_lines(tried[-1].blocks)
        options.out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    report.print_history(_console, history)
    for one in tried:
        report.print_effect(_console, history, one, options.rows)
    if options.against is not None:
        report.print_comparison(_console, tried[0], tried[1], options.rows)


def _policy_text(name: str) -> str:
    text = find_policy(name).read_text(encoding="utf-8")
    try:
        parse_policy(text)
    except PolicyError as error:
        raise PolicyError([f"{name}: {reason}" for reason in error.errors]) from error
    return text


def _short_name(name: str, names: Sequence[str]) -> str:
    """A policy's name without folder and suffix, unless the other one would be called the same."""
    stems = [find_policy(other).stem for other in names]
    stem = find_policy(name).stem
    return stem if stems.count(stem) == 1 else name[-_LONGEST_NAME:]


def _read(options: argparse.Namespace) -> Recording:
    how = Reading(
        year=options.year,
        zone=options.timezone,
        login_path=options.login_path,
        failure_status=options.failure_status,
        success_status=options.success_status,
        columns=options.columns,
    )
    with _spinner() as progress:
        progress.add_task(f"reading {options.data.name}")
        recording = read(options.data, options.format, how)
    if recording.other_lines or recording.unreadable_lines:
        _notes.print(
            f"{recording.format}: {recording.other_lines:,} lines are no login attempts,"
            f" {recording.unreadable_lines:,} look like one but cannot be read",
            soft_wrap=True,
        )
    if not recording.attempts:
        hint = (
            f"; attempts are POSTs to {options.login_path} (--login-path, --failure-status,"
            " --success-status)"
            if recording.format is Format.ACCESS_LOG
            else ""
        )
        raise BacktestError(f"{options.data}: no login attempts ({recording.format}){hint}")
    return recording


def _try(attempts: list[Attempt], name: str, policy_text: str, judge: Judge | None) -> report.Tried:
    began = time.monotonic()
    with _spinner() as progress:
        progress.add_task(f"judging {len(attempts):,} attempts by {report.shown(name)}")
        if judge is None:
            from tools import history  # noqa: PLC0415 — starts a JVM: only when it is needed

            judge = history.judge
        events = judge(attempts, policy_text)
    _notes.print(f"{name}: judged in {time.monotonic() - began:.1f} s", markup=False)
    blocks = [event for event in events if event.event is EventKind.BLOCKED]
    return report.Tried(name, blocks, report.Effect.of(attempts, blocks))


def _spinner() -> Progress:
    # No markup: names of files and policies are whatever they are.
    return Progress(
        SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn(),
        console=_notes, transient=True, disable=not _notes.is_terminal,
    )  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tools.backtest", description=__doc__)
    parser.add_argument("data", type=Path, metavar="DATA", help="the attempts, plain or gzipped")
    parser.add_argument("--policy", required=True, help="a file, or the name of a shipped policy")
    parser.add_argument("--against", help="another policy: tell who --policy blocks beyond it")
    parser.add_argument("--chart", type=_chart_file, help="draw blocks over time: .svg or .png")
    parser.add_argument("--out", type=Path, help="write the blocks here, one JSON object a line")
    parser.add_argument(
        "--rows", type=_count, default=_ROWS, help=f"rows of each table, {_ROWS} unless told"
    )
    form = parser.add_argument_group("how the file is read")
    form.add_argument(
        "--format", type=_format, metavar="FORMAT", help=f"auto (by its first lines), {_formats()}"
    )
    form.add_argument(
        "--timezone", type=_zone, default="UTC", help="of stamps without one; UTC unless told"
    )
    form.add_argument("--year", type=int, help="auth-log: of the first stamp without a year")
    form.add_argument("--login-path", default="/login", help="access-log: where logins are POSTed")
    form.add_argument(
        "--failure-status", type=_statuses, default="401,403", help="access-log: 401,403"
    )
    form.add_argument(
        "--success-status", type=_statuses, default="200,204,302", help="access-log: 200,204,302"
    )
    form.add_argument(
        "--columns", type=_columns, default={}, help="csv: ts=time,user=username,ip=addr,success=ok"
    )
    return parser


def _formats() -> str:
    return ", ".join(Format)


def _format(text: str) -> Format | None:
    if text == "auto":
        return None
    try:
        return Format(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is none of auto, {_formats()}") from None


def _chart_file(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in SUFFIXES:
        raise argparse.ArgumentTypeError(f"{text!r} ends neither in {' nor in '.join(SUFFIXES)}")
    return path


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rows")
    return int(text)


def _zone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (ValueError, OSError, LookupError):
        raise argparse.ArgumentTypeError(f"{text!r} is no zone such as Europe/Berlin") from None


def _statuses(text: str) -> frozenset[int]:
    try:
        return frozenset(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list such as 401,403") from None


def _columns(text: str) -> dict[str, str]:
    told = {}
    for part in text.split(","):
        what, equals, name = part.partition("=")
        if what.strip() not in _COLUMNS or not equals or not name.strip():
            raise argparse.ArgumentTypeError(
                f"{part!r} is not of the form NAME=COLUMN with a NAME of {', '.join(_COLUMNS)}"
            )
        told[what.strip()] = name.strip()
    return told


if __name__ == "__main__":
    sys.exit(main())
