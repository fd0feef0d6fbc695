"""What every manifest must hold beyond its schema. Each rule says what it found wrong, in words."""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from tools.k8s.manifests import NAMESPACE, Manifest, Pod, pods

Rule = Callable[[list[Manifest]], Iterator[str]]

_LEVELS: Final = ("enforce", "warn", "audit")
_SMALL_SECRET: Final = re.compile(r"(?i)(password|token|secret|_key)$")
_EXPANDED: Final = re.compile(r"\$\(([A-Z0-9_]+)\)")
_ADDRESS: Final = re.compile(
    r"\bredis(?:s)?://[^$\s]*:[^$@\s]+@|\bpostgres(?:ql)?://[^$\s]*:[^$@\s]+@"
)
_REST_OF_IMAGE: Final = re.compile(r"^[a-z0-9./-]+:[0-9][\w.-]*(@sha256:[0-9a-f]{64})?$")
_VOLUMES: Final = ("configMap", "secret", "emptyDir", "persistentVolumeClaim", "projected")
_FLINK_ACCOUNT: Final = "flink"
_DNS: Final = "kube-dns"


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
            yield f"{_name(it)}: not in {NAMESPACE}"


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
                and any(_selects(term["labelSelector"], it.labels) for it in sharing)
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
            yield f"{_name(it)}: reaches beyond the namespace"
        for rule in it.get("rules", []) if it["kind"] == "Role" else []:
            given = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            if "*" in given or "secrets" in given or "pods/exec" in given:
                yield f"{_name(it)}: {rule['resources']} {rule['verbs']}"


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
            it["kind"] == "PodDisruptionBudget" and _selects(it["spec"]["selector"], pod.labels)
            for it in manifests
        ):
            yield f"{pod.name}: no PodDisruptionBudget"


def histories_are_short(manifests: list[Manifest]) -> Iterator[str]:
    """Old ReplicaSets keep old ConfigMaps in use."""
    for it in manifests:
        if it["kind"] in ("Deployment", "StatefulSet") and "revisionHistoryLimit" not in it["spec"]:
            yield f"{_name(it)}: no revisionHistoryLimit"


def jobs_can_be_applied_again(manifests: list[Manifest]) -> Iterator[str]:
    """A Job cannot be changed: it must go by itself, and name nothing whose name changes."""
    for it in manifests:
        if it["kind"] != "Job":
            continue
        for key in ("ttlSecondsAfterFinished", "activeDeadlineSeconds", "backoffLimit"):
            if key not in it["spec"]:
                yield f"{_name(it)}: no {key}"
        template = str(it["spec"]["template"])
        if "configMap" in template or "secretKeyRef" in template or "secretRef" in template:
            yield f"{_name(it)}: names what carries a hash"


def images_are_pinned(manifests: list[Manifest]) -> Iterator[str]:
    """A version for each image, and no registry: that is the cluster's or the overlay's to say."""
    for pod in pods(manifests):
        for container in pod.containers:
            image = container.get("image", "")
            if not _REST_OF_IMAGE.match(image) or image.endswith(":latest"):
                yield f"{pod.name}/{container['name']}: image {image!r} has no version"
            if "." in image.split("/")[0] and "/" in image:
                yield f"{pod.name}/{container['name']}: image {image!r} names a registry"


def no_secret_is_told(manifests: list[Manifest]) -> Iterator[str]:
    """Secrets come by reference: none stands in a variable or an argument."""
    for pod in pods(manifests):
        for container in pod.containers:
            for variable in container.get("env", []):
                if "value" in variable and _SMALL_SECRET.search(variable["name"]):
                    yield f"{pod.name}: {variable['name']} stands there"
            words = [*container.get("command", []), *container.get("args", [])]
            if any(_SMALL_SECRET.search(name) for it in words for name in _EXPANDED.findall(it)):
                yield f"{pod.name}: an argument shows a secret to every process"


