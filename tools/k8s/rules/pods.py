"""What pods may do, what they take, and how they come and go."""

import re
from collections.abc import Iterator
from typing import Final

from tools.k8s.manifests import NAMESPACE, Manifest, Pod, pods
from tools.k8s.rules.selectors import name_of, selects

_LEVELS: Final = ("enforce", "warn", "audit")
_VOLUMES: Final = ("configMap", "secret", "emptyDir", "persistentVolumeClaim", "projected")
_FLINK_ACCOUNT: Final = "detector"
_ACCOUNT_OF_FLINKS_CHART: Final = "flink"


def namespace_is_restricted(manifests: list[Manifest]) -> Iterator[str]:
    """Pod Security `restricted`, by a version: enforced, warned of, written down."""
    (namespace,) = (it for it in manifests if it["kind"] == "Namespace")
    labels = namespace["metadata"]["labels"]
    for level in _LEVELS:
        label = f"pod-security.kubernetes.io/{level}"
        if labels.get(label) != "restricted":
            yield f"Namespace: {label} is not restricted"
        if not re.fullmatch(r"v1\.\d+", labels.get(f"{label}-version", "")):
            yield f"Namespace: {label}-version is none"


def all_in_one_namespace(manifests: list[Manifest]) -> Iterator[str]:
    """Nothing lands in another namespace."""
    for it in manifests:
        if it["kind"] != "Namespace" and it["metadata"].get("namespace") != NAMESPACE:
            yield f"{name_of(it)}: not in {NAMESPACE}"


