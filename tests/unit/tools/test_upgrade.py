"""Ctrl-C in an upgrade: between the job and the guard there would be two policies."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from flink_control import live_job
from flink_control.live_job import Submitted
from tools import submit, upgrade
from tools.stack import job, layout, live
from tools.stack.layout import ROOT, Ports, Stack

POLICY = ROOT / "policies" / "default.yaml"


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    stack = layout.create(tmp_path, Ports(), POLICY)
    monkeypatch.setattr(live, "load", lambda _: stack)
    arguments = ["upgrade", "--policy", "strict", "--state-dir", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    return stack


@pytest.fixture(autouse=True)
def _ctrl_c_as_in_a_terminal() -> Iterator[None]:
    """In a shell's background, as where CI may run, it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted(times: int, monkeypatch: pytest.MonkeyPatch, done: list[str]) -> None:
    def slow(*_: object) -> float:
        for _interrupt in range(times):
            os.kill(os.getpid(), signal.SIGINT)
        done.append("upgraded")
        return 2.5

    monkeypatch.setattr(upgrade, "upgrade", slow)


def test_first_ctrl_c_lets_it_end(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[str] = []
    interrupted(1, monkeypatch, done)

    assert upgrade.main() == 0

    assert done == ["upgraded"]
    told = capsys.readouterr()
    assert "It ends in a moment" in told.err
    assert "after a pause of 2.5 s" in told.out
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_that_is_ignored_stays_so(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted(2, monkeypatch, [])
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    assert upgrade.main() == 0

    assert capsys.readouterr().err == ""
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_second_ctrl_c_leaves_it_and_says_how_to_go_on(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[str] = []
    interrupted(2, monkeypatch, done)

    assert upgrade.main() == 130

    assert done == []
    told = capsys.readouterr().err
    assert f"make upgrade STATE={stack.state_dir} brings them together" in told


def test_where_no_job_ran_there_was_no_pause(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live_job, "only", lambda _: None)
    monkeypatch.setattr(job, "ensure", lambda _: "job 1")

    assert upgrade.main() == 0

    assert capsys.readouterr().out.splitlines()[-1].endswith("policies/strict.yaml.")
    assert "threshold: 3" in stack.policy_file.read_text()


def submitted(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, options: list[str], *, fresh: bool
) -> None:
    monkeypatch.setattr(job, "submit", lambda *_, **__: Submitted("1", "file:/s", fresh=fresh))
    monkeypatch.setattr("sys.argv", ["submit", "--state-dir", str(stack.state_dir), *options])
    assert submit.main() == 0


def test_submission_tells_what_it_began_from_and_by_which_policy(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    submitted(stack, monkeypatch, ["--policy", "strict"], fresh=True)

    told = capsys.readouterr().out
    assert told.startswith("job 1 runs, from file:/s, and judges by ")
    assert told.endswith("policies/strict.yaml\n")
    assert "threshold: 3" in stack.policy_file.read_text()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "job 1 already runs\n"),
        (["--policy", "strict"], "its policy stays, another one: make upgrade STATE="),
        (["--from", "file:/s"], "what it was to begin from is not heeded"),
        (["--fresh"], "what it was to begin from is not heeded"),
    ],
)
def test_submission_beside_a_job_that_runs_tells_what_was_not_heeded(
    stack: Stack,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    told: str,
) -> None:
    submitted(stack, monkeypatch, options, fresh=False)

    assert told in capsys.readouterr().out
    assert stack.policy_file.read_text() == POLICY.read_text()


def test_interrupted_submission_says_how_to_go_on(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def slow(*_: object, **__: object) -> None:
        for _interrupt in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(job, "submit", slow)
    monkeypatch.setattr("sys.argv", ["submit", "--state-dir", str(stack.state_dir)])

    assert submit.main() == 130

    assert f"make upgrade STATE={stack.state_dir}" in capsys.readouterr().err
