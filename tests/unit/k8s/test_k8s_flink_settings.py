"""Flink's settings, asked of Flink itself: its CRD and its YAML take any key and any value."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tools.k8s.manifests import K8S, Manifest, mebibytes, pods
from tools.stack import binaries
from tools.stack.layout import ROOT

Rendered = Callable[[str], list[Manifest]]

CHECKER: Final = ROOT / "tools" / "k8s" / "FlinkSettings.java"
SESSION: Final = K8S / "components" / "flink-session" / "files" / "config.yaml"
COMPOSE: Final = ROOT / "deploy" / "flink" / "config.yaml"
OPERATORS: Final = frozenset({
    "job.autoscaler.enabled",
    "job.autoscaler.utilization.target",
    "job.autoscaler.metrics.window",
    "job.autoscaler.stabilization.interval",
    "job.autoscaler.restart.time",
    "job.autoscaler.catch-up.duration",
    "job.autoscaler.vertex.max-parallelism",
    "kubernetes.operator.savepoint.history.max.age",
    "kubernetes.operator.periodic.savepoint.interval",
    "kubernetes.operator.job.restart.failed",
    "kubernetes.operator.pod-template.merge-arrays-by-name",
})  # fmt: skip
"""Of the operator's documented keys those that are used: its jars are in no registry."""


def flink_configuration(manifests: list[Manifest]) -> dict[str, str]:
    spec = next(it for it in manifests if it["kind"] == "FlinkDeployment")["spec"]
    return {
        **spec["flinkConfiguration"],
        # What the operator adds of the resource's other fields.
        "jobmanager.memory.process.size": spec["jobManager"]["resource"]["memory"],
        "taskmanager.memory.process.size": spec["taskManager"]["resource"]["memory"],
        "jobmanager.rpc.address": "localhost",
    }


def checked(folders: dict[str, dict[str, Any]], tmp_path: Path) -> list[str]:
    """What Flink says of each folder's settings."""
    for name, settings in folders.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump(settings, width=10_000))
    wheel = binaries.pyflink()
    command = [
        binaries.java(), "-cp", f"{wheel}/lib/*:{wheel}/opt/*",
        "-Dforeign=job.autoscaler.,kubernetes.operator.", str(CHECKER), *folders,
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def said(rendered: Rendered, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return checked(
        {
            "session": yaml.safe_load(SESSION.read_text()),
            "compose": yaml.safe_load(COMPOSE.read_text()),
            "application": flink_configuration(rendered("prod")),
            "wrong": {
                "jobmanager.rpc.address": "localhost",
                "heartbeat.timeut": "6 s",
                "heartbeat.interval": "often",
                "taskmanager.memory.process.size": "300m",
                "jobmanager.memory.process.size": "1100m",
            },
        },
        tmp_path_factory.mktemp("flink"),
    )


def test_flink_knows_each_key_and_reads_each_value(said: list[str]) -> None:
    assert int(said[0].removeprefix("known ")) > 1_000
    faults = [it for it in said if it.startswith("fault")]
    assert [it for it in faults if not it.startswith("fault wrong:")] == []


def test_flink_finds_fault_with_wrong_settings(said: list[str]) -> None:
    wrong = "\n".join(it for it in said if it.startswith("fault wrong:"))
    assert "heartbeat.timeut: this Flink knows no such key" in wrong
    assert "heartbeat.interval: " in wrong
    assert "memory: " in wrong
    assert wrong.count("\n") == 2


def test_most_of_the_memory_is_heap(said: list[str]) -> None:
    heaps = [it.removeprefix("heap ") for it in said if it.startswith("heap ")]
    for deployment in ("session", "application"):
        assert any(it.startswith(f"{deployment}: TaskManager 1") for it in heaps) or any(
            it.startswith(f"{deployment}: TaskManager 2") for it in heaps
        ), "at least 1 GB"


def test_operator_settings_are_known_ones(rendered: Rendered) -> None:
    given = {
        it
        for it in flink_configuration(rendered("prod"))
        if it.startswith(("job.autoscaler.", "kubernetes.operator."))
    }
    assert given == OPERATORS


def test_all_deployments_of_flink_share_their_settings(rendered: Rendered) -> None:
    session = yaml.safe_load(SESSION.read_text())
    compose = yaml.safe_load(COMPOSE.read_text())
    application = flink_configuration(rendered("prod"))
    assert compose.keys() - session.keys() == set()
    assert {it for it in compose if session[it] != compose[it]} == set()
    # A session's web UI and addresses are no business of an application's; its memory is.
    given_by_operator = {"rest.", "jobmanager.", "taskmanager.memory.process", "taskmanager.bind"}
    only_in_sessions = {"parallelism.default", "web.upload.dir", "env.java.opts.all"}
    for key in compose.keys() - only_in_sessions:
        if not key.startswith(tuple(given_by_operator)):
            assert str(application[key]) == str(compose[key]), key


def test_flinks_memory_fits_its_container(rendered: Rendered) -> None:
    session = yaml.safe_load(SESSION.read_text())
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    compared = 0
    for pod in pods(rendered("dev")):
        for role in ("jobmanager", "taskmanager"):
            if pod.name == f"Deployment/flink-{role}":
                limit = pod.containers[0]["resources"]["limits"]["memory"]
                process = mebibytes(session[f"{role}.memory.process.size"])
                # Python is beside the JVM, whose size Flink adds up to the last megabyte.
                assert int(limit.removesuffix("Gi")) * 1024 >= process + 300
                # What was measured for compose holds here, too.
                assert limit == compose[f"flink-{role}"]["mem_limit"].replace("g", "Gi")
                compared += 1
    assert compared == 2


def test_policies_allow_the_ports_that_flink_is_told(rendered: Rendered) -> None:
    session = yaml.safe_load(SESSION.read_text())
    told = {
        "flink-jobmanager": {
            "rest.port": "web", "high-availability.jobmanager.port": "rpc",
            "blob.server.port": "blob", "metrics.internal.query-service.port": "query",
            "metrics.reporter.prom.port": "metrics",
        },
        "flink-taskmanager": {
            "taskmanager.rpc.port": "rpc", "taskmanager.data.port": "data",
            "metrics.internal.query-service.port": "query", "metrics.reporter.prom.port": "metrics",
        },
    }  # fmt: skip
    for pod in pods(rendered("dev")):
        for key, name in told.get(pod.owner["metadata"]["name"], {}).items():
            ports = {it["name"]: it["containerPort"] for it in pod.containers[0]["ports"]}
            assert ports[name] == session[key], key


def test_jar_and_class_of_the_application_are_the_images(rendered: Rendered) -> None:
    job = next(it for it in rendered("prod") if it["kind"] == "FlinkDeployment")["spec"]["job"]
    dockerfile = (ROOT / "flink_jobs" / "Dockerfile").read_text()
    jar = job["jarURI"].removeprefix("local://")
    folder, _, name = jar.rpartition("/")
    assert f"{name} /tree{folder}/" in dockerfile
    source = (
        ROOT / "flink_jobs/launcher/src/main/java" / f"{job['entryClass'].replace('.', '/')}.java"
    )
    assert source.is_file()