def pods_are_restricted(manifests: list[Manifest]) -> Iterator[str]:
    """What Pod Security `restricted` asks, and a read-only root, which it does not ask."""
    for pod in pods(manifests):
        own = pod.spec.get("securityContext", {})
        if own.get("runAsNonRoot") is not True or not own.get("runAsUser"):
            yield f"{pod.name}: may run as root"
        if own.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{pod.name}: no seccomp profile"
        for host in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
            if pod.spec.get(host):
                yield f"{pod.name}: {host}"
        for container in pod.containers:
            context = container.get("securityContext", {})
            wanted = {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            for key, value in wanted.items():
                if context.get(key) != value:
                    yield f"{pod.name}/{container['name']}: {key} is not {value}"


def volumes_are_harmless(manifests: list[Manifest]) -> Iterator[str]:
    """Of the kinds that `restricted` takes, and none may fill the node's disk."""
    for pod in pods(manifests):
        for volume in pod.spec.get("volumes", []):
            kind = next(iter(volume.keys() - {"name"}))
            if kind not in _VOLUMES:
                yield f"{pod.name}: volume {volume['name']} is a {kind}"
            if kind == "emptyDir" and "sizeLimit" not in volume["emptyDir"]:
                yield f"{pod.name}: volume {volume['name']} has no bound"


def volumes_are_owned(manifests: list[Manifest]) -> Iterator[str]:
    """A claim is mounted as root's, unless its pod says which group it is for."""
    for pod in pods(manifests):
        claims = [it for it in pod.spec.get("volumes", []) if "persistentVolumeClaim" in it]
        if claims and not pod.spec["securityContext"].get("fsGroup"):
            yield f"{pod.name}: fsGroup is missing"


def claims_for_one_node_keep_their_pods_together(manifests: list[Manifest]) -> Iterator[str]:
    """Else one pod holds the volume on its node while another waits for it on its own, for ever."""
    one_node = {
        it["metadata"]["name"]
        for it in manifests
        if it["kind"] == "PersistentVolumeClaim" and it["spec"]["accessModes"] == ["ReadWriteOnce"]
    }
    users: dict[str, list[Pod]] = {}
    for pod in pods(manifests):
        for volume in pod.spec.get("volumes", []):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim in one_node:
                users.setdefault(claim, []).append(pod)
    for claim, sharing in users.items():
        for pod in sharing if len(sharing) > 1 else []:
            affinity = pod.spec.get("affinity", {}).get("podAffinity", {})
            terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", [])
            if not any(
                term["topologyKey"] == "kubernetes.io/hostname"
                and any(selects(term["labelSelector"], it.labels) for it in sharing)
                for term in terms
            ):
                yield f"{pod.name}: may be put where {claim} cannot be mounted"


def tokens_only_for_flink(manifests: list[Manifest]) -> Iterator[str]:
    """Only Flink's pods speak with the API server."""
    for pod in pods(manifests):
        mounted = pod.spec.get("automountServiceAccountToken")
        if mounted is None or mounted != (pod.spec.get("serviceAccountName") == _FLINK_ACCOUNT):
            yield f"{pod.name}: automountServiceAccountToken is {mounted}"
        if pod.spec.get("enableServiceLinks") is not False:
            yield f"{pod.name}: enableServiceLinks is on"


def flinks_role_is_small(manifests: list[Manifest]) -> Iterator[str]:
    """No wildcard, no secrets: whoever can run a job must not read them by the API server."""
    for it in manifests:
        if it["kind"] == "ClusterRole":
            yield f"{name_of(it)}: reaches beyond the namespace"
        named = it["metadata"]["name"]
        if it["kind"] in ("ServiceAccount", "Role") and named == _ACCOUNT_OF_FLINKS_CHART:
            yield f"{name_of(it)}: the Flink operator's chart makes one of this name, too"
        for rule in it.get("rules", []) if it["kind"] == "Role" else []:
            given = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            if "*" in given or "secrets" in given or "pods/exec" in given:
                yield f"{name_of(it)}: {rule['resources']} {rule['verbs']}"


def containers_are_bounded(manifests: list[Manifest]) -> Iterator[str]:
    """Requests and limits of both; memory is not promised twice."""
    for pod in pods(manifests):
        for container in pod.containers:
            resources = container.get("resources", {})
            for kind in ("requests", "limits"):
                for what in ("cpu", "memory"):
                    if what not in resources.get(kind, {}):
                        yield f"{pod.name}/{container['name']}: no {kind} of {what}"


def servers_are_probed(manifests: list[Manifest]) -> Iterator[str]:
    """Startup, readiness and liveness of all that serves, but for what the operator probes."""
    for pod in pods(manifests):
        if pod.owner["kind"] in ("Job", "FlinkDeployment"):
            continue
        for container in pod.spec["containers"]:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if probe not in container:
                    yield f"{pod.name}/{container['name']}: no {probe}"
            alive = container.get("livenessProbe", {})
            if "readyz" in str(alive):
                yield f"{pod.name}: its liveness hangs on what it depends on"


def updates_drop_no_call(manifests: list[Manifest]) -> Iterator[str]:
    """The APIs: a new pod before an old one goes, which answers until all know that it goes."""
    for pod in pods(manifests):
        if pod.labels.get("app.kubernetes.io/component") != "api":
            continue
        rolling = pod.owner["spec"].get("strategy", {}).get("rollingUpdate", {})
        if rolling.get("maxUnavailable") != 0:
            yield f"{pod.name}: an update may begin by ending pods"
        wait = pod.spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {})
        if not 0 < wait.get("seconds", 0) < pod.spec.get("terminationGracePeriodSeconds", 30) - 10:
            yield f"{pod.name}: no preStop, or not enough time after it"
        if not any(
            it["kind"] == "PodDisruptionBudget" and selects(it["spec"]["selector"], pod.labels)
            for it in manifests
        ):
            yield f"{pod.name}: no PodDisruptionBudget"


def histories_are_short(manifests: list[Manifest]) -> Iterator[str]:
    """Old ReplicaSets keep old ConfigMaps in use."""
    for it in manifests:
        if it["kind"] in ("Deployment", "StatefulSet") and "revisionHistoryLimit" not in it["spec"]:
            yield f"{name_of(it)}: no revisionHistoryLimit"


def jobs_can_be_applied_again(manifests: list[Manifest]) -> Iterator[str]:
    """A Job cannot be changed: it must go by itself, and name nothing whose name changes."""
    for it in manifests:
        if it["kind"] != "Job":
            continue
        for key in ("ttlSecondsAfterFinished", "activeDeadlineSeconds", "backoffLimit"):
            if key not in it["spec"]:
                yield f"{name_of(it)}: no {key}"
        template = str(it["spec"]["template"])
        if "configMap" in template or "secretKeyRef" in template or "secretRef" in template:
            yield f"{name_of(it)}: names what carries a hash"


def autoscaled_have_no_replicas(manifests: list[Manifest]) -> Iterator[str]:
    """Else every apply would undo what the autoscaler decided."""
    for it in manifests:
        if it["kind"] == "HorizontalPodAutoscaler":
            target = it["spec"]["scaleTargetRef"]["name"]
            for other in manifests:
                named = other["kind"] == "Deployment" and other["metadata"]["name"] == target
                if named and "replicas" in other["spec"]:
                    yield f"Deployment/{target}: replicas beside an autoscaler"
