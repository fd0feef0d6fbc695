from pathlib import Path

import pytest

from login_blocking.events import BlockEvent, EventKind
from tools import verify_replay
from tools.stack import live

DATA = Path(__file__).parents[2] / "data"
BLOCK = BlockEvent(1, EventKind.BLOCKED, "user", "alice", "user-failures", 1, None, 1, None, "")
LINE = (
    '{"subject_type":"user","subject":"alice","rule":"user-failures","since":1,"until":null,'
    '"level":1}\n'
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "expected").mkdir()
    (tmp_path / "one.ndjson").write_text('{"ts":1,"user":"alice","ip":null,"success":false}\n')
    (tmp_path / "expected/one.seed.ndjson").write_text(LINE)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Its exit status, with a job that makes one block of whatever it is given."""
    monkeypatch.setattr("sys.argv", ["verify_replay", *map(str, arguments)])
    monkeypatch.setattr(live, "load", lambda _state_dir: None)
    monkeypatch.setattr(verify_replay, "replay", lambda *_: [BLOCK])
    return verify_replay.main()


def test_the_shipped_recordings_are_compared() -> None:
    assert [pair.name for pair in verify_replay.pairs(DATA)] == [
        "disorder, seed",
        "elastic_examples_auth, seed",
    ]


@pytest.mark.parametrize(
    "chosen", [["/nonexistent"], [DATA.parent], [DATA, "--set", "x"], [DATA, "--policy", "x"]]
)
def test_nothing_to_compare_is_a_failure_that_tells_the_layout(
    chosen: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *chosen) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"nothing to compare in {chosen[0]}: ")
    assert "expected/SET.POLICY.ndjson" in told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "set another"),
        (["--set", "one", "typo"], "set typo"),
        (["--set", "one", "--policy", "seed", "typo"], "policy typo"),
    ],
)
def test_what_would_be_passed_over_is_a_failure(
    folder: Path,
    options: list[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "another.ndjson").touch()
    assert run(monkeypatch, folder, *options) == 1
    assert capsys.readouterr().err.startswith(f"nothing is expected of {told}: ")


def test_policys_name_may_hold_a_dot(folder: Path) -> None:
    (folder / "expected/one.v1.2.ndjson").touch()
    assert [pair.policy for pair in verify_replay.pairs(folder)] == ["seed", "v1.2"]


def test_help_tells_the_layout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, "--help")
    assert "expected/SET.POLICY.ndjson" in capsys.readouterr().out


@pytest.mark.parametrize(("expected", "verdict"), [(LINE, (0, "equal")), ("", (1, "DIFFERENT"))])
def test_each_pair_has_a_verdict(
    expected: str,
    verdict: tuple[int, str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "expected/one.seed.ndjson").write_text(expected)
    status = run(monkeypatch, folder)
    assert capsys.readouterr().out == f"one, seed: 1 blocks, {verdict[1]}\n"
    assert status == verdict[0]


def test_a_policy_that_stands_nowhere_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "expected/one.mine.ndjson").write_text(LINE)
    assert run(monkeypatch, folder, "--policy", "mine") == 1
    assert "there is no policy mine" in capsys.readouterr().err


def test_the_folders_own_policy_comes_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "policies").mkdir()
    (folder / "policies/mine.json").write_text("{}")
    (folder / "expected/one.mine.ndjson").write_text(LINE)
    assert run(monkeypatch, folder) == 0
    assert capsys.readouterr().out.count("equal") == 2
