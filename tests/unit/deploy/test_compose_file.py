"""docker-compose.yml promises things; here they are counted out, without an engine."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from tests.support.deployed_settings import CLASSES, deployed
from tests.support.services import REPOSITORY

COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
_EXAMPLES_NOT_DEFAULTS = {"LOGIN_API_FORWARDED_HEADER", "BLOCKED_API_FORWARDED_HEADER"}
ONCE = {"topics", "block-detector"}
EXAMPLE = (REPOSITORY / ".env.example").read_text()

# Who may meet whom, and nobody else: each pair is there for the reason beside it.
MAY_MEET = {
    frozenset({"login-api", "postgres"}),  # accounts, outbox
    frozenset({"login-api", "redis"}),  # the guard
    frozenset({"login-api", "kafka"}),  # attempts, commands
    frozenset({"blocked-api", "redis"}),  # all that it reads
    frozenset({"topics", "kafka"}),
    frozenset({"topics", "login-api"}),  # both at Kafka
    frozenset({"flink-jobmanager", "flink-taskmanager"}),
    frozenset({"flink-jobmanager", "kafka"}),  # finds the partitions
    frozenset({"flink-taskmanager", "kafka"}),
    frozenset({"flink-taskmanager", "redis"}),  # writes blocks
    frozenset({"block-detector", "flink-jobmanager"}),
    frozenset({"block-detector", "flink-taskmanager"}),  # both of Flink's network
    frozenset({"detector-keeper", "flink-jobmanager"}),
    frozenset({"detector-keeper", "flink-taskmanager"}),
    frozenset({"block-detector", "detector-keeper"}),
    *(frozenset({"prometheus", it}) for it in ("login-api", "blocked-api")),
    *(frozenset({"prometheus", it}) for it in ("flink-jobmanager", "flink-taskmanager")),
    *(frozenset({"prometheus", it}) for it in ("block-detector", "detector-keeper")),
    frozenset({"prometheus", "grafana"}),
}


def test_every_service_gives_up_all_that_it_does_not_need() -> None:
    for name, service in SERVICES.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert re.fullmatch(r"[1-9]\d*:\d+", service["user"]), f"{name}: a number, not root"
        assert service["init"] is True, name
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name
        assert "privileged" not in service, name
        assert "cap_add" not in service, name
        assert "network_mode" not in service, name


def test_every_service_has_a_health_check_or_ends() -> None:
    for name, service in SERVICES.items():
        if name in ONCE:
            assert service["restart"] == "no", name
            assert service["healthcheck"] == {"disable": True}, name
        else:
            assert service["restart"] == "unless-stopped", name
            assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name


def test_each_step_that_ends_is_waited_for() -> None:
    """`up --wait` takes a step's end for a failure unless a service waits for just that."""
    for step in ONCE:
        conditions = {
            service["depends_on"][step]["condition"]
            for service in SERVICES.values()
            if step in service.get("depends_on", {})
        }
        assert conditions == {"service_completed_successfully"}, step


def test_whoever_waits_for_a_service_waits_until_it_is_healthy() -> None:
    for name, service in SERVICES.items():
        for other, condition in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other in ONCE else "service_healthy"
            assert condition["condition"] == wanted, f"{name} on {other}"


def test_images_are_pinned() -> None:
    for name, service in SERVICES.items():
        _, _, tag = service["image"].partition(":")
        assert re.search(r"\d", tag), name
        assert tag != "latest", name


def test_our_images_carry_the_projects_version_and_are_built_once() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    ours = [it for it in SERVICES.values() if it["image"].startswith("login-blocking/")]
    assert {it["image"].partition(":")[2] for it in ours} == {project["version"]}
    built = {it["image"]: it["build"]["dockerfile"] for it in ours if "build" in it}
    assert built.keys() == {it["image"] for it in ours}
    for dockerfile in built.values():
        assert (REPOSITORY / dockerfile).is_file()


def test_our_images_are_never_fetched() -> None:
    """Without a registry their names are of a public one, where anybody may own them."""
    for name, service in SERVICES.items():
        if service["image"].startswith("login-blocking/"):
            assert service["pull_policy"] == "never", name


