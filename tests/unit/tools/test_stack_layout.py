import json
import secrets
import socket
from dataclasses import asdict
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


@pytest.mark.enable_socket
def test_free_ports_are_each_given_once_and_no_outgoing_connection_takes_them() -> None:
    several = [port for _ in range(20) for port in asdict(Ports.free()).values()]
    assert len(set(several)) == len(several)
    assert max(several) < 32_768  # where Linux' ephemeral ports begin


@pytest.mark.enable_socket
def test_port_that_somebody_holds_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    held, free = layout.free_port(), layout.free_port()
    offered = iter([held, free])
    monkeypatch.setattr(layout, "_given", set())
    monkeypatch.setattr(layout, "_BELOW_EPHEMERAL", range(65_536))
    monkeypatch.setattr(secrets, "randbelow", lambda _: next(offered))
    with socket.create_server(("127.0.0.1", held)):
        assert layout.free_port() == free
