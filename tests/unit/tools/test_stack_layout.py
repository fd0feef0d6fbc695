import json
import os
import secrets
import socket
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

from tools.stack import __main__ as command_line
from tools.stack import job, layout, live, prepare, processes
from tools.stack.layout import (
    DEFAULT_STATE_DIR,
    MAX_PARALLELISM,
    ROOT,
    NoStackError,
    Ports,
    WrongPortError,
)

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


def test_stack_keeps_its_ports_but_for_those_that_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout.create(tmp_path, Ports(redis=7001, flink=7002), POLICY)
    monkeypatch.setenv("STACK_PORT_FLINK", "7003")

    assert command_line._ports(tmp_path) == Ports(redis=7001, flink=7003)
    assert command_line._ports(tmp_path / "new") == Ports(flink=7003)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"STACK_PORT_REDIS": "abc"}, "STACK_PORT_REDIS=abc: no port"),
        ({"STACK_PORT_REDIS": "65536"}, "STACK_PORT_REDIS=65536: no port"),
        ({"STACK_PORT_REDIS": "0"}, "STACK_PORT_REDIS=0: no port"),
        ({"STACK_PORT_REDIS": "-1"}, "STACK_PORT_REDIS=-1: no port"),
        (
            {"STACK_PORT_REDIS": "7", "STACK_PORT_KAFKA": "7"},
            "STACK_PORT_KAFKA and STACK_PORT_REDIS are both 7",
        ),
        ({"STACK_PORT_REDIS": "3000"}, "STACK_PORT_LOGIN_API and STACK_PORT_REDIS are both 3000"),
    ],
)
def test_port_that_cannot_be_is_told_by_its_setting(
    given: dict[str, str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(WrongPortError, match=told):
        Ports.chosen()
    monkeypatch.setattr("sys.argv", ["stack", "--state-dir", str(tmp_path), "up"])

    assert command_line.main() == 1

    assert told in " ".join(capsys.readouterr().out.split())


def test_figures_of_flink_may_have_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACK_PORT_FLINK_METRICS", "0")
    assert Ports.chosen() == Ports()


def test_stack_that_is_down_is_not_worked_on(tmp_path: Path) -> None:
    """By its ports another one may run, which would be meant."""
    with pytest.raises(NoStackError, match=f"no stack in {tmp_path}; .*: make up STATE={tmp_path}"):
        live.load(tmp_path)
    layout.create(tmp_path, Ports(), POLICY)
    with pytest.raises(NoStackError, match=f"is down; start it: make up STATE={tmp_path}"):
        live.load(tmp_path)

    mine = processes.identity(os.getpid())
    (tmp_path / "state.json").write_text(json.dumps({"supervisor": mine}))
    assert live.load(tmp_path).state_dir == tmp_path


def test_command_for_the_usual_stack_names_no_folder() -> None:
    assert layout.make("up", DEFAULT_STATE_DIR) == "make up"


@pytest.mark.parametrize(
    ("target", "others"),
    [
        *[(it, []) for it in ("up", "down", "status", "logs", "demo", "upgrade", "submit")],
        *[(it, []) for it in ("savepoint", "rebuild-redis", "verify-replay", "bench-sizes")],
        *[(f"bench-{it}", []) for it in ("throughput", "latency", "burst", "outage", "upgrade")],
        *[(f"bench-{it}", []) for it in ("refusal", "logins")],
        ("replay", ["DATA=some"]),
        ("backup", ["TO=there"]),
        ("restore", ["FROM=there"]),
    ],
)
def test_command_works_on_the_stack_that_is_named(target: str, others: list[str]) -> None:
    told = subprocess.run(
        ["make", "--dry-run", target, "STATE=/another", *others],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "--state-dir /another" in told


@pytest.mark.parametrize("target", ["upgrade", "submit", "savepoint"])
def test_another_cluster_is_named_on_the_command_line_and_nowhere_else(target: str) -> None:
    def told(*arguments: str, **environment: str) -> str:
        return subprocess.run(
            ["make", "--dry-run", target, *arguments],
            cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ | environment,
        ).stdout  # fmt: skip

    assert f"FLINK_URL=http://there .local/venv/bin/python -m flink_control {target}" in told(
        "FLINK=http://there"
    )
    assert "flink_control" not in told(FLINK="http://there")  # the runbook's variable


def test_fuzzing_is_of_the_stack_that_is_named() -> None:
    told = subprocess.run(
        ["make", "--dry-run", "fuzz", "STATE=/another"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert told.count("layout.load(Path('/another'))") == 3


def test_status_of_no_stack_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["stack", "--state-dir", str(tmp_path), "status"])
    assert command_line.main() == 3
    assert f"make up STATE={tmp_path}\n" in capsys.readouterr().out  # in one line, to be copied


@pytest.mark.parametrize(
    ("state", "told"),
    [("restarting", "refused: [pekko.tcp://…] why"), ("done", "job 1f running")],
)
def test_status_tells_of_the_job_whole(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    state: str,
    told: str,
) -> None:
    stack = layout.create(tmp_path, Ports(), POLICY)
    monkeypatch.setattr(job, "health", lambda _: (True, "job 1f running"))
    detail = "refused: [pekko.tcp://…] why"
    part = {"port": None, "detail": detail, "state": state, "restarts": 1, "identity": None}

    command_line._show(stack, {"parts": {"block-detector": part}})

    assert f"block-detector: {told}\n" in capsys.readouterr().out
