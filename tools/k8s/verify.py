"""`make verify-k8s`: every overlay on a real API server, twice, with Pod Security enforced.

On a server of its own it also starts Flink's JobManager with the rights that the overlay gives it.
Nothing else runs: kwok says of each pod that it does.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tools.k8s import cluster, flink_rights, manifests, monitoring_crds
from tools.k8s.cluster import Cluster, KubectlError, NoClusterError
from tools.k8s.manifests import NAMESPACE, OVERLAYS, Manifest
from tools.stack.layout import ROOT

_CRDS: Final = ROOT.parent / "shared" / "crd"
_NOTES: Final = (
    "kubectl.kubernetes.io/last-applied-configuration", "deployment.kubernetes.io/revision",
)  # fmt: skip
"""What kubectl and the controllers remember by an object: no part of it."""
_SETTLE_WITHIN_S: Final = 240.0
_console = Console(highlight=False)


class NotSoError(Exception):
    """What was to be shown is not so; the message says what is."""


@dataclass(slots=True)
class Report:
    """What was tried, and what came of it."""

    rows: list[tuple[str, str, bool, str, float]] = field(default_factory=list)

    def check(self, where: str, what: str, tried: Callable[[], str]) -> None:
        """Tries one thing; it returns what it saw, or raises."""
        began = time.monotonic()
        try:
            saw, well = tried(), True
        except (NotSoError, KubectlError, TimeoutError) as error:
            saw, well = str(error), False
        self.rows.append((where, what, well, saw, time.monotonic() - began))
        mark = "ok  " if well else "FAIL"
        _console.print(f"{mark} {where}: {what}: {saw}", soft_wrap=True, markup=False)

    @property
    def well(self) -> bool:
        """Whether all of it is so."""
        return all(row[2] for row in self.rows)

    def show(self) -> None:
        """The table."""
        table = Table("overlay", "what", "", "seen", "s")
        for where, what, well, saw, seconds in self.rows:
            first = saw.splitlines()[0] if saw else ""
            table.add_row(where, what, "ok" if well else "FAIL", first, f"{seconds:.1f}")
        _console.print(table)


def main() -> int:
    """Runs the command line; 0 if all holds, 1 if not, 2 if nothing could be tried."""
    parser = argparse.ArgumentParser(prog="tools.k8s.verify", description=__doc__)
    parser.add_argument("--without-flink", action="store_true", help="leave its JobManager out")
    parser.add_argument("--kubeconfig", type=Path, help="of a cluster to use in place of our own")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    report = Report()
    try:
        if arguments.kubeconfig is not None:
            known = Cluster(arguments.kubeconfig.absolute(), ours=False)
            _try_on(known, report, with_flink=False)
        else:
            with cluster.started() as own:
                _try_on(own, report, with_flink=not arguments.without_flink)
    except (NoClusterError, manifests.NoKubectlError, KubectlError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    report.show()
    return 0 if report.well else 1


def _try_on(server: Cluster, report: Report, *, with_flink: bool) -> None:
    _console.print(f"Kubernetes {server.server_version()}")
    if server.run("get", "namespace", NAMESPACE).returncode == 0:
        raise NoClusterError(f"the cluster has a namespace {NAMESPACE} already: it stays untouched")
    if server.ours:
        report.check("all", "CRDs of the operators", lambda: _apply_crds(server))
    with tempfile.TemporaryDirectory(prefix="k8s-") as folder:
        k8s = manifests.copy_with_secrets(Path(folder) / "k8s")
        for name in OVERLAYS:
            _try_overlay(server, report, k8s / "overlays" / name, with_flink=with_flink)


def _apply_crds(server: Cluster) -> str:
    try:
        monitoring_crds.fetch()
    except monitoring_crds.NoCrdsError as error:
        raise NotSoError(f"the Prometheus operator's CRDs: {error}") from error
    for folder in (_CRDS, monitoring_crds.FOLDER):
        server.do("apply", "--server-side", "--recursive", "-f", folder)
    server.do("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    return f"{len(server.get('crd'))} established"


def _try_overlay(server: Cluster, report: Report, folder: Path, *, with_flink: bool) -> None:
    name, wanted = folder.name, manifests.render(folder)
    try:
        report.check(name, "kubectl apply -k", lambda: _apply(server, folder, wanted))
        report.check(name, "its pods are made", lambda: _settled(server, wanted))
        report.check(name, "nothing was refused later", lambda: _no_complaints(server))
        report.check(name, "applied again", lambda: _again(server, folder, wanted))
        report.check(name, "applied --server-side", lambda: _server_side(server, folder, wanted))
        report.check(name, "a pod against the rules", lambda: _refused_pod(server, wanted))
        report.check(name, "a misspelt field", lambda: _refused_field(server, wanted))
        if name == "dev":
            what = "a changed secret: the old one is deleted as documented"
            report.check(name, what, lambda: _pruned(server, folder))
        if with_flink:
            with _stopping_flink() as begun:
                if name == "dev":
                    check = flink_rights.session_survives_its_jobmanager
                    what = "Flink's JobManager, killed, finds its job again by its own rights"
                else:
                    check = flink_rights.application_makes_its_taskmanagers
                    what = "Flink's JobManager makes its TaskManagers' pods by its own rights"
                report.check(name, what, lambda: _as_check(lambda: check(server, wanted, begun)))
    finally:
        report.check(name, "kubectl delete -k", lambda: _delete(server, folder))


@contextmanager
def _stopping_flink() -> Iterator[flink_rights.Begun]:
    begun = flink_rights.Begun()
    try:
        yield begun
    finally:
        begun.end()


def _as_check(tried: Callable[[], str]) -> str:
    try:
        return tried()
    except flink_rights.NotShownError as error:
        raise NotSoError(str(error)) from error


def _apply(server: Cluster, folder: Path, wanted: list[Manifest]) -> str:
    done = server.run("apply", "-k", folder)
    if done.returncode != 0 or done.stderr.strip():  # Pod Security warns there
        raise NotSoError(done.stderr.strip())
    made = done.stdout.splitlines()
    if len(made) != len(wanted) or not all(it.endswith(" created") for it in made):
        raise NotSoError(f"{len(made)} of {len(wanted)} were created")
    return f"{len(made)} objects created, no warning"


def _settled(server: Cluster, wanted: list[Manifest]) -> str:
    """Each workload has the pods that it wants; where kwok plays them, ready ones."""
    kinds = ("Deployment", "StatefulSet", "Job")
    workloads = [it for it in wanted if it["kind"] in kinds]
    at_least = {
        it["spec"]["scaleTargetRef"]["name"]: it["spec"]["minReplicas"]
        for it in wanted
        if it["kind"] == "HorizontalPodAutoscaler"
    }
    deadline = time.monotonic() + _SETTLE_WITHIN_S
    while True:
        waiting = [
            f"{it['kind']}/{it['metadata']['name']}"
            for it in server.get("deployments,statefulsets,jobs", "-n", NAMESPACE)
            if not _has_its_pods(it, at_least.get(it["metadata"]["name"], 1), ready=server.ours)
        ]
        if not waiting:
            break
        if time.monotonic() > deadline:
            raise NotSoError(f"no pods, or not ready: {', '.join(waiting)}")
        time.sleep(0.5)
    pods = server.get("pods", "-n", NAMESPACE)
    words = "ready or complete" if server.ours else "admitted"
    return f"{len(pods)} pods of {len(workloads)} workloads, {words}"


def _has_its_pods(it: dict[str, Any], at_least: int, *, ready: bool) -> bool:
    status = it.get("status", {})
    if it["kind"] == "Job":
        return bool(status.get("succeeded" if ready else "active") or status.get("succeeded"))
    wanted = max(it["spec"]["replicas"], at_least)
    seen = status.get("observedGeneration") == it["metadata"]["generation"]
    return bool(seen and status.get("readyReplicas" if ready else "replicas", 0) == wanted)


def _no_complaints(server: Cluster) -> str:
    events = server.get("events", "-n", NAMESPACE)
    refused = [it["message"] for it in events if it["reason"] in ("FailedCreate", "FailedMount")]
    if refused:
        raise NotSoError(refused[0])
    return f"none of {len(events)} events tells of a pod that could not be made"


def _again(server: Cluster, folder: Path, wanted: list[Manifest]) -> str:
    before = _specs(server, wanted)
    done = server.do("apply", "-k", folder)
    changed = [key for key, it in _specs(server, wanted).items() if it != before[key]]
    if changed:
        raise NotSoError(f"changed: {', '.join(changed)}")
    # kubectl says "configured" of every PodDisruptionBudget: it always sends the selector anew.
    told = [it for it in done.splitlines() if not it.endswith(" unchanged")]
    if others := [it for it in told if not it.startswith("poddisruptionbudget.policy/")]:
        raise NotSoError("; ".join(others))
    return f"{len(before)} objects are what they were, but for what controllers write"


def _server_side(server: Cluster, folder: Path, wanted: list[Manifest]) -> str:
    before = _specs(server, wanted)
    server.do("apply", "--server-side", "-k", folder)
    changed = [key for key, it in _specs(server, wanted).items() if it != before[key]]
    if changed:
        raise NotSoError(f"changed: {', '.join(changed)}")
    return "accepted without a conflict, and nothing changed"


def _specs(server: Cluster, wanted: list[Manifest]) -> dict[str, dict[str, Any]]:
    """Every applied object as the server has it, without what controllers write."""
    kinds = sorted({_resource(it) for it in wanted if it["kind"] != "Namespace"})
    names = {(it["kind"], it["metadata"]["name"]) for it in wanted}
    found = {}
    for it in server.get(",".join(kinds), "-n", NAMESPACE):
        metadata = it["metadata"]
        if (it["kind"], metadata["name"]) in names:
            for key in ("managedFields", "resourceVersion", "generation"):
                metadata.pop(key, None)
            annotations = metadata.pop("annotations", {})
            metadata["annotations"] = {k: v for k, v in annotations.items() if k not in _NOTES}
            it.pop("status", None)
            found[f"{it['kind']}/{metadata['name']}"] = it
    if len(found) != len(names) - 1:
        raise NotSoError(f"{len(found)} of {len(names) - 1} objects are there")
    return found


def _resource(it: Manifest) -> str:
    group = it["apiVersion"].rpartition("/")[0]
    return f"{it['kind'].lower()}.{group}" if group else it["kind"].lower()


def _refused_pod(server: Cluster, wanted: list[Manifest]) -> str:
    """The Login API's own pod, but as root."""
    pod = next(it for it in manifests.pods(wanted) if it.name == "Deployment/login-api")
    spec = {**pod.spec, "securityContext": {}}
    document = {
        "apiVersion": "v1", "kind": "Pod", "spec": spec,
        "metadata": {"name": "against-the-rules", "namespace": NAMESPACE},
    }  # fmt: skip
    return _refused(server, document, 'violates PodSecurity "restricted')


