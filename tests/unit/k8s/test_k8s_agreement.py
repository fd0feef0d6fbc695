"""What stands twice stands the same: copies, settings, topics, rights, versions, alerts."""

import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from pydantic_settings import BaseSettings

from blocked_api.settings import Settings as BlockedApiSettings
from flink_jobs.settings import Settings as DetectorSettings
from login_api import topics
from login_api.settings import Settings as LoginApiSettings
from tests.support.deployed_settings import deployed
from tools.k8s import copies
from tools.k8s.manifests import K8S, OVERLAYS, Manifest, Pod, RenderError, pods, render
from tools.stack.layout import ROOT

Rendered = Callable[[str], list[Manifest]]


def test_copies_are_equal_to_their_originals() -> None:
    stale = [it for it, content in copies.wanted().items() if it.read_bytes() != content]
    assert stale == [], "make k8s-files renews them"


ENV_FILES: Final[dict[str, type[BaseSettings]]] = {
    "base/login-api/settings.env": LoginApiSettings,
    "base/blocked-api/settings.env": BlockedApiSettings,
    "base/detector.env": DetectorSettings,
}
SECRET: Final = frozenset({
    "LOGIN_API_DATABASE_URL", "LOGIN_API_REDIS_URL", "LOGIN_API_PLACES_KEY",
    "LOGIN_API_ADMIN_TOKEN", "LOGIN_API_KAFKA_PASSWORD",
    "BLOCKED_API_REDIS_URL", "BLOCKED_API_TOKEN",
    "DETECTOR_REDIS_URL", "DETECTOR_KAFKA_PASSWORD",
})  # fmt: skip


@pytest.mark.parametrize(("file", "settings"), ENV_FILES.items())
def test_env_files_list_every_setting_that_is_no_secret(
    file: str, settings: type[BaseSettings]
) -> None:
    text = (K8S / file).read_text()
    listed = re.findall(r"^(?:# )?([A-Z0-9_]+)=", text, re.MULTILINE)
    assert sorted(listed) == sorted(deployed(settings) - SECRET)


def variables(pod: Pod, manifests: list[Manifest]) -> dict[str, str]:
    """What a pod's first container finds in its environment; a secret's value is its own name."""
    maps = {it["metadata"]["name"]: it["data"] for it in manifests if it["kind"] == "ConfigMap"}
    container = pod.spec["containers"][0]
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found |= maps[source["configMapRef"]["name"]]
    for it in container.get("env", []):
        found[it["name"]] = it.get("value", f"<{it['name']}>")
    return found


READERS: Final = (
    ("dev", "Deployment/login-api", LoginApiSettings),
    ("dev", "Deployment/blocked-api", BlockedApiSettings),
    ("dev", "Deployment/flink-jobmanager", DetectorSettings),
    ("prod", "Deployment/login-api", LoginApiSettings),
    ("prod", "Deployment/blocked-api", BlockedApiSettings),
    ("prod", "FlinkDeployment/block-detector", DetectorSettings),
)
VALUES: Final = {
    "LOGIN_API_DATABASE_URL": "postgresql://user:word@host/db",
    "LOGIN_API_REDIS_URL": "redis://user:word@host:6379/0",
    "BLOCKED_API_REDIS_URL": "redis://user:word@host:6379/0",
    "DETECTOR_REDIS_URL": "redis://user:word@host:6379/0",
}


@pytest.mark.parametrize("reader", READERS, ids=lambda it: f"{it[0]}-{it[1]}")
def test_the_settings_class_takes_what_its_container_gets(
    rendered: Rendered,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    reader: tuple[str, str, type[BaseSettings]],
) -> None:
    overlay, name, settings = reader
    pod = next(it for it in pods(rendered(overlay)) if it.name == name)
    prefix = str(settings.model_config["env_prefix"])
    given = {k: v for k, v in variables(pod, rendered(overlay)).items() if k.startswith(prefix)}
    assert set(given) <= deployed(settings)
    for key, value in given.items():
        if key.endswith("_FILE"):  # mounted there, not here
            assert mounted(pod, value), key
            value = str(tmp_path / "file")  # noqa: PLW2901
            Path(value).write_text("")
        monkeypatch.setenv(key, VALUES.get(key, "long-enough-secret" if "<" in value else value))
    settings()


