import json
from pathlib import Path

import pytest

from tools.stack import __main__ as command_line
from tools.stack import layout, prepare, processes
from tools.stack.layout import MAX_PARALLELISM, ROOT, Ports

POLICY = ROOT / "policies" / "default.yaml"


def test_new_stack_has_the_chosen_number_of_key_groups(tmp_path: Path) -> None:
    stack = layout.create(tmp_path, Ports(), POLICY)
    assert stack.max_parallelism == MAX_PARALLELISM == layout.load(tmp_path).max_parallelism
    assert prepare._flink(stack)["pipeline.max-parallelism"] == MAX_PARALLELISM


def test_stack_with_state_of_before_goes_on_with_flinks_own_number(tmp_path: Path) -> None:
    layout.create(tmp_path, Ports(), POLICY)
    (tmp_path / "stack.json").write_text(json.dumps({"ports": {"kafka": 1}}))
    assert layout.load(tmp_path).max_parallelism == 128
    assert layout.create(tmp_path, Ports(), POLICY).max_parallelism == 128
    assert layout.load(tmp_path).max_parallelism == 128


def test_flink_tells_no_figures_unless_a_port_is_given(tmp_path: Path) -> None:
    assert Ports().flink_metrics == Ports().flink_taskmanager_metrics == 0
    assert prepare.metrics_options(0) == []
    assert "metrics.reporter.prom.port=9249" in prepare.metrics_options(9249)


@pytest.mark.parametrize("name", Ports.__slots__)
def test_port_that_is_taken_is_told_with_its_own_setting(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = {port: number for number, port in enumerate(Ports.__slots__, start=1)}
    taken = numbers[name]
    monkeypatch.setattr(processes, "holder_of", lambda port: "another" if port == taken else None)

    assert command_line.up(tmp_path, Ports(**numbers), None) == 1

    assert f"STACK_PORT_{name.upper()})" in "".join(capsys.readouterr().out.split())
