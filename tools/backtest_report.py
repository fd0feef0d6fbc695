"""What a policy would have done to recorded attempts: figures, tables, and two policies compared.

Names of users are attackers' own text: they are shown with everything invisible escaped, and
never read as markup.
"""

import unicodedata
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from login_blocking.attempts import Attempt, Outcome
from login_blocking.events import BlockEvent
from login_blocking.policy import duration_text
from login_blocking.subjects import SUBJECT_TYPES, Subject, SubjectType

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_NAME: Final = 60
_NEVER_WRAPPED: Final = ("rule", "since (UTC)", "first (UTC)")
_MOST_LEVELS: Final = 3
_UNIT_NAMES: Final[dict[SubjectType, str]] = {"user": "users", "ip": "addresses"}


@dataclass(frozen=True, slots=True)
class History:
    """The attempts in figures; `span` holds the times of the first and the last, in epoch ms."""

    attempts: int
    users: int
    addresses: int
    failures: int
    successes: int
    span: tuple[int, int]

    @classmethod
    def of(cls, attempts: Sequence[Attempt]) -> "History":
        """The figures of at least one attempt."""
        outcomes = Counter(attempt.outcome for attempt in attempts)
        return cls(
            attempts=len(attempts),
            users=len({attempt.user for attempt in attempts} - {None}),
            addresses=len({attempt.ip for attempt in attempts} - {None}),
            failures=outcomes[Outcome.FAILURE],
            successes=outcomes[Outcome.SUCCESS],
            span=(min(a.ts for a in attempts), max(a.ts for a in attempts)),
        )


