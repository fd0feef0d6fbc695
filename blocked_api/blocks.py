"""What a block is to a reader, and how Redis' entries become one. Pure: no clock, no I/O."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from login_blocking import moments
from login_blocking.moments import LATEST_MS
from login_blocking.subjects import Subject

iso = lru_cache(65_536)(moments.iso)
"""The same moments are told again and again."""


class BlocksUnavailableError(Exception):
    """The list could not be read; an empty one in its place would be a lie."""


class ListMissingError(BlocksUnavailableError):
    """Redis is empty, and no detector has reported: nobody knows who is blocked."""


class MalformedEntryError(BlocksUnavailableError):
    """An entry that is none: it must not pass for no block."""


@dataclass(frozen=True, slots=True)
class LiveBlock:
    """One rule's block that has not ended; times in ms since the epoch, `until` None for ever."""

    rule: str
    reason: str
    since: int
    until: int | None
    level: int

    @property
    def end(self) -> float:
        """When it ends, infinite for ever: for comparisons."""
        return math.inf if self.until is None else self.until

    def document(self) -> dict[str, object]:
        """As the calls show it."""
        return {
            "rule": self.rule,
            "reason": self.reason,
            "since": iso(self.since),
            "until": told_until(self),
            "level": self.level,
        }


Blocks = tuple[LiveBlock, ...]
"""The live blocks of one subject, the one that ends last first; never empty on a list."""


def live_blocks(entries: Mapping[str, Any], now: int) -> Blocks:
    """Rule → entry (`login_blocking.blocks.RedisEntry`), as far as they block at `now`.

    A block that ends at this moment has ended. Raises MalformedEntryError.
    """
    try:
        read = [_live_block(rule, entry, now) for rule, entry in entries.items()]
    except (ValueError, TypeError, KeyError) as error:
        raise MalformedEntryError("an entry that is none") from error
    return tuple(sorted((block for block in read if block is not None), key=_latest_end_first))


def live_blocks_of(texts: Mapping[str, bytes], now: int) -> Blocks:
    """The same from entries as JSON."""
    try:
        entries = {rule: orjson.loads(text) for rule, text in texts.items()}
    except ValueError as error:
        raise MalformedEntryError("an entry that is none") from error
    return live_blocks(entries, now)


def summary_of(subject: Subject, blocks: Blocks) -> dict[str, object]:
    """A blocked subject in a line: the block that ends last."""
    last = blocks[0]
    return {
        "subject_type": subject.type,
        "subject": subject.key,
        "blocked_until": told_until(last),
        "rule": last.rule,
        "since": iso(last.since),
        "level": last.level,
    }


def told_until(block: LiveBlock) -> str | None:
    """The end as ISO 8601, None for ever."""
    return None if block.until is None else iso(block.until)


def _latest_end_first(block: LiveBlock) -> tuple[float, str]:
    return (-block.end, block.rule)


def _live_block(rule: str, entry: dict[str, Any], now: int) -> LiveBlock | None:
    until, since, level = entry["until"], entry["since"], entry["level"]
    if entry["unblocked"] or (until is not None and until <= now):
        return None
    if until is not None and until > LATEST_MS:  # without a date: for ever
        until = None
    if not isinstance(since, int) or not isinstance(level, int):
        raise TypeError("since and level are whole numbers")
    return LiveBlock(rule, str(entry["reason"]), since, until, level)
