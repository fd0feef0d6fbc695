"""The overlays as kustomize renders them. Touches no cluster, and not the checkout's secrets."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tools.stack.layout import LOCAL, ROOT

K8S: Final = ROOT / "k8s"
OVERLAYS: Final = ("dev", "prod")
NAMESPACE: Final = "login-blocking"
BUILT: Final = LOCAL / "kube-bin"
_RENDER_TIMEOUT_S: Final = 60.0

Manifest = dict[str, Any]


class NoKubectlError(Exception):
    """There is no kubectl here."""


class RenderError(Exception):
    """Kustomize refused an overlay; the message is its own."""


@dataclass(frozen=True, slots=True)
class Pod:
    """The pod of a workload: what runs it, and its template."""

    owner: Manifest
    labels: dict[str, str]
    spec: dict[str, Any]

    @property
    def name(self) -> str:
        """Kind and name of what runs it."""
        return f"{self.owner['kind']}/{self.owner['metadata']['name']}"

    @property
    def containers(self) -> list[dict[str, Any]]:
        """Those that run, and those that run before."""
        return [*self.spec["containers"], *self.spec.get("initContainers", [])]


def binaries() -> Path:
    """Where the Kubernetes programs are, or will be built: KUBE_BIN, else .local/kube-bin."""
    return Path(os.environ["KUBE_BIN"]) if os.environ.get("KUBE_BIN") else BUILT


def kubectl() -> str:
    """Of the built programs, else of PATH; raises NoKubectlError."""
    built = binaries() / "kubectl"
    found = str(built) if built.is_file() else shutil.which("kubectl")
    if found is None:
        raise NoKubectlError("no kubectl, in .local/kube-bin (make verify-k8s) or on PATH")
    return found


def copy_with_secrets(target: Path) -> Path:
    """A copy of k8s/ that can be rendered: with made-up secrets, whatever the checkout has."""
    shutil.copytree(K8S, target, ignore=shutil.ignore_patterns("secrets.env"))
    made = target / "overlays" / "dev" / "secrets.env"
    subprocess.run(
        ["sh", str(ROOT / "tools" / "make-env"), str(made), "kubernetes"],
        check=True,
        capture_output=True,
    )
    return target


def render(folder: Path) -> list[Manifest]:
    """What `kubectl apply -k` would send; raises RenderError."""
    done = subprocess.run(
        [kubectl(), "kustomize", str(folder)],
        capture_output=True, text=True, timeout=_RENDER_TIMEOUT_S, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RenderError(done.stderr.strip())
    return [it for it in yaml.load_all(done.stdout, _Loader) if it]


def as_yaml(documents: list[Manifest]) -> str:
    """For kubectl's standard input."""
    return yaml.safe_dump_all(documents)


# In C where libyaml is there.
_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def pods(manifests: list[Manifest]) -> Iterator[Pod]:
    """Every pod that the manifests lead to and that this repository words."""
    for it in manifests:
        match it["kind"]:
            case "Deployment" | "StatefulSet" | "Job":
                template = it["spec"]["template"]
                yield Pod(it, template["metadata"]["labels"], template["spec"])
            case "FlinkDeployment":
                yield from _flink_pods(it)


def _flink_pods(it: Manifest) -> Iterator[Pod]:
    """As the operator makes them of the common template and of the JobManager's own."""
    common = it["spec"]["podTemplate"]
    for role, words in (("jobmanager", "jobManager"), ("taskmanager", "taskManager")):
        own = it["spec"][words]
        spec = merged(common["spec"], own.get("podTemplate", {}).get("spec", {}))
        main = spec["containers"][0]
        main["image"] = it["spec"]["image"]
        memory = f"{mebibytes(own['resource']['memory'])}Mi"
        size = {"cpu": str(own["resource"]["cpu"]), "memory": memory}
        main["resources"] = {"requests": size, "limits": size}
        spec["serviceAccountName"] = it["spec"]["serviceAccount"]
        labels = {
            **common["metadata"]["labels"],
            "app": it["metadata"]["name"],
            "component": role,
            "type": "flink-native-kubernetes",
        }
        yield Pod(it, labels, spec)


def mebibytes(flink_memory: str) -> int:
    """A memory size in Flink's words, `2g` or `1600m`; ValueError for other ones."""
    number, unit = flink_memory[:-1], flink_memory[-1]
    if unit not in "mg":
        raise ValueError(f"{flink_memory}: write 1600m or 2g")
    return int(number) * (1024 if unit == "g" else 1)


def merged(one: Any, other: Any) -> Any:  # noqa: ANN401 — any YAML
    """Two pod templates, as the operator merges them: what has the same name becomes one."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {
            key: merged(one[key], other[key]) if key in one and key in other
            else one.get(key, other.get(key))
            for key in [*one, *(it for it in other if it not in one)]
        }  # fmt: skip
    if isinstance(one, list) and isinstance(other, list):
        by_name = {it["name"]: it for it in one}
        for it in other:
            by_name[it["name"]] = merged(by_name[it["name"]], it) if it["name"] in by_name else it
        return list(by_name.values())
    return other
