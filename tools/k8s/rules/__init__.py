"""What every manifest must hold beyond its schema. Each rule says what it found wrong, in words."""

from collections.abc import Callable, Iterator
from typing import Final

from tools.k8s.manifests import Manifest
from tools.k8s.rules import network, pods, references

Rule = Callable[[list[Manifest]], Iterator[str]]

RULES: Final[tuple[Rule, ...]] = (
    pods.namespace_is_restricted,
    pods.all_in_one_namespace,
    pods.pods_are_restricted,
    pods.volumes_are_harmless,
    pods.volumes_are_owned,
    pods.claims_for_one_node_keep_their_pods_together,
    pods.tokens_only_for_flink,
    pods.flinks_role_is_small,
    pods.containers_are_bounded,
    pods.servers_are_probed,
    pods.updates_drop_no_call,
    pods.histories_are_short,
    pods.jobs_can_be_applied_again,
    pods.autoscaled_have_no_replicas,
    references.images_are_pinned,
    references.nobody_else_gives_our_images,
    references.no_secret_is_told,
    references.secrets_are_secrets,
    references.variables_are_expanded,
    references.references_lead_somewhere,
    references.secrets_have_the_keys_asked_for,
    references.claims_are_mounted_where_used,
    references.services_lead_to_pods,
    network.nobody_talks_by_default,
    network.workloads_have_policies,
    network.policies_select_pods,
    network.policies_agree,
    network.allowed_ports_are_open,
    network.nobody_reaches_everywhere,
    network.blocked_api_reaches_redis_alone,
    network.brokers_are_apart,
    network.kafka_users_have_only_their_topics,
)
