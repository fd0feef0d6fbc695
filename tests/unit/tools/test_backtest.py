import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from login_blocking.attempts import Attempt
from login_blocking.events import BlockEvent, EventKind
from tools import backtest

DATA = Path(__file__).parents[2] / "data"
SET = str(DATA / "elastic_examples_auth.ndjson.gz")


def expected_blocks(_attempts: list[Attempt], policy_text: str) -> list[BlockEvent]:
    """A stand-in for the job: the expected blocks, or one other under another policy."""
    if "user-failures" not in policy_text:
        return [BlockEvent(1, EventKind.BLOCKED, "ip", "198.19.0.1", "x", 1, 2, 1, None, "")]
    lines = (DATA / "expected" / "elastic_examples_auth.seed.ndjson").read_text().splitlines()
    events = []
    for row in map(json.loads, lines):
        event = BlockEvent(
            row["since"], EventKind.BLOCKED, row["subject_type"], row["subject"], row["rule"],
            row["since"], row["until"], row["level"], None, "",
        )  # fmt: skip
        events.append(event)
    expired = BlockEvent(5, EventKind.EXPIRED, "user", "root", "r", 1, 5, 1, None, "")
    return [*reversed(events), expired]


def never(_attempts: list[Attempt], _policy_text: str) -> list[BlockEvent]:
    pytest.fail("judged although something was wrong")


@pytest.fixture
def other_policy(tmp_path: Path) -> Path:
    path = tmp_path / "seed.yaml"
    text = (DATA.parents[1] / "policies" / "seed.yaml").read_text().replace("user-failures", "x")
    path.write_text(text)
    return path


def test_out_holds_the_blocks_in_the_form_of_the_expected_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "blocks.ndjson"

    status = backtest.main([SET, "--policy", "seed", "--out", str(out)], expected_blocks)

    assert status == 0
    assert out.read_text() == (DATA / "expected/elastic_examples_auth.seed.ndjson").read_text()
    text = capsys.readouterr().out
    assert "Attempts: 1,264 (1,038 failures, 226 successes)" in text
    assert "Blocks: 20, of 20 users and 0 addresses; 20 for ever" in text


def test_two_policies_are_compared_and_drawn(
    tmp_path: Path, other_policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chart = tmp_path / "chart.svg"
    arguments = [SET, "--policy", str(other_policy), "--against", "seed", "--chart", str(chart)]

    assert backtest.main(arguments, expected_blocks) == 0

    text = capsys.readouterr().out
    assert f"{str(other_policy)[-40:]} against seed" in text
    assert "Newly blocked, by subject and rule: 1" in text
    assert "No longer blocked, by subject and rule: 20" in text
    assert b"<svg" in chart.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["no-such-file", "--policy", "seed"], "there is no file no-such-file"),
        ([SET, "--policy", "no-such-policy"], "no-such-policy"),
        ([SET, "--policy", "seed", "--against", "no-such-policy"], "no-such-policy"),
        ([SET, "--policy", "seed", "--out", "/no/folder/x"], "there is no folder /no/folder"),
        ([SET, "--policy", "seed", "--chart", "/no/folder/x.svg"], "there is no folder"),
        ([SET, "--policy", "seed", "--format", "auth-log"], "no login attempts (auth-log)"),
        ([SET, "--policy", "seed", "--format", "access-log"], "POSTs to /login (--login-path"),
        ([SET, "--policy", "seed", "--format", "csv"], "line 1: no column for"),
        ([str(DATA / "README.md"), "--policy", "seed"], "none of the known formats"),
        ([str(DATA), "--policy", "seed"], "data cannot be read: Is a directory"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_judged(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert backtest.main(arguments, never) == 1

    assert reason in capsys.readouterr().err.replace("\n", " ")


def test_wrong_policy_is_named_with_every_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = tmp_path / "bad.yaml"
    policy.write_text("rules: []\nextra: 1\n")

    assert backtest.main([SET, "--policy", str(policy)], never) == 1

    text = capsys.readouterr().err
    assert text.count("bad.yaml") >= 2


@pytest.mark.parametrize(
    "option",
    [
        ["--chart", "chart.pdf"],
        ["--format", "xml"],
        ["--timezone", "Nowhere/Land"],
        ["--timezone", "../../etc/passwd"],
        ["--columns", "when=time"],
        ["--columns", "ts"],
        ["--failure-status", "4xx"],
        ["--rows", "-1"],
        ["--year", "soon"],
    ],
)
def test_wrong_usage_ends_with_2(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        backtest.main([SET, "--policy", "seed", *option], never)

    assert ended.value.code == 2
    assert option[0] in capsys.readouterr().err


def test_options_reach_the_reader(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "a.csv"
    data.write_text("when,who,won\n2024-07-01 12:00:00,alice,yes\n")
    options = ["--columns", "ts=when,user=who,success=won", "--timezone", "Europe/Berlin"]

    assert backtest.main(
        [str(data), "--policy", "seed", "--format", "csv", *options], lambda _attempts, _text: []
    ) == 0  # fmt: skip

    text = capsys.readouterr().out
    assert "Span: 2024-07-01 10:00:00" in text
    assert "It would have blocked nobody." in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_says_so_and_ends_with_130(
    number: signal.Signals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_attempts: list[Attempt], _policy_text: str) -> list[BlockEvent]:
        signal.raise_signal(number)
        return []

    # An import that is cut off, say, ends in an error of its own.
    def cut_off(attempts: list[Attempt], policy_text: str) -> list[BlockEvent]:
        try:
            return interrupted(attempts, policy_text)
        except KeyboardInterrupt as error:
            raise AttributeError("partially initialized") from error

    before: Callable[..., object] | int | None = signal.getsignal(signal.SIGTERM)
    out = tmp_path / "out"

    for judge in (interrupted, cut_off):
        assert backtest.main([SET, "--policy", "seed", "--out", str(out)], judge) == 130

    assert capsys.readouterr().err.count("Interrupted.") == 2
    assert not out.exists()
    assert signal.getsignal(signal.SIGTERM) == before


def test_error_of_the_judge_is_not_hidden() -> None:
    def broken(_attempts: list[Attempt], _policy_text: str) -> list[BlockEvent]:
        raise AttributeError("a bug")

    with pytest.raises(AttributeError, match="a bug"):
        backtest.main([SET, "--policy", "seed"], broken)