def mounted(pod: Pod, file: str) -> bool:
    mounts = [it["mountPath"] for it in pod.spec["containers"][0]["volumeMounts"]]
    return str(Path(file).parent) in mounts


def test_the_login_api_hashes_on_the_cores_it_has(rendered: Rendered) -> None:
    for overlay in OVERLAYS:
        pod = next(it for it in pods(rendered(overlay)) if it.name == "Deployment/login-api")
        cores = pod.spec["containers"][0]["resources"]["limits"]["cpu"]
        given = variables(pod, rendered(overlay))
        assert given["LOGIN_API_HASH_CONCURRENCY"] == str(cores)


def test_images_have_the_projects_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for overlay in OVERLAYS:
        file = yaml.safe_load((K8S / "overlays" / overlay / "kustomization.yaml").read_text())
        ours = [it for it in file["images"] if it["name"].startswith("login-blocking/")]
        assert {it["newTag"] for it in ours} == {version}
        assert len(ours) == 3


def test_the_documented_line_names_a_registry_for_all_images(k8s: Path, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    (line,) = re.findall(r"^ +(sed -i .+registry\.invalid.+)$", text, re.MULTILINE)
    shutil.copytree(k8s, tmp_path / "k8s")
    subprocess.run(
        ["sh", "-c", line.replace("REGISTRY", "registry.example.org/team")],
        cwd=tmp_path,
        check=True,
    )
    images = {it.containers[0]["image"] for it in pods(render(tmp_path / "k8s/overlays/prod"))}
    assert {it.rpartition(":")[0] for it in images} == {
        f"registry.example.org/team/login-blocking/{it}"
        for it in ("login-api", "blocked-api", "flink")
    }


def test_public_images_are_those_of_compose(rendered: Rendered) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for pod in pods(rendered("dev")):
        name = pod.owner["metadata"]["name"]
        if name in compose:
            assert pod.containers[0]["image"] == compose[name]["image"], name


def test_users_of_images_are_those_of_compose(rendered: Rendered) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for pod in pods(rendered("dev")):
        context = pod.spec["securityContext"]
        service = compose[pod.owner["metadata"]["name"]]
        assert service["user"] == f"{context['runAsUser']}:{context['runAsGroup']}"


def test_kafka_is_set_as_in_compose() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["kafka"]
    wanted = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in compose["environment"].items()
        if name.startswith("KAFKA_") and name not in ("KAFKA_HEAP_OPTS", "KAFKA_LOG4J_OPTS")
    }
    lines = (K8S / "components" / "kafka" / "files" / "server.properties").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    # A folder below the volume, which may hold lost+found; a name in place of an address.
    different = {"log.dirs", "controller.quorum.voters", "listeners"}
    assert given.keys() == wanted.keys()
    assert {k for k in given if given[k] != wanted[k]} <= different


def test_topics_are_those_that_are_made_elsewhere(rendered: Rendered) -> None:
    made = {
        it["metadata"]["name"]: it["spec"] for it in rendered("prod") if it["kind"] == "KafkaTopic"
    }
    configs = {
        name: {key: str(value) for key, value in spec["config"].items()}
        for name, spec in made.items()
    }
    assert configs == {name: dict(config) for name, config in topics.CONFIGS.items()}
    assert {spec["replicas"] for spec in made.values()} == {3}


def test_parallelism_goes_evenly_into_partitions_and_key_groups(rendered: Rendered) -> None:
    (attempts,) = (it for it in rendered("prod") if it["metadata"]["name"] == "login-attempts")
    (flink,) = (it["spec"] for it in rendered("prod") if it["kind"] == "FlinkDeployment")
    most = int(flink["flinkConfiguration"]["job.autoscaler.vertex.max-parallelism"])
    assert attempts["spec"]["partitions"] == most
    assert most % int(flink["job"]["parallelism"]) == 0
    assert int(flink["flinkConfiguration"]["pipeline.max-parallelism"]) % most == 0


