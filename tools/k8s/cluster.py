"""A real API server to try manifests against: of our own in a temporary folder, or another."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tools.k8s import manifests
from tools.stack.layout import ROOT

SHARED: Final = ROOT.parent / "shared" / "kube"
_NEEDED: Final = (
    "etcd",
    "kube-apiserver",
    "kubectl",
    "kube-controller-manager",
    "kube-scheduler",
    "kwok",
)
_COMMAND_TIMEOUT_S: Final = 300.0
_START_TIMEOUT_S: Final = 400.0
_BUILD_TIMEOUT_S: Final = 5_400.0


class NoClusterError(Exception):
    """There is no API server to be had; the message says what to do."""


class KubectlError(Exception):
    """What kubectl refused, in its own words."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """An API server, asked through kubectl."""

    kubeconfig: Path
    ours: bool
    """Started by us, thrown away afterwards: pods are played by kwok."""

    def run(
        self, *arguments: str | Path, given: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """One call of kubectl; its exit status is the caller's business."""
        return subprocess.run(
            [manifests.kubectl(), "--kubeconfig", str(self.kubeconfig), *map(str, arguments)],
            input=given, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False,
        )  # fmt: skip

    def do(self, *arguments: str | Path, given: str | None = None) -> str:
        """One call that must succeed; raises KubectlError."""
        done = self.run(*arguments, given=given)
        if done.returncode != 0:
            raise KubectlError(done.stderr.strip())
        return done.stdout

    def get(self, *arguments: str) -> list[dict[str, Any]]:
        """Objects of one or more kinds."""
        document = yaml.safe_load(self.do("get", *arguments, "--output=json"))
        items: list[dict[str, Any]] = document.get("items", [document])
        return items

    def server_version(self) -> str:
        """As the server tells it."""
        document = yaml.safe_load(self.do("version", "--output=json"))
        return str(document["serverVersion"]["gitVersion"])


@contextmanager
def started() -> Iterator[Cluster]:
    """A server of our own, empty, with controllers, gone again at the end whatever happens."""
    binaries = _built()
    folder = Path(tempfile.mkdtemp(prefix="login-blocking-kube-"))
    work = folder / "server"
    environment = {**os.environ, "NODES": "3", "VOLUMES": "16"}
    try:
        up = subprocess.run(
            [SHARED / "kube-api-up.sh", work, binaries],
            env=environment, capture_output=True, text=True, timeout=_START_TIMEOUT_S, check=False,
        )  # fmt: skip
        if up.returncode != 0:
            raise NoClusterError(f"the API server did not start:\n{up.stderr.strip()}")
        yield Cluster(work / "kubeconfig", ours=True)
    finally:
        if work.is_dir():
            subprocess.run(
                [SHARED / "kube-api-down.sh", work], capture_output=True, timeout=120, check=False
            )
        shutil.rmtree(folder, ignore_errors=True)


def _built() -> Path:
    """The folder of the programs; builds them at the first time, in a quarter of an hour."""
    folder = manifests.binaries()
    missing = [it for it in _NEEDED if not (folder / it).is_file()]
    if not (SHARED / "kube-api-up.sh").is_file():
        raise NoClusterError(
            f"{SHARED} is not there, which builds and starts an API server; name a cluster to try "
            "it on instead: make verify-k8s KUBECONFIG=file"
        )
    if not missing:
        return folder
    if folder != manifests.BUILT:
        raise NoClusterError(f"KUBE_BIN={folder} has no {', '.join(missing)}")
    if shutil.which("go") is None:
        raise NoClusterError("Go 1.26 is needed to build the API server, and was not found")
    print(f"Building Kubernetes into {folder}: about 15 minutes, this once", flush=True)
    with tempfile.TemporaryDirectory(prefix="kube-sources-") as copy:
        sources = shutil.copytree(SHARED, Path(copy) / "kube")  # Go would write beside them
        for it in (sources, *sources.rglob("*")):
            it.chmod(it.stat().st_mode | 0o200)
        done = subprocess.run([sources / "build.sh", folder], timeout=_BUILD_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise NoClusterError("Kubernetes could not be built (see above)")
    return folder
