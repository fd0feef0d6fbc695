"""Ctrl-C in an upgrade: between the job and the guard there would be two policies."""

import os
import signal
from pathlib import Path

import pytest

from tools import upgrade
from tools.stack import layout, live
from tools.stack.layout import ROOT, Ports, Stack

POLICY = ROOT / "policies" / "default.yaml"


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    stack = layout.create(tmp_path, Ports(), POLICY)
    monkeypatch.setattr(live, "load", lambda _: stack)
    arguments = ["upgrade", "--policy", "strict", "--state-dir", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    return stack


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


def test_second_ctrl_c_leaves_it_and_says_how_to_go_on(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[str] = []
    interrupted(2, monkeypatch, done)

    assert upgrade.main() == 130

    assert done == []
    told = capsys.readouterr().err
    assert f"make upgrade STATE={stack.state_dir} brings them together" in told
