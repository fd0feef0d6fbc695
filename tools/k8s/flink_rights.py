"""Flink's real JobManager, on this machine, with the rights that an overlay gives it in Kubernetes.

It speaks with the API server as the ServiceAccount `detector`, and has the overlay's own settings
but for addresses, ports and folders. Neither Kafka nor a TaskManager is there: a job waits for
them.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from flink_control.rest import FlinkError, FlinkRest
from tools.k8s import manifests
from tools.k8s.cluster import Cluster
from tools.k8s.manifests import NAMESPACE, Manifest
from tools.stack import prepare
from tools.stack.job import JAR, JOB_NAME
from tools.stack.layout import ROOT, Ports

_UP_WITHIN_S: Final = 240.0
_ACCOUNT: Final = "detector"
_TEMPLATES: Final = Path("/opt/flink/pod-template")
"""Where a JobManager finds the template of its TaskManagers' pods; Flink knows no other place."""


class NotShownError(Exception):
    """It did not come to what was to be shown."""


@dataclass(slots=True)
class Begun:
    """What was started or made, and must go again."""

    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)

    def end(self) -> None:
        """Ends and removes it all."""
        for process in self.processes:
            kill(process)
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)


def kill(process: subprocess.Popen[bytes]) -> None:
    """At once, and whatever it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def session_survives_its_jobmanager(server: Cluster, wanted: list[Manifest], begun: Begun) -> str:
    """Takes a job, is killed, is started again, and has the job."""
    config = next(it for it in wanted if it["metadata"]["name"].startswith("flink-config-"))
    home = _Home.make(server, yaml.safe_load(config["data"]["config.yaml"]), begun)
    first = home.start(begun, "jobmanager.sh", "start-foreground")
    home.wait_for(first, lambda: home.flink.jobs() is not None, "its REST answers")
    job_id = home.flink.submit(JAR)
    kill(first)
    began = time.monotonic()
    second = home.start(begun, "jobmanager.sh", "start-foreground")
    home.wait_for(second, lambda: home.flink.alive(JOB_NAME) == [job_id], "it has its job again")
    paused = time.monotonic() - began
    _may_not_read_secrets(server)
    return f"job {job_id[:8]}… there again {paused:.0f} s later; secrets it may not read"


def application_makes_its_taskmanagers(
    server: Cluster, wanted: list[Manifest], begun: Begun
) -> str:
    """Builds the job out of the launcher's jar, and makes the pods that it needs."""
    deployment = next(it for it in wanted if it["kind"] == "FlinkDeployment")
    spec = deployment["spec"]
    jobmanager, taskmanager = manifests.pods([deployment])
    _play_operator(server, deployment, jobmanager, taskmanager, begun)
    home = _Home.make(
        server,
        {
            **spec["flinkConfiguration"],
            "kubernetes.cluster-id": deployment["metadata"]["name"],
            "kubernetes.namespace": NAMESPACE,
            "kubernetes.service-account": spec["serviceAccount"],
            "kubernetes.container.image.ref": spec["image"],
            "kubernetes.taskmanager.cpu.amount": spec["taskManager"]["resource"]["cpu"],
            "jobmanager.memory.process.size": spec["jobManager"]["resource"]["memory"],
            "taskmanager.memory.process.size": spec["taskManager"]["resource"]["memory"],
            "parallelism.default": spec["job"]["parallelism"],
            "execution.target": "kubernetes-application",
            "pipeline.jars": f"local://{JAR}",
            "$internal.application.main": spec["job"]["entryClass"],
        },
        begun,
    )
    process = home.start(begun, "kubernetes-jobmanager.sh", "kubernetes-application")
    home.wait_for(process, lambda: home.flink.alive(JOB_NAME) != [], "it has built its job")
    parallelism = int(spec["job"]["parallelism"])
    home.wait_for(
        process,
        lambda: len(_running_taskmanagers(server)) == parallelism,
        f"{parallelism} pods of TaskManagers run",
    )
    _may_not_read_secrets(server)
    pod = _running_taskmanagers(server)[0]["spec"]["containers"][0]
    size = pod["resources"]["limits"]["memory"]
    return f"{parallelism} TaskManagers of {size} admitted and scheduled; secrets it may not read"


