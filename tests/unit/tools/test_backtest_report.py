import io
from pathlib import Path

import pytest
from rich.console import Console

from login_blocking.attempts import Attempt, Outcome
from login_blocking.events import BlockEvent, EventKind
from login_blocking.subjects import Subject, SubjectType
from tools.backtest_chart import draw
from tools.backtest_report import (
    Effect,
    History,
    Tried,
    changes,
    length_text,
    print_comparison,
    print_effect,
    print_history,
    shown,
    time_text,
)

T0 = 1_760_000_000_000
HOSTILE = "x\x1b[31m[bold]\u202eevil\n[/]"


def attempt(ts: int, user: str | None, ip: str | None, outcome: Outcome) -> Attempt:
    return Attempt(f"{ts}-{user}-{ip}", ts, user, ip, outcome)


def failure(ts: int, user: str | None = None, ip: str | None = None) -> Attempt:
    return attempt(ts, user, ip, Outcome.FAILURE)


def success(ts: int, user: str | None = None, ip: str | None = None) -> Attempt:
    return attempt(ts, user, ip, Outcome.SUCCESS)


def block(
    since: int, until: int | None, subject: str = "alice", rule: str = "r", level: int = 1
) -> BlockEvent:
    kind: SubjectType = "ip" if "." in subject else "user"
    return BlockEvent(
        since, EventKind.BLOCKED, kind, subject, rule, since, until, level, None, "why"
    )


def printed(*blocks: BlockEvent, attempts: list[Attempt], rows: int = 9) -> str:
    console = Console(file=io.StringIO(), width=110, force_terminal=False)
    history = History.of(attempts)
    print_history(console, history)
    tried = Tried("mine", list(blocks), Effect.of(attempts, blocks))
    print_effect(console, history, tried, rows)
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


def test_history_in_figures() -> None:
    attempts = [failure(9, "a", "1.1.1.1"), success(3, "a"), failure(5, None, "1.1.1.2")]

    assert History.of(attempts) == History(3, 1, 2, 2, 1, (3, 9))


@pytest.mark.parametrize(("ts", "refused"), [(99, 0), (100, 0), (101, 1), (199, 1), (200, 0)])
def test_success_is_refused_after_the_start_and_before_the_end(ts: int, refused: int) -> None:
    assert Effect.of([success(ts, "alice")], [block(100, 200)]).refused_successes == refused


def test_success_is_refused_by_the_block_of_its_address_and_counts_once() -> None:
    blocks = [block(100, None, "1.1.1.1"), block(100, 150, "alice")]

    effect = Effect.of([success(120, "alice", "1.1.1.1"), success(9**9, "bob", "1.1.1.1")], blocks)

    assert (effect.refused_successes, effect.hurt_users, effect.hurt_addresses) == (2, 2, 1)


def test_short_block_inside_a_long_one_does_not_end_it() -> None:
    blocks = [block(100, 900, rule="long"), block(200, 300, rule="short")]

    assert Effect.of([failure(500, "alice")], blocks).refused_failures == 1


def test_user_and_address_of_one_spelling_are_two_subjects() -> None:
    effect = Effect.of([success(150, "1.1.1.1", "2.2.2.2")], [block(100, 200, "1.1.1.1")])

    assert effect.refused_successes == 0


def test_blocks_are_counted_by_rule_level_and_subject() -> None:
    blocks = [block(1, 5), block(9, 19, level=2), block(1, None, "1.1.1.1", rule="s")]

    effect = Effect.of([], blocks)

    assert effect.by_rule_and_level == {("r", 1): 1, ("r", 2): 1, ("s", 1): 1}
    assert effect.subjects_by_rule == {"r": 1, "s": 1}
    assert effect.subjects == {"user": 1, "ip": 1}
    assert (effect.blocks, effect.blocks_by("r")) == (3, 2)
    assert (effect.for_ever, effect.median_ms) == (1, 4)
    assert effect.most_blocked[0] == (Subject("user", "alice"), 2)


def test_changes_tell_subject_rule_and_by_what_it_is_blocked_otherwise() -> None:
    before = [block(1, 2), block(1, 2, "bob")]
    after = [block(7, 8, rule="s"), block(5, 6, rule="s"), block(1, 2, "bob"), block(9, 10, "eve")]

    newly, gone = changes(before, after), changes(after, before)

    assert [(c.subject.key, c.rule, len(c.blocks), c.otherwise) for c in newly] == [
        ("alice", "s", 2, ["r"]),
        ("eve", "r", 1, []),
    ]
    assert newly[0].blocks[0].since == 5
    assert [(c.subject.key, c.rule, c.otherwise) for c in gone] == [("alice", "r", ["s"])]


