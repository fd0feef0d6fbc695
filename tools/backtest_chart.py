"""Draws blocks over time by rule, for one policy or for two below each other."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from login_blocking.events import BlockEvent

SUFFIXES: Final = (".svg", ".png")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BARS: Final = 80
_MINUTE_MS: Final = 60_000
_STEPS: Final = {
    "minute": 1, "5 minutes": 5, "10 minutes": 10, "30 minutes": 30, "hour": 60, "3 hours": 180,
    "6 hours": 360, "12 hours": 720, "day": 1_440, "week": 10_080, "30 days": 43_200,
}  # fmt: skip
# Okabe and Ito's colours, which the colour-blind can tell apart; beyond them hatching does.
_COLOURS: Final = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "#555555",
)  # fmt: skip
_HATCHES: Final = ("", "////", "....", "xxxx")
_MOST_RULES: Final = len(_COLOURS) * len(_HATCHES)


def draw(
    path: Path, title: str, policies: Mapping[str, Sequence[BlockEvent]], span: tuple[int, int]
) -> None:
    """Writes the chart as SVG or PNG, by the file's suffix.

    `policies` maps a policy's name to its blocks; `span` is the time of the first and of the last
    attempt in epoch ms. Equal input gives an equal file.
    """
    step, width_ms = _step(span)
    rules = sorted({block.rule for blocks in policies.values() for block in blocks})
    figure = Figure(figsize=(11, 1.6 + 3.2 * len(policies)), layout="constrained")
    grid = figure.subplots(len(policies), 1, sharex=True, sharey=True, squeeze=False)
    figure.suptitle(title, parse_math=False, fontsize=13)
    for axes, (name, blocks) in zip(grid[:, 0], policies.items(), strict=True):
        _bars(axes, blocks, rules, span, width_ms)
        axes.set_title(f"{name}: {len(blocks):,} blocks", loc="left", fontsize=11, parse_math=False)
        axes.set_ylabel(f"blocks a {step}" if step[0].isalpha() else f"blocks in {step}")
    last = grid[-1, 0]
    first_day, last_day = (f"{_EPOCH + timedelta(milliseconds=ms):%Y-%m-%d}" for ms in span)
    days = first_day if first_day == last_day else f"{first_day} to {last_day}"
    last.set_xlabel(f"start of the block (UTC), {days}")
    last.set_xlim(_day(_floor(span[0], width_ms)), _day(_floor(span[1], width_ms) + width_ms))
    last.set_ylim(bottom=0)
    handles = {
        str(label): handle
        for axes in grid[:, 0]
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    # From top to bottom, as the bars are stacked.
    shown = [rule for rule in reversed(rules) if rule in handles]
    if shown:
        figure.legend(
            [handles[rule] for rule in shown], shown, title="rule", loc="outside right upper",
            frameon=False, alignment="left",
        )  # fmt: skip
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else {"Software": None}
    with mpl.rc_context({"svg.hashsalt": "backtest", "hatch.linewidth": 0.6}):
        figure.savefig(path, dpi=150, metadata=metadata)


def _bars(
    axes: Axes,
    blocks: Sequence[BlockEvent],
    rules: Sequence[str],
    span: tuple[int, int],
    width_ms: int,
) -> None:
    first = _floor(span[0], width_ms)
    starts = range(first, span[1] + 1, width_ms)
    below = [0] * len(starts)
    width = timedelta(milliseconds=width_ms) / timedelta(days=1)
    for number, rule in enumerate(rules):
        counts = [0] * len(starts)
        for block in blocks:
            if block.rule == rule:
                counts[min(max(0, (block.since - first) // width_ms), len(starts) - 1)] += 1
        if any(counts):
            axes.bar(
                [_day(start) for start in starts], counts, width=width, align="edge", bottom=below,
                label=rule, color=_COLOURS[number % len(_COLOURS)], edgecolor="white",
                hatch=_HATCHES[number % _MOST_RULES // len(_COLOURS)], linewidth=0.4,
            )  # fmt: skip
        below = [one + other for one, other in zip(below, counts, strict=True)]
    if not blocks:
        axes.text(0.5, 0.5, "no blocks", transform=axes.transAxes, ha="center", va="center")
    axes.xaxis_date("UTC")
    locator = AutoDateLocator(tz=UTC, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC, show_offset=False))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _step(span: tuple[int, int]) -> tuple[str, int]:
    for name, minutes in _STEPS.items():
        if span[1] - span[0] <= _BARS * minutes * _MINUTE_MS:
            return name, minutes * _MINUTE_MS
    width_ms = -(-(span[1] - span[0]) // _BARS)
    days = -(-width_ms // (1_440 * _MINUTE_MS))
    return f"{days} days", days * 1_440 * _MINUTE_MS


def _floor(ms: int, width_ms: int) -> int:
    return ms - ms % width_ms


def _day(ms: int) -> float:
    return float(date2num(_EPOCH + timedelta(milliseconds=ms)))