@dataclass(frozen=True, slots=True)
class _Home:
    """A Flink on this machine that belongs to a cluster elsewhere."""

    folder: Path
    flink: FlinkRest
    log: Path

    @classmethod
    def make(cls, server: Cluster, config: dict[str, Any], begun: Begun) -> "_Home":
        folder = Path(tempfile.mkdtemp(prefix="login-blocking-flink-"))
        begun.folders.append(folder)
        token = server.do("create", "token", _ACCOUNT, "-n", NAMESPACE, "--duration=1h").strip()
        kubeconfig = yaml.safe_load(server.kubeconfig.read_text())
        kubeconfig["users"][0]["user"] = {"token": token}
        (folder / "kubeconfig").touch(mode=0o600)
        (folder / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
        ports = Ports.free()
        local = "127.0.0.1"
        here = {
            "kubernetes.config.file": str(folder / "kubeconfig"),
            "rest.address": local,
            "rest.bind-address": local,
            "rest.port": ports.flink,
            "jobmanager.rpc.address": local,
            "jobmanager.bind-host": local,
            "high-availability.jobmanager.port": ports.flink_rpc,
            "blob.server.port": ports.kafka,
            "metrics.internal.query-service.port": ports.redis,
            "metrics.reporter.prom.port": ports.postgres,
            "high-availability.storageDir": f"file://{folder}/checkpoints/ha",
            "execution.checkpointing.dir": f"file://{folder}/checkpoints",
            "execution.checkpointing.savepoint-dir": f"file://{folder}/checkpoints",
            "python.executable": sys.executable,
            "python.client.executable": sys.executable,
            "web.upload.dir": str(folder),
            "io.tmp.dirs": str(folder),
        }
        prepare.write_flink_home(folder / "home", {**config, **here})
        return cls(folder, FlinkRest(f"http://{local}:{ports.flink}"), folder / "flink.log")

    def start(self, begun: Begun, *command: str) -> subprocess.Popen[bytes]:
        home = self.folder / "home"
        environment = {
            **prepare.flink_paths(home),
            "_POD_IP_ADDRESS": "127.0.0.1",
            "DETECTOR_KAFKA_BOOTSTRAP": "127.0.0.1:9",
            "DETECTOR_REDIS_URL": "redis://127.0.0.1:9/0",
            "DETECTOR_POLICY_FILE": str(ROOT / "policies" / "default.yaml"),
            "DETECTOR_PREFLIGHT": "false",  # it would miss Kafka and a slot
        }
        environment.pop("KUBECONFIG", None)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [home / "bin" / command[0], *command[1:]],
                env=environment, cwd=home, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        begun.processes.append(process)
        return process

    def wait_for(
        self, process: subprocess.Popen[bytes], ready: Callable[[], bool], what: str
    ) -> None:
        deadline = time.monotonic() + _UP_WITHIN_S
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if ready():
                    return
            except FlinkError:
                pass  # not up yet
            time.sleep(0.5)
        raise NotShownError(f"not that {what}; its log ends:\n{prepare.log_tail(self.log)}")


def _play_operator(
    server: Cluster,
    deployment: Manifest,
    jobmanager: manifests.Pod,
    taskmanager: manifests.Pod,
    begun: Begun,
) -> None:
    """The Deployment that the operator makes, and the template that it lays into its pod."""
    owner = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": deployment["metadata"]["name"], "namespace": NAMESPACE},
        "spec": {
            "selector": {
                "matchLabels": {"app": jobmanager.labels["app"], "component": "jobmanager"}
            },
            "template": {"metadata": {"labels": jobmanager.labels}, "spec": jobmanager.spec},
        },
    }
    server.do("apply", "-f", "-", given=json.dumps(owner))
    if _TEMPLATES.parent.exists():
        raise NotShownError(f"{_TEMPLATES.parent} is somebody else's")
    try:
        _TEMPLATES.mkdir(parents=True)
    except OSError as error:
        raise NotShownError(f"only root may make {_TEMPLATES}, where Flink looks") from error
    begun.folders.append(_TEMPLATES.parent)
    main = {
        k: v
        for k, v in taskmanager.spec["containers"][0].items()
        if k not in ("image", "resources")
    }
    template = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"labels": deployment["spec"]["podTemplate"]["metadata"]["labels"]},
        "spec": {**taskmanager.spec, "containers": [main]},
    }
    (_TEMPLATES / "taskmanager-pod-template.yaml").write_text(yaml.safe_dump(template))


def _running_taskmanagers(server: Cluster) -> list[dict[str, Any]]:
    found = server.get("pods", "-n", NAMESPACE, "-l", "component=taskmanager")
    return [it for it in found if it["status"]["phase"] == "Running"]


def _may_not_read_secrets(server: Cluster) -> None:
    account = f"--as=system:serviceaccount:{NAMESPACE}:{_ACCOUNT}"
    if server.run("auth", "can-i", "get", "secrets", account, "-n", NAMESPACE).returncode == 0:
        raise NotShownError("it may read secrets")