def secrets_are_secrets(manifests: list[Manifest]) -> Iterator[str]:
    """None in a ConfigMap, nor in an address anywhere."""
    for it in manifests:
        if it["kind"] == "ConfigMap":
            for key in it.get("data", {}):
                if _SMALL_SECRET.search(key):
                    yield f"{_name(it)}: {key} belongs in a Secret"
        if it["kind"] != "Secret" and _ADDRESS.search(str(it)):
            yield f"{_name(it)}: a URL with its password"


def variables_are_expanded(manifests: list[Manifest]) -> Iterator[str]:
    """`$(NAME)` is only replaced by a variable that stands before it."""
    for pod in pods(manifests):
        for container in pod.containers:
            before: set[str] = set()
            for variable in container.get("env", []):
                for name in _EXPANDED.findall(variable.get("value", "")):
                    if name not in before:
                        yield f"{pod.name}: {variable['name']} names {name}, which is not before it"
                before.add(variable["name"])
            for word in [*container.get("command", []), *container.get("args", [])]:
                for name in _EXPANDED.findall(word):
                    if name not in before:
                        yield f"{pod.name}: an argument names {name}, which is no variable"


def references_lead_somewhere(manifests: list[Manifest]) -> Iterator[str]:
    """What pods name is made here, or is known to be made by hand or by an operator."""
    made = {(it["kind"], it["metadata"]["name"]) for it in manifests}
    users = {it["metadata"]["name"] for it in manifests if it["kind"] == "KafkaUser"}
    clusters = {it["metadata"]["name"] for it in manifests if it["kind"] == "Kafka"}
    by_others = users | {f"{it}-cluster-ca-cert" for it in clusters}
    dev = any(it["kind"] == "Secret" for it in manifests)
    by_hand = set() if dev else {"login-blocking-secrets"}
    for pod in pods(manifests):
        for kind, name in _references(pod):
            if (kind, name) not in made and not (kind == "Secret" and name in by_others | by_hand):
                yield f"{pod.name}: there is no {kind} {name}"


def claims_are_mounted_where_used(manifests: list[Manifest]) -> Iterator[str]:
    """Each mount has its volume, each volume its mount."""
    for pod in pods(manifests):
        volumes = {it["name"] for it in pod.spec.get("volumes", [])}
        mounts = {it["name"] for c in pod.containers for it in c.get("volumeMounts", [])}
        if volumes != mounts:
            yield f"{pod.name}: {sorted(volumes ^ mounts)} is a volume or a mount alone"


def services_lead_to_pods(manifests: list[Manifest]) -> Iterator[str]:
    """A Service selects pods, whose containers have the ports that it names."""
    for it in manifests:
        if it["kind"] != "Service":
            continue
        if it["spec"].get("type", "ClusterIP") != "ClusterIP":
            yield f"{_name(it)}: reachable from outside"
        chosen = [p for p in pods(manifests) if _has(p.labels, it["spec"]["selector"])]
        if not chosen:
            yield f"{_name(it)}: selects nothing"
        for pod in chosen:
            named = {p["name"]: p["containerPort"] for c in pod.containers for p in c["ports"]}
            for port in it["spec"]["ports"]:
                if named.get(port["targetPort"]) != port["port"]:
                    yield f"{_name(it)}: port {port['port']} is not {pod.name}'s"


def nobody_talks_by_default(manifests: list[Manifest]) -> Iterator[str]:
    """A policy for all pods that allows nothing, in or out."""
    for it in manifests:
        if it["kind"] == "NetworkPolicy" and it["spec"] == {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
        }:
            return
    yield "no NetworkPolicy denies by default"


def workloads_have_policies(manifests: list[Manifest]) -> Iterator[str]:
    """One of each workload's name, which selects its pods."""
    policies = {it["metadata"]["name"]: it for it in manifests if it["kind"] == "NetworkPolicy"}
    for pod in pods(manifests):
        name = pod.labels["app.kubernetes.io/name"]
        if name not in policies:
            yield f"{pod.name}: no NetworkPolicy {name}"
        elif not _selects(policies[name]["spec"]["podSelector"], pod.labels):
            yield f"{pod.name}: its NetworkPolicy selects others"


