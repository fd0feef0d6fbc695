"""What names something else: images, secrets, variables, volumes, Services."""

import re
from collections.abc import Iterator
from typing import Final

from tools.k8s.manifests import Manifest, Pod, pods
from tools.k8s.rules.selectors import has, name_of

_SMALL_SECRET: Final = re.compile(r"(?i)(password|token|secret|_key)$")
_EXPANDED: Final = re.compile(r"\$\(([A-Z0-9_]+)\)")
_ADDRESS: Final = re.compile(
    r"\bredis(?:s)?://[^$\s]*:[^$@\s]+@|\bpostgres(?:ql)?://[^$\s]*:[^$@\s]+@"
)
_OURS: Final = "login-blocking/"
_NOBODYS_REGISTRY: Final = "registry.invalid"
_REST_OF_IMAGE: Final = re.compile(r"^[a-z0-9./-]+:[0-9][\w.-]*(@sha256:[0-9a-f]{64})?$")


def images_are_pinned(manifests: list[Manifest]) -> Iterator[str]:
    """A version for each image, and no registry: that is the cluster's or the overlay's to say."""
    for pod in pods(manifests):
        for container in pod.containers:
            image = container.get("image", "")
            if not _REST_OF_IMAGE.match(image) or image.endswith(":latest"):
                yield f"{pod.name}/{container['name']}: image {image!r} has no version"
            host, _, name = image.partition("/")
            if "." in host and name and host != _NOBODYS_REGISTRY:
                yield f"{pod.name}/{container['name']}: image {image!r} names a registry"


def nobody_else_gives_our_images(manifests: list[Manifest]) -> Iterator[str]:
    """None can be pulled as shipped: a public registry's owner of the name would have all."""
    for pod in pods(manifests):
        for container in pod.containers:
            image = container.get("image", "")
            if _OURS not in image or image.startswith(f"{_NOBODYS_REGISTRY}/{_OURS}"):
                continue
            if container.get("imagePullPolicy") != "Never":
                yield f"{pod.name}/{container['name']}: {image!r} may be pulled from anywhere"


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
                    yield f"{name_of(it)}: {key} belongs in a Secret"
        if it["kind"] != "Secret" and _ADDRESS.search(str(it)):
            yield f"{name_of(it)}: a URL with its password"


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


def secrets_have_the_keys_asked_for(manifests: list[Manifest]) -> Iterator[str]:
    """And no others: a secret that nobody reads can only be lost."""
    asked: dict[str, dict[str, bool]] = {}
    for pod in pods(manifests):
        for container in pod.containers:
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                if reference is not None:
                    keys = asked.setdefault(reference["name"], {})
                    needed = not reference.get("optional", False)
                    keys[reference["key"]] = keys.get(reference["key"], False) or needed
    for it in manifests:
        if it["kind"] != "Secret":
            continue
        keys, has = asked.get(it["metadata"]["name"], {}), it["data"].keys()
        for key in sorted({key for key, needed in keys.items() if needed} - has):
            yield f"{name_of(it)}: {key} is missing"
        for key in sorted(has - keys.keys()):
            yield f"{name_of(it)}: nobody reads {key}"


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
            yield f"{name_of(it)}: reachable from outside"
        chosen = [p for p in pods(manifests) if has(p.labels, it["spec"]["selector"])]
        if not chosen:
            yield f"{name_of(it)}: selects nothing"
        for pod in chosen:
            named = {p["name"]: p["containerPort"] for c in pod.containers for p in c["ports"]}
            for port in it["spec"]["ports"]:
                if named.get(port["targetPort"]) != port["port"]:
                    yield f"{name_of(it)}: port {port['port']} is not {pod.name}'s"


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