@dataclass(frozen=True, slots=True)
class Effect:
    """What one policy's blocks would have done.

    `refused_failures` and `refused_successes` happened while their user or address was blocked:
    after the start of a block, before its end. The latter, of `hurt_users` different users and
    `hurt_addresses` addresses, are honest people locked out, or guesses that were right. That
    the people refused would have tried otherwise is not in a recording.
    """

    blocks: int
    by_rule_and_level: dict[tuple[str, int], int]
    subjects: dict[SubjectType, int]
    subjects_by_rule: dict[str, int]
    for_ever: int
    median_ms: int | None
    refused_failures: int
    refused_successes: int
    hurt_users: int
    hurt_addresses: int
    most_blocked: list[tuple[Subject, int]]

    @classmethod
    def of(cls, attempts: Iterable[Attempt], blocks: Sequence[BlockEvent]) -> "Effect":
        """The effect of the blocks on the attempts from which a policy made them."""
        subjects = Counter(block.about for block in blocks)
        by_rule: dict[str, set[Subject]] = defaultdict(set)
        for block in blocks:
            by_rule[block.rule].add(block.about)
        blocked = _BlockedTimes(blocks)
        refused = [attempt for attempt in attempts if blocked.cover(attempt)]
        hurt = [attempt for attempt in refused if attempt.outcome is Outcome.SUCCESS]
        lengths = sorted(block.until - block.since for block in blocks if block.until is not None)
        return cls(
            blocks=len(blocks),
            by_rule_and_level=dict(Counter((block.rule, block.level) for block in blocks)),
            subjects={kind: sum(s.type == kind for s in subjects) for kind in SUBJECT_TYPES},
            subjects_by_rule={rule: len(members) for rule, members in by_rule.items()},
            for_ever=len(blocks) - len(lengths),
            median_ms=lengths[(len(lengths) - 1) // 2] if lengths else None,
            refused_failures=sum(attempt.outcome is Outcome.FAILURE for attempt in refused),
            refused_successes=len(hurt),
            hurt_users=len({attempt.user for attempt in hurt} - {None}),
            hurt_addresses=len({attempt.ip for attempt in hurt} - {None}),
            most_blocked=sorted(subjects.items(), key=lambda pair: (-pair[1], pair[0])),
        )

    def blocks_by(self, rule: str) -> int:
        """How many of the blocks are by that rule."""
        return sum(n for (name, _), n in self.by_rule_and_level.items() if name == rule)


@dataclass(frozen=True, slots=True)
class Tried:
    """A policy by its name, the blocks that it would have made, and their effect."""

    name: str
    blocks: list[BlockEvent]
    effect: Effect


@dataclass(frozen=True, slots=True)
class Change:
    """A subject that one of two policies blocks by a rule, and the other does not.

    `otherwise` holds the rules by which that other policy blocks it none the less.
    """

    subject: Subject
    rule: str
    blocks: list[BlockEvent]
    otherwise: list[str]


def changes(before: Iterable[BlockEvent], after: Iterable[BlockEvent]) -> list[Change]:
    """Who is newly blocked `after`, by which rule; swapped arguments give who no longer is."""
    old: dict[Subject, set[str]] = defaultdict(set)
    for block in before:
        old[block.about].add(block.rule)
    new: dict[tuple[Subject, str], list[BlockEvent]] = defaultdict(list)
    for block in after:
        if block.rule not in old.get(block.about, ()):
            new[block.about, block.rule].append(block)
    found = [
        Change(subject, rule, sorted(blocks, key=lambda b: b.since), sorted(old.get(subject, ())))
        for (subject, rule), blocks in new.items()
    ]
    return sorted(found, key=lambda change: (change.blocks[0].since, change.subject, change.rule))


def print_history(console: Console, history: History) -> None:
    """The attempts, in two lines."""
    first, last = history.span
    console.print(
        f"Attempts: {history.attempts:,} ({history.failures:,} failures, {history.successes:,}"
        f" successes) by {history.users:,} users from {history.addresses:,} addresses"
    )
    console.print(f"Span: {time_text(first)} to {time_text(last)} UTC, {length_text(last - first)}")


def print_effect(console: Console, history: History, tried: Tried, rows: int) -> None:
    """One policy's summary and its blocks, at most `rows` of a table."""
    effect = tried.effect
    console.print()
    console.print(Text(f"Policy {shown(tried.name)}", style="bold"))
    if not tried.blocks:
        console.print("It would have blocked nobody.")
        return
    subjects = " and ".join(f"{effect.subjects[k]:,} {_UNIT_NAMES[k]}" for k in SUBJECT_TYPES)
    console.print(f"Blocks: {effect.blocks:,}, of {subjects}{_lengths(effect)}")
    console.print(f"Failures refused: {_share(effect.refused_failures, history.failures)}")
    console.print(f"Successes refused: {_share(effect.refused_successes, history.successes)}")
    if effect.refused_successes:
        console.print(
            f"  Users: {effect.hurt_users:,}, addresses: {effect.hurt_addresses:,}; honest people,"
            " or guesses that were right"
        )
    console.print(_rules_table(effect))
    most = [(subject, times) for subject, times in effect.most_blocked[:5] if times > 1]
    if most:
        told = ", ".join(f"{subject_text(subject)} ({times})" for subject, times in most)
        console.print(Text(f"Blocked most often: {told}"))
    console.print(_blocks_table(tried.blocks, rows))


def print_comparison(console: Console, before: Tried, after: Tried, rows: int) -> None:
    """What the second of two policies changes against the first."""
    newly = changes(before.blocks, after.blocks)
    no_longer = changes(after.blocks, before.blocks)
    console.print()
    console.print(Text(f"{shown(after.name)} against {shown(before.name)}", style="bold"))
    console.print(_counts_table(before, after))
    console.print(_changes_table("Newly blocked", newly, before.name, rows))
    console.print(_changes_table("No longer blocked", no_longer, after.name, rows))


def shown(text: str) -> str:
    """Text of others fit to be shown on one line: invisible characters escaped, not too long."""
    escaped = "".join(
        character
        if character == " " or unicodedata.category(character)[0] not in "CZ"
        else character.encode("unicode_escape").decode()
        for character in text[: _LONGEST_NAME + 1]
    )
    return escaped if len(escaped) <= _LONGEST_NAME else f"{escaped[: _LONGEST_NAME - 1]}…"


def subject_text(subject: Subject) -> str:
    """A subject for people."""
    return f"{subject.type} {shown(subject.key)}"


def time_text(ms: int) -> str:
    """A moment in UTC; with ms only where there are some."""
    moment = _EPOCH + timedelta(milliseconds=ms)
    form = "%Y-%m-%d %H:%M:%S"
    return f"{moment:{form}}.{ms % 1_000:03d}" if ms % 1_000 else f"{moment:{form}}"


def length_text(ms: int) -> str:
    """A length of time for people, rounded."""
    for size, unit in ((86_400_000, "days"), (3_600_000, "hours"), (60_000, "minutes")):
        if ms >= 2 * size:
            return f"{ms / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{ms / 1_000:g} s"


class _BlockedTimes:
    """When each subject was blocked, by whichever rule."""

    def __init__(self, blocks: Iterable[BlockEvent]) -> None:
        self._since: dict[Subject, list[int]] = defaultdict(list)
        self._until: dict[Subject, list[float]] = defaultdict(list)
        for block in sorted(blocks, key=lambda b: b.since):
            until = float("inf") if block.until is None else block.until
            ends = self._until[block.about]
            self._since[block.about].append(block.since)
            ends.append(max(until, ends[-1]) if ends else until)

    def cover(self, attempt: Attempt) -> bool:
        """Whether the attempt came after the start and before the end of a block."""
        return (attempt.user is not None and self._covers(("user", attempt.user), attempt.ts)) or (
            attempt.ip is not None and self._covers(("ip", attempt.ip), attempt.ts)
        )

    def _covers(self, named: tuple[SubjectType, str], ts: int) -> bool:
        subject = Subject(*named)
        begun = bisect_left(self._since.get(subject, ()), ts)
        return begun > 0 and ts < self._until[subject][begun - 1]


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}" + (f" ({100 * part / whole:.1f} %)" if whole else "")