def policies_select_pods(manifests: list[Manifest]) -> Iterator[str]:
    """No policy selects, or names, pods that do not exist: a misspelt label allows nothing."""
    labels = [it.labels for it in pods(manifests)]
    labels += _strimzis(manifests)
    for it in manifests:
        if it["kind"] != "NetworkPolicy":
            continue
        selectors = [it["spec"]["podSelector"]]
        selectors += [peer["podSelector"] for peer in _peers(it) if set(peer) == {"podSelector"}]
        for selector in selectors:
            for one in _each_value(selector):
                if not any(_selects(one, pod) for pod in labels):
                    yield f"{_name(it)}: {one} selects nothing"


def policies_agree(manifests: list[Manifest]) -> Iterator[str]:
    """What one pod may ask of another, that one may be asked, and the other way round."""
    everyone = list(pods(manifests))
    for asks in everyone:
        for asked in everyone:
            out = _allowed(manifests, asks.labels, asked.labels, "egress")
            inward = _allowed(manifests, asked.labels, asks.labels, "ingress")
            for port in out - inward:
                yield f"{asks.name} may ask {asked.name} at {port}, which may not be asked"
            for port in inward - out:
                yield f"{asked.name} may be asked at {port} by {asks.name}, which may not ask"


def allowed_ports_are_open(manifests: list[Manifest]) -> Iterator[str]:
    """A policy lets in at a container's ports only, where we word them."""
    for it in manifests:
        if it["kind"] != "NetworkPolicy" or "ingress" not in it["spec"]:
            continue
        for pod in pods(manifests):
            if pod.owner["kind"] == "FlinkDeployment":
                continue
            if not _selects(it["spec"]["podSelector"], pod.labels):
                continue
            opened = {p["containerPort"] for c in pod.containers for p in c.get("ports", [])}
            for port in {p for rule in it["spec"]["ingress"] for p in _ports(rule)} - opened:
                yield f"{_name(it)}: {pod.name} does not listen at {port}"


def blocked_api_reaches_redis_alone(manifests: list[Manifest]) -> Iterator[str]:
    """And DNS, to find it."""
    (pod,) = (it for it in pods(manifests) if it.labels["app.kubernetes.io/name"] == "blocked-api")
    rules = [
        rule
        for it in manifests
        if it["kind"] == "NetworkPolicy" and _selects(it["spec"]["podSelector"], pod.labels)
        for rule in it["spec"].get("egress", [])
    ]
    to_redis = 0
    for rule in rules:
        ports = _ports(rule)
        peers = rule.get("to", [])
        if len(peers) != 1:
            yield "blocked-api reaches more than one thing by one rule, or everything"
        elif _DNS in str(peers) and ports == {53}:
            continue
        elif ports == {6379} and (
            peers == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "redis"}}}]
            or "ipBlock" in peers[0]
        ):
            to_redis += 1
        else:
            yield f"blocked-api reaches {peers} at {sorted(ports)}"
    if to_redis != 1:
        yield "blocked-api does not reach Redis"


def kafka_users_have_only_their_topics(manifests: list[Manifest]) -> Iterator[str]:
    """No right to all, no wildcard, no topic that is not made."""
    topics = {it["metadata"]["name"] for it in manifests if it["kind"] == "KafkaTopic"}
    for it in manifests:
        if it["kind"] != "KafkaUser":
            continue
        if it["spec"]["authentication"] != {"type": "scram-sha-512"}:
            yield f"{_name(it)}: not by SCRAM"
        for acl in it["spec"]["authorization"]["acls"]:
            resource = acl["resource"]
            if resource.get("patternType") != "literal" or resource.get("name") == "*":
                yield f"{_name(it)}: a right by pattern"
            if "All" in acl["operations"]:
                yield f"{_name(it)}: a right to everything"
            if resource["type"] == "topic" and resource["name"] not in topics:
                yield f"{_name(it)}: {resource['name']} is no topic"


