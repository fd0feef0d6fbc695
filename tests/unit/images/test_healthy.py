import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[3] / "flink_jobs" / "image" / "healthy.py"
JOBMANAGER = b"java\0org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint\0"
TASKMANAGER = b"java\0org.apache.flink.runtime.taskexecutor.TaskManagerRunner\0"
INIT = b"/sbin/docker-init\0--\0/opt/flink/bin/entrypoint.sh\0taskmanager\0"


@pytest.fixture(scope="module")
def healthy() -> ModuleType:
    spec = importlib.util.spec_from_file_location("healthy", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_jobmanager_is_asked_by_its_rest_address(healthy: ModuleType) -> None:
    assert healthy.address([JOBMANAGER], {}) == "http://127.0.0.1:8081/overview"


def test_a_taskmanager_is_asked_by_its_metrics(healthy: ModuleType) -> None:
    assert healthy.address([TASKMANAGER], {}) == "http://127.0.0.1:9249/"


def test_a_taskmanager_is_found_behind_an_init_process(healthy: ModuleType) -> None:
    assert healthy.address([INIT, TASKMANAGER], {}) == "http://127.0.0.1:9249/"


@pytest.mark.parametrize(
    "config",
    [
        {"rest.port": 18081, "metrics.reporter.prom.port": 19249},
        {"rest": {"port": 18081}, "metrics": {"reporter": {"prom": {"port": 19249}}}},
        {"rest": {"port": 18081}, "metrics": {"reporter.prom.port": 19249}},
    ],
    ids=["flat", "nested", "mixed"],
)
def test_ports_are_those_of_the_configuration(healthy: ModuleType, config: dict[str, Any]) -> None:
    assert healthy.address([JOBMANAGER], config) == "http://127.0.0.1:18081/overview"
    assert healthy.address([TASKMANAGER], config) == "http://127.0.0.1:19249/"