def _lengths(effect: Effect) -> str:
    parts = [f"; {effect.for_ever:,} for ever"] if effect.for_ever else []
    if effect.median_ms is not None:
        others = " of the others" if effect.for_ever else ""
        parts.append(f"; median length{others} {duration_text(effect.median_ms)}")
    return "".join(parts)


def _table(title: str, *columns: str, numbers: int = 0) -> Table:
    """A table whose last `numbers` columns are figures."""
    table = Table(title=Text(title), title_justify="left", title_style="bold", box=SIMPLE)
    for place, column in enumerate(columns):
        number = place >= len(columns) - numbers
        table.add_column(
            Text(column), justify="right" if number else "left", overflow="fold",
            no_wrap=number or column in _NEVER_WRAPPED,
        )  # fmt: skip
    return table


def _rules_table(effect: Effect) -> Table:
    levels = sorted({level for _, level in effect.by_rule_and_level})
    single, higher = levels[:_MOST_LEVELS], levels[_MOST_LEVELS:]
    headings = [f"level {level}" for level in single] + (["above"] if higher else [])
    table = _table("Rules", "rule", "subjects", "blocks", *headings, numbers=2 + len(headings))
    for rule in sorted(effect.subjects_by_rule):
        counts = [effect.by_rule_and_level.get((rule, level), 0) for level in levels]
        cells = counts[:_MOST_LEVELS] + ([sum(counts[_MOST_LEVELS:])] if higher else [])
        figures = (effect.subjects_by_rule[rule], sum(counts), *cells)
        table.add_row(rule, *(f"{figure:,}" for figure in figures))
    return table


def _blocks_table(blocks: Sequence[BlockEvent], rows: int) -> Table:
    ordered = sorted(blocks, key=lambda b: (b.since, b.subject_type, b.subject, b.rule))
    table = _table("Blocks", "since (UTC)", "subject", "rule", "level", "length", numbers=2)
    for block in ordered[:rows]:
        table.add_row(
            time_text(block.since), Text(subject_text(block.about)), block.rule, str(block.level),
            "for ever" if block.until is None else duration_text(block.until - block.since),
        )  # fmt: skip
    return _with_rest(table, len(ordered) - rows)


def _counts_table(before: Tried, after: Tried) -> Table:
    table = _table("Counts", "", shown(before.name), shown(after.name), "change", numbers=3)

    old, new = before.effect, after.effect
    rules = sorted({*old.subjects_by_rule, *new.subjects_by_rule})
    figures = [
        *((f"blocks by {rule}", old.blocks_by(rule), new.blocks_by(rule)) for rule in rules),
        ("blocks", old.blocks, new.blocks),
        ("users blocked", old.subjects["user"], new.subjects["user"]),
        ("addresses blocked", old.subjects["ip"], new.subjects["ip"]),
        ("failures refused", old.refused_failures, new.refused_failures),
        ("successes refused", old.refused_successes, new.refused_successes),
        ("users whose successes were refused", old.hurt_users, new.hurt_users),
    ]
    for label, one, other in figures:
        table.add_row(label, f"{one:,}", f"{other:,}", f"{other - one:+,}" if one != other else "")
    return table


def _changes_table(title: str, found: Sequence[Change], other: str, rows: int) -> Table | Text:
    if not found:
        return Text(f"{title}: nobody, by any rule\n", style="bold")
    wholly = len({change.subject for change in found if not change.otherwise})
    table = _table(
        f"{title}, by subject and rule: {len(found):,}; {shown(other)} has no block at all of"
        f" {wholly:,} subjects",
        "first (UTC)", "subject", "rule", "otherwise by", "blocks", numbers=1,
    )  # fmt: skip
    for change in found[:rows]:
        table.add_row(
            time_text(change.blocks[0].since), Text(subject_text(change.subject)), change.rule,
            ", ".join(change.otherwise), f"{len(change.blocks):,}",
        )  # fmt: skip
    return _with_rest(table, len(found) - rows)


def _with_rest(table: Table, left_out: int) -> Table:
    if left_out > 0:
        table.caption = f"and {left_out:,} more (--rows 100 shows more; make: OPTIONS='--rows 100')"
        table.caption_justify = "left"
    return table