def _refused_field(server: Cluster, wanted: list[Manifest]) -> str:
    kind = "Kafka" if any(it["kind"] == "Kafka" for it in wanted) else "StatefulSet"
    it = next(it for it in wanted if it["kind"] == kind)
    return _refused(
        server, {**it, "spec": {**it["spec"], "misspelt": 1}}, 'unknown field "spec.misspelt"'
    )


def _refused(server: Cluster, document: Manifest, words: str) -> str:
    done = server.run("apply", "--dry-run=server", "-f", "-", given=manifests.as_yaml([document]))
    if done.returncode == 0:
        raise NotSoError("it was taken")
    if words not in done.stderr:
        raise NotSoError(done.stderr.strip())
    return f"refused: {words}"


def _pruned(server: Cluster, folder: Path) -> str:
    """By the lines of docs/kubernetes.md, which delete what is not wanted any more, and no more."""
    text = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    lines = re.search(r"^    (wanted=.+?delete)$", text, re.MULTILINE | re.DOTALL)
    if lines is None:
        raise NotSoError("docs/kubernetes.md has no such lines")
    first = _generated(server)
    with (folder / "secrets.env").open("a") as secrets:
        secrets.write("BLOCKED_API_TOKEN=changed-just-for-this\n")
    server.do("apply", "-k", folder)
    both = _generated(server)
    path = f"{Path(manifests.kubectl()).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", lines[1]], cwd=folder.parents[2], check=False, capture_output=True, text=True,
        env={**os.environ, "KUBECONFIG": str(server.kubeconfig), "PATH": path}, timeout=120,
    )  # fmt: skip
    if done.returncode != 0:
        raise NotSoError(done.stderr.strip())
    left = _generated(server)
    old = {it for it in first if it.startswith("Secret/")}
    if len(both - first) != 1 or left != both - old:
        raise NotSoError(f"of {sorted(both)} it left {sorted(left)}")
    return f"one Secret gone, its successor and {len(left) - 1} ConfigMaps left"


def _generated(server: Cluster) -> set[str]:
    """Secrets and ConfigMaps, whoever made them, but for the one of each namespace."""
    found = server.get("secrets,configmaps", "-n", NAMESPACE)
    return {
        f"{it['kind']}/{it['metadata']['name']}"
        for it in found
        if it["metadata"]["name"] != "kube-root-ca.crt"
    }


def _delete(server: Cluster, folder: Path) -> str:
    server.do("delete", "-k", folder, "--ignore-not-found", "--wait", "--timeout=120s")
    return "gone, the namespace too"


if __name__ == "__main__":
    sys.exit(main())