def test_hostile_names_are_shown_escaped_and_never_as_markup() -> None:
    text = printed(block(T0, None, HOSTILE), block(T0, None, HOSTILE), attempts=[failure(T0, "a")])

    assert r"x\x1b[31m[bold]\u202eevil\n[/]" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_long_name_is_cut() -> None:
    assert shown("a" * 60) == "a" * 60
    assert shown("a" * 61) == "a" * 59 + "…"
    assert len(shown("\x00" * 10_000)) == 60


def test_report_tells_the_figures_and_each_block() -> None:
    text = printed(
        block(T0 + 1, T0 + 900_001),
        block(T0 + 5_000, None, "192.0.2.1", rule="s", level=7),
        attempts=[failure(T0), success(T0 + 60_000, "alice"), success(T0 + 60_000, "bob")],
    )

    for part in (
        "Attempts: 3 (1 failures, 2 successes) by 2 users from 0 addresses",
        "2025-10-09 08:53:20 to 2025-10-09 08:54:20 UTC, 60 s",
        "Blocks: 2, of 1 users and 1 addresses; 1 for ever; median length of the others 15m",
        "Successes refused: 1 of 2 (50.0 %)",
        "2025-10-09 08:53:20.001   user alice",
        "ip 192.0.2.1",
        "for ever",
    ):
        assert part in text


def test_rows_left_out_are_told() -> None:
    text = printed(
        *(block(T0 + n, None, f"u{n}") for n in range(5)), attempts=[failure(T0)], rows=2
    )

    told = " ".join(text.split())  # as narrow as its table
    assert "and 3 more (--rows 100 shows more; make: OPTIONS='--rows 100')" in told
    assert "user u1" in text
    assert "user u2" not in text.partition("Blocks ")[2].partition("and 3")[0]


def test_nobody_blocked_is_said() -> None:
    assert "It would have blocked nobody." in printed(attempts=[failure(T0)])


def test_comparison_tells_who_is_newly_blocked_and_who_no_longer() -> None:
    console = Console(file=io.StringIO(), width=110)
    attempts = [success(T0 + 5, "alice")]
    before = [block(T0, None, "alice")]
    after = [block(T0, None, "bob"), block(T0, None, "carol")]

    print_comparison(
        console,
        Tried("old", before, Effect.of(attempts, before)),
        Tried("new", after, Effect.of(attempts, after)),
        1,
    )

    output = console.file
    assert isinstance(output, io.StringIO)
    text = output.getvalue()
    newly, _, gone = text.partition("No longer blocked")
    assert "user bob" in newly
    assert "and 1 more" in newly
    assert "user alice" in gone
    assert any(line.split() == ["blocks", "1", "2", "+1"] for line in newly.splitlines())


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0 s"), (1_500, "1.5 s"), (120_000, "2 minutes"), (86_400_000, "24 hours"),
     (9 * 86_400_000, "9 days")],
)  # fmt: skip
def test_length_for_people(ms: int, text: str) -> None:
    assert length_text(ms) == text


def test_time_shows_milliseconds_only_where_there_are_some() -> None:
    assert time_text(T0) == "2025-10-09 08:53:20"
    assert time_text(T0 + 7) == "2025-10-09 08:53:20.007"


@pytest.mark.parametrize("suffix", ["svg", "png", "SVG"])
def test_chart_is_the_same_for_the_same_blocks(tmp_path: Path, suffix: str) -> None:
    blocks = [block(T0 + n * 3_600_000, None, rule=f"rule-{n % 3}") for n in range(50)]
    files = [tmp_path / f"{name}.{suffix}" for name in "ab"]

    for file in files:
        draw(file, "Blocks in $x^", {"one": blocks, "none": []}, (T0, T0 + 86_400_000 * 9))

    first, second = (file.read_bytes() for file in files)
    assert first == second
    assert first.startswith(b"\x89PNG" if suffix == "png" else b"<?xml")


@pytest.mark.parametrize("span_ms", [0, 1, 59_999, 3_600_000, 86_400_000 * 365 * 20])
def test_chart_of_any_span(tmp_path: Path, span_ms: int) -> None:
    blocks = [block(T0, None, rule=f"r{n}") for n in range(40)] + [block(T0 + span_ms, None)]

    draw(tmp_path / "a.svg", "t", {"p": blocks}, (T0, T0 + span_ms))

    assert (tmp_path / "a.svg").stat().st_size > 1_000