def rights(manifests: list[Manifest]) -> set[tuple[str, str, str, str]]:
    return {
        (it["metadata"]["name"], acl["resource"]["type"], acl["resource"]["name"], operation)
        for it in manifests
        if it["kind"] == "KafkaUser"
        for acl in it["spec"]["authorization"]["acls"]
        for operation in acl["operations"]
    }


def test_kafkas_users_have_the_rights_of_the_table(rendered: Rendered) -> None:
    table = {
        (user, kind, name, operation.strip())
        for user, kind, name, operations in re.findall(
            r"^\| `([\w-]+)` \| (\w+) \| `([\w-]+)` \| ([\w, ]+?) \|",
            (ROOT / "docs" / "kafka-security.md").read_text(),
            re.MULTILINE,
        )
        for operation in operations.split(",")
    }
    here = {it for it in table if it[0] in ("login-api", "detector")}
    assert rights(rendered("prod")) == here
    assert len(here) == 9


def test_clients_log_in_as_kafkas_users(rendered: Rendered) -> None:
    users = {it["metadata"]["name"] for it in rendered("prod") if it["kind"] == "KafkaUser"}
    named = {
        value
        for pod in pods(rendered("prod"))
        for key, value in variables(pod, rendered("prod")).items()
        if key.endswith("_KAFKA_USERNAME")
    }
    assert named == users


def test_prometheus_operator_scrapes_what_the_alerts_name(rendered: Rendered) -> None:
    plain = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    jobs: dict[str, Any] = {it["job_name"]: it for it in plain["scrape_configs"]}
    del jobs["prometheus"]
    monitors = {
        it["metadata"]["name"]: it["spec"]
        for it in rendered("prod")
        if it["kind"] in ("ServiceMonitor", "PodMonitor")
    }
    assert monitors.keys() == jobs.keys()
    for name, spec in monitors.items():
        (endpoint,) = spec.get("endpoints") or spec["podMetricsEndpoints"]
        relabelled = [it["replacement"] for it in endpoint.get("relabelings", [])]
        assert relabelled in ([], [name])
        dropped = [it["regex"] for it in endpoint.get("metricRelabelings", [])]
        assert dropped == [it["regex"] for it in jobs[name].get("metric_relabel_configs", [])]


def test_what_prometheus_operator_scrapes_declares_its_port(rendered: Rendered) -> None:
    """A port that no container declares is no target: the monitor would find nothing, silently."""
    monitors = [it["spec"] for it in rendered("prod") if it["kind"] == "PodMonitor"]
    assert len(monitors) == 2
    for spec in monitors:
        wanted = spec["selector"]["matchLabels"].items()
        (pod,) = (it for it in pods(rendered("prod")) if wanted <= it.labels.items())
        declared = {p["name"]: p["containerPort"] for c in pod.containers for p in c["ports"]}
        (endpoint,) = spec["podMetricsEndpoints"]
        (flink,) = (it for it in rendered("prod") if it["kind"] == "FlinkDeployment")
        told = flink["spec"]["flinkConfiguration"]["metrics.reporter.prom.port"]
        assert str(declared[endpoint["port"]]) == told


def test_without_secrets_dev_says_which_file_is_missing(tmp_path: Path) -> None:
    shutil.copytree(K8S, tmp_path / "k8s", ignore=shutil.ignore_patterns("secrets.env"))
    with pytest.raises(RenderError, match=r"secrets\.env"):
        render(tmp_path / "k8s" / "overlays" / "dev")
    remedy = (K8S / "overlays" / "dev" / "kustomization.yaml").read_text()
    assert "make k8s-secrets" in remedy


def test_no_secrets_are_in_git() -> None:
    ignored = (K8S / "overlays" / "dev" / ".gitignore").read_text().split()
    assert "secrets.env" in ignored