def test_ports_are_published_on_loopback_only() -> None:
    published = {}
    for name, service in SERVICES.items():
        for port in service.get("ports", ()):
            match = re.fullmatch(r"127\.0\.0\.1:\$\{STACK_PORT_\w+:-(\d+)\}:\d+", port)
            assert match is not None, f"{name}: {port}"
            published[name] = int(match[1])
    assert published == {
        "login-api": 3000, "blocked-api": 5000, "flink-jobmanager": 8081,
        "prometheus": 9090, "grafana": 3001,
    }  # fmt: skip


def test_nobody_meets_whom_it_need_not() -> None:
    meetings = {
        frozenset({one, other})
        for one in SERVICES
        for other in SERVICES
        if one != other and {*SERVICES[one]["networks"]} & {*SERVICES[other]["networks"]}
    }
    assert meetings == MAY_MEET


def test_only_networks_of_published_ports_have_a_way_out_and_hide_it() -> None:
    published = {
        network
        for service in SERVICES.values()
        if service.get("ports")
        for network in service["networks"]
    }
    for name, network in COMPOSE["networks"].items():
        if not network.get("internal"):
            assert name in published
            masquerade = network["driver_opts"]["com.docker.network.bridge.enable_ip_masquerade"]
            assert masquerade == "false", name


def test_a_published_port_has_a_network_that_is_not_internal() -> None:
    for name, service in SERVICES.items():
        if service.get("ports"):
            networks = [COMPOSE["networks"][it] for it in service["networks"]]
            assert any(not network.get("internal") for network in networks), name


def test_every_secret_is_required_and_made() -> None:
    text = (REPOSITORY / "docker-compose.yml").read_text()
    required = set(re.findall(r"\$\{(\w+):\?is missing, run make env\}", text))
    made = set(re.findall(r"^(\w+)=$", EXAMPLE, re.MULTILINE))
    assert required == made
    for name in re.findall(r"\$\{(\w+)", text):
        secret = any(word in name for word in ("PASSWORD", "KEY", "TOKEN", "SECRET"))
        if secret and name != "BLOCKED_API_TOKEN":
            assert name in made, f"{name} must not have a default"


def test_no_secret_stands_in_the_file() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if value is not None and re.search(r"PASSWORD|_KEY$|TOKEN", variable):
                assert value.startswith("${"), f"{name}: {variable}"


@pytest.mark.parametrize(
    ("settings", "service"),
    list(zip(CLASSES, ("login-api", "blocked-api", "flink-jobmanager"), strict=True)),
)
def test_every_setting_can_be_set(settings: type[BaseSettings], service: str) -> None:
    prefix = str(settings.model_config["env_prefix"])
    given = SERVICES[service]["environment"]
    assert {name for name in given if name.startswith(prefix)} == deployed(settings)


def test_env_example_knows_no_variable_that_nothing_reads() -> None:
    text = (REPOSITORY / "docker-compose.yml").read_text()
    for name in re.findall(r"^(?:# )?([A-Z][A-Z_]+)=", EXAMPLE, re.MULTILINE):
        assert re.search(rf"\$\{{{name}\b|^ +{name}:$", text, re.MULTILINE), name


def test_every_mounted_path_of_the_repository_is_there_and_read_only() -> None:
    for name, service in SERVICES.items():
        for mount in service.get("volumes", ()):
            source, target, *options = re.sub(r"\$\{\w+:-(.+?)\}", r"\1", mount).split(":")
            if source.startswith("."):
                assert (REPOSITORY / source).is_dir(), f"{name}: {source}"
                assert options == ["ro"], f"{name}: {source}"
                assert Path(target).is_absolute()
            else:
                assert source in COMPOSE["volumes"], f"{name}: {source}"


def test_the_policy_is_the_default_one_but_for_whom_it_exempts() -> None:
    ours = yaml.safe_load((REPOSITORY / "deploy/policy/policy.yaml").read_text())
    default = yaml.safe_load((REPOSITORY / "policies/default.yaml").read_text())
    subnet = COMPOSE["networks"]["login-front"]["ipam"]["config"][0]["subnet"]
    gateway = re.sub(r".*:-(.+)\.0/\d+\}", r"\1.1/32", subnet)
    assert ours.pop("exempt")["ips"] == [*default.pop("exempt")["ips"], gateway]
    assert ours == default
