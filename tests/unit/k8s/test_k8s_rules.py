"""The rules of tools/k8s/rules.py: every overlay keeps them, and each of them can be broken."""

import copy
from collections.abc import Callable
from typing import Any, Final

import pytest

from tools.k8s import rules
from tools.k8s.manifests import OVERLAYS, Manifest
from tools.k8s.rules import RULES, Rule

Rendered = Callable[[str], list[Manifest]]
GONE: Final = object()


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("rule", RULES, ids=lambda it: it.__name__)
def test_every_overlay_keeps_every_rule(rendered: Rendered, rule: Rule, overlay: str) -> None:
    assert list(rule(rendered(overlay))) == []


SPEC = "spec.template.spec"
LOGIN, BLOCKED, JM = "Deployment/login-api", "Deployment/blocked-api", "Deployment/flink-jobmanager"
CONTAINER = f"{SPEC}.containers.0"
FLINK = "FlinkDeployment/block-detector"
NS = "Namespace/login-blocking"
PODS_LABELS = "spec.template.metadata.labels"
ONE_RULE = {"ports": [{"protocol": "TCP", "port": 5432}]}

BROKEN: Final[list[tuple[Rule, str, str, str, Any]]] = [
    (rules.namespace_is_restricted, "dev", NS, "metadata.labels.pod-security~enforce", "baseline"),
    (rules.all_in_one_namespace, "dev", LOGIN, "metadata.namespace", "default"),
    (rules.pods_are_restricted, "dev", LOGIN, f"{SPEC}.securityContext.runAsNonRoot", False),
    (rules.pods_are_restricted, "dev", "Job/topics", f"{SPEC}.hostNetwork", True),
    (rules.pods_are_restricted, "dev", "StatefulSet/redis", f"{SPEC}.securityContext.seccompProfile", GONE),
    (rules.pods_are_restricted, "dev", LOGIN, f"{CONTAINER}.securityContext.readOnlyRootFilesystem", False),
    (rules.pods_are_restricted, "dev", LOGIN, f"{SPEC}.volumes.0", {"name": "tmp", "hostPath": {"path": "/"}}),
    (rules.pods_are_restricted, "prod", FLINK, "spec.podTemplate.spec.containers.0.securityContext", {}),
    (rules.volumes_are_owned, "dev", "StatefulSet/kafka", f"{SPEC}.securityContext.fsGroup", GONE),
    (rules.tokens_only_for_flink, "dev", BLOCKED, f"{SPEC}.automountServiceAccountToken", GONE),
    (rules.tokens_only_for_flink, "dev", BLOCKED, f"{SPEC}.enableServiceLinks", GONE),
    (rules.flinks_role_is_small, "prod", "Role/flink", "rules.0.resources", ["pods", "secrets"]),
    (rules.containers_are_bounded, "dev", "Job/topics", f"{CONTAINER}.resources.limits.memory", GONE),
    (rules.servers_are_probed, "dev", "StatefulSet/postgres", f"{CONTAINER}.startupProbe", GONE),
    (rules.servers_are_probed, "dev", LOGIN, f"{CONTAINER}.livenessProbe.httpGet.path", "/readyz"),
    (rules.updates_drop_no_call, "dev", LOGIN, f"{CONTAINER}.lifecycle", GONE),
    (rules.updates_drop_no_call, "dev", LOGIN, "spec.strategy.rollingUpdate.maxUnavailable", 1),
    (rules.updates_drop_no_call, "dev", "PodDisruptionBudget/login-api", "spec.selector.matchLabels", {"a": "b"}),
    (rules.histories_are_short, "dev", JM, "spec.revisionHistoryLimit", GONE),
    (rules.jobs_can_be_applied_again, "dev", "Job/topics", "spec.ttlSecondsAfterFinished", GONE),
    (rules.jobs_can_be_applied_again, "dev", "Job/topics", f"{CONTAINER}.envFrom", [{"configMapRef": {"name": "x"}}]),
    (rules.images_are_pinned, "dev", LOGIN, f"{CONTAINER}.image", "login-blocking/login-api"),
    (rules.images_are_pinned, "dev", LOGIN, f"{CONTAINER}.image", "registry.example/login-api:1.0"),
    (rules.no_secret_is_told, "dev", BLOCKED, f"{CONTAINER}.env.0", {"name": "BLOCKED_API_TOKEN", "value": "x"}),
    (rules.no_secret_is_told, "dev", "StatefulSet/redis", f"{CONTAINER}.command", ["$(REDIS_ADMIN_PASSWORD)"]),
    (rules.no_secret_is_told, "dev", BLOCKED, f"{CONTAINER}.args", ["redis://user:word@redis:6379"]),
    (rules.variables_are_expanded, "dev", LOGIN, f"{CONTAINER}.env.0.name", "OTHER"),
    (rules.variables_are_expanded, "dev", JM, f"{CONTAINER}.args.2", "jobmanager.rpc.address=$(POD_IPP)"),
    (rules.references_lead_somewhere, "dev", JM, f"{SPEC}.serviceAccountName", "other"),
    (rules.references_lead_somewhere, "prod", FLINK, "spec.jobManager.podTemplate.spec.volumes.0.configMap.name", "x"),
    (rules.claims_are_mounted_where_used, "dev", JM, f"{SPEC}.volumes.0.name", "other"),
    (rules.services_lead_to_pods, "dev", "Service/redis", "spec.selector", {"app": "redis"}),
    (rules.services_lead_to_pods, "dev", "Service/redis", "spec.ports.0.port", 6380),
    (rules.services_lead_to_pods, "dev", "Service/flink-jobmanager", "spec.type", "LoadBalancer"),
    (rules.nobody_talks_by_default, "dev", "NetworkPolicy/default-deny", "spec.policyTypes", ["Ingress"]),
    (rules.workloads_have_policies, "dev", "NetworkPolicy/kafka", "metadata.name", "other"),
    (rules.workloads_have_policies, "dev", "NetworkPolicy/kafka", "spec.podSelector.matchLabels", {"a": "b"}),
    (rules.policies_select_pods, "dev", "NetworkPolicy/redis", "spec.ingress.0.from.0.podSelector", {"matchLabels": {"a": "b"}}),
    (rules.policies_agree, "dev", "NetworkPolicy/to-redis", "spec.egress.0.ports.0.port", 6380),
    (rules.policies_agree, "dev", "NetworkPolicy/postgres", "spec.ingress", []),
    (rules.allowed_ports_are_open, "dev", "NetworkPolicy/kafka", "spec.ingress.0.ports.0.port", 9093),
    (rules.blocked_api_reaches_redis_alone, "dev", "NetworkPolicy/blocked-api", "spec.egress.0", ONE_RULE),
    (rules.blocked_api_reaches_redis_alone, "dev", "NetworkPolicy/to-postgres", "spec.podSelector", {}),
    (rules.blocked_api_reaches_redis_alone, "prod", "NetworkPolicy/to-redis", "spec.podSelector.matchExpressions.0.values", ["login-api"]),
    (rules.kafka_users_have_only_their_topics, "prod", "KafkaUser/login-api", "spec.authorization.acls.0.operations", ["All"]),
    (rules.kafka_users_have_only_their_topics, "prod", "KafkaUser/login-api", "spec.authorization.acls.0.resource.name", "*"),
    (rules.autoscaled_have_no_replicas, "prod", LOGIN, "spec.replicas", 3),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "overlay", "name", "path", "value"), BROKEN)
def test_a_broken_manifest_is_noticed(
    rendered: Rendered, rule: Rule, overlay: str, name: str, path: str, value: object
) -> None:
    broken = copy.deepcopy(rendered(overlay))
    kind, _, called = name.partition("/")
    (it,) = (it for it in broken if it["kind"] == kind and it["metadata"]["name"] == called)
    put(it, path, value)
    assert list(rule(broken)) != []


def test_each_rule_is_broken_once() -> None:
    assert {it[0] for it in BROKEN} == set(RULES)


def put(it: Manifest, path: str, value: object) -> None:
    *way, last = path.replace("pod-security~", "pod-security\0").split(".")
    last = last.replace("pod-security\0", "pod-security.kubernetes.io/")
    at: Any = it
    for step in way:
        at = at[int(step)] if isinstance(at, list) else at[step]
    key: Any = int(last) if isinstance(at, list) else last
    if value is GONE:
        del at[key]
    else:
        at[key] = value
