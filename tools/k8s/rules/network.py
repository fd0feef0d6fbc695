"""Who may talk to whom, and by which of Kafka's rights."""

from collections.abc import Iterator
from typing import Any, Final

from tools.k8s.manifests import Manifest, pods
from tools.k8s.rules.selectors import name_of, selects

_DNS: Final = "kube-dns"


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
        elif not selects(policies[name]["spec"]["podSelector"], pod.labels):
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
                if not any(selects(one, pod) for pod in labels):
                    yield f"{name_of(it)}: {one} selects nothing"


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
            if not selects(it["spec"]["podSelector"], pod.labels):
                continue
            opened = {p["containerPort"] for c in pod.containers for p in c.get("ports", [])}
            for port in {p for rule in it["spec"]["ingress"] for p in _ports(rule)} - opened:
                yield f"{name_of(it)}: {pod.name} does not listen at {port}"


def nobody_reaches_everywhere(manifests: list[Manifest]) -> Iterator[str]:
    """Each egress names whom. In dev Flink may ask any address at the API server's ports."""
    dev = any(it["kind"] == "Secret" for it in manifests)
    for it in manifests:
        if it["kind"] != "NetworkPolicy":
            continue
        for rule in it["spec"].get("egress", []):
            blocks = [peer["ipBlock"]["cidr"] for peer in rule.get("to", []) if "ipBlock" in peer]
            if rule.get("to") and not any(block.endswith("/0") for block in blocks):
                continue
            flinks = it["metadata"]["name"] in ("flink-jobmanager", "flink-taskmanager")
            if not (dev and flinks and _ports(rule) == {443, 6443}):
                yield f"{name_of(it)}: reaches every address"


def blocked_api_reaches_redis_alone(manifests: list[Manifest]) -> Iterator[str]:
    """And DNS, to find it."""
    (pod,) = (it for it in pods(manifests) if it.labels["app.kubernetes.io/name"] == "blocked-api")
    rules = [
        rule
        for it in manifests
        if it["kind"] == "NetworkPolicy" and selects(it["spec"]["podSelector"], pod.labels)
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


def brokers_are_apart(manifests: list[Manifest]) -> Iterator[str]:
    """One a node, and only brokers counted: else one node's end is the end of a majority."""
    for it in manifests:
        if it["kind"] != "Kafka":
            continue
        spread = it["spec"]["kafka"]["template"]["pod"].get("topologySpreadConstraints", [])
        brokers = {"matchLabels": {"strimzi.io/name": f"{it['metadata']['name']}-kafka"}}
        if any(constraint["labelSelector"] != brokers for constraint in spread):
            yield f"{name_of(it)}: others than brokers are counted"
        nodes = sum(
            pool["spec"]["replicas"] for pool in manifests if pool["kind"] == "KafkaNodePool"
        )
        if not any(
            constraint["topologyKey"] == "kubernetes.io/hostname"
            and constraint["whenUnsatisfiable"] == "DoNotSchedule"
            and constraint["maxSkew"] == 1
            and constraint.get("minDomains") == nodes
            for constraint in spread
        ):
            yield f"{name_of(it)}: two brokers may share a node"


def kafka_users_have_only_their_topics(manifests: list[Manifest]) -> Iterator[str]:
    """No right to all, no wildcard, no topic that is not made."""
    topics = {it["metadata"]["name"] for it in manifests if it["kind"] == "KafkaTopic"}
    for it in manifests:
        if it["kind"] != "KafkaUser":
            continue
        if it["spec"]["authentication"] != {"type": "scram-sha-512"}:
            yield f"{name_of(it)}: not by SCRAM"
        for acl in it["spec"]["authorization"]["acls"]:
            resource = acl["resource"]
            if resource.get("patternType") != "literal" or resource.get("name") == "*":
                yield f"{name_of(it)}: a right by pattern"
            if "All" in acl["operations"]:
                yield f"{name_of(it)}: a right to everything"
            if resource["type"] == "topic" and resource["name"] not in topics:
                yield f"{name_of(it)}: {resource['name']} is no topic"


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
        if it["kind"] == "NetworkPolicy" and selects(it["spec"]["podSelector"], mine)
        for rule in it["spec"].get(direction, [])
        for peer in rule.get(side, [])
        if set(peer) == {"podSelector"} and selects(peer["podSelector"], others)
        for port in _ports(rule)
    }


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