def autoscaled_have_no_replicas(manifests: list[Manifest]) -> Iterator[str]:
    """Else every apply would undo what the autoscaler decided."""
    for it in manifests:
        if it["kind"] == "HorizontalPodAutoscaler":
            target = it["spec"]["scaleTargetRef"]["name"]
            for other in manifests:
                named = other["kind"] == "Deployment" and other["metadata"]["name"] == target
                if named and "replicas" in other["spec"]:
                    yield f"Deployment/{target}: replicas beside an autoscaler"


RULES: Final[tuple[Rule, ...]] = (
    namespace_is_restricted,
    all_in_one_namespace,
    pods_are_restricted,
    volumes_are_harmless,
    volumes_are_owned,
    claims_for_one_node_keep_their_pods_together,
    tokens_only_for_flink,
    flinks_role_is_small,
    containers_are_bounded,
    servers_are_probed,
    updates_drop_no_call,
    histories_are_short,
    jobs_can_be_applied_again,
    images_are_pinned,
    no_secret_is_told,
    secrets_are_secrets,
    variables_are_expanded,
    references_lead_somewhere,
    claims_are_mounted_where_used,
    services_lead_to_pods,
    nobody_talks_by_default,
    workloads_have_policies,
    policies_select_pods,
    policies_agree,
    allowed_ports_are_open,
    blocked_api_reaches_redis_alone,
    kafka_users_have_only_their_topics,
    autoscaled_have_no_replicas,
)


def _name(it: Manifest) -> str:
    return f"{it['kind']}/{it['metadata']['name']}"


def _has(labels: dict[str, str], wanted: dict[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in wanted.items())


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    if not _has(labels, selector.get("matchLabels", {})):
        return False
    return all(
        labels.get(it["key"]) in it["values"]
        for it in selector.get("matchExpressions", [])
        if it["operator"] == "In"
    )


def _each_value(selector: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The selector, for each value of its list alone."""
    lists = selector.get("matchExpressions", [])
    if not lists:
        yield selector
    for it in lists:
        for value in it["values"]:
            yield {"matchLabels": {**selector.get("matchLabels", {}), it["key"]: value}}


def _peers(policy: Manifest) -> Iterator[dict[str, Any]]:
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for rule in policy["spec"].get(direction, []):
            yield from rule.get(side, [])


def _ports(rule: dict[str, Any]) -> set[int]:
    return {
        number
        for it in rule.get("ports", [])
        for number in range(it["port"], it.get("endPort", it["port"]) + 1)
    }


def _allowed(
    manifests: list[Manifest], mine: dict[str, str], others: dict[str, str], direction: str
) -> set[int]:
    """The ports at which policies let two pods of this namespace meet, seen from one of them."""
    side = {"ingress": "from", "egress": "to"}[direction]
    return {
        port
        for it in manifests
        if it["kind"] == "NetworkPolicy" and _selects(it["spec"]["podSelector"], mine)
        for rule in it["spec"].get(direction, [])
        for peer in rule.get(side, [])
        if set(peer) == {"podSelector"} and _selects(peer["podSelector"], others)
        for port in _ports(rule)
    }


def _references(pod: Pod) -> Iterator[tuple[str, str]]:
    for volume in pod.spec.get("volumes", []):
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
    for container in pod.containers:
        for source in container.get("envFrom", []):
            yield "ConfigMap", source["configMapRef"]["name"]
        for variable in container.get("env", []):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            if reference is not None:
                yield "Secret", reference["name"]
    if "serviceAccountName" in pod.spec:
        yield "ServiceAccount", pod.spec["serviceAccountName"]


def _strimzis(manifests: list[Manifest]) -> list[dict[str, str]]:
    """The labels of the pods that Strimzi makes of a Kafka."""
    return [
        {
            "strimzi.io/cluster": it["metadata"]["name"],
            "strimzi.io/kind": "Kafka",
            "strimzi.io/name": f"{it['metadata']['name']}-{part}",
        }
        for it in manifests
        if it["kind"] == "Kafka"
        for part in ("kafka", "entity-operator")
    ]
