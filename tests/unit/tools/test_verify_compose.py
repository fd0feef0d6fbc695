"""How verify-compose reads what compose renders, and what podman is told of it."""

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from tools.verify_compose.containers import Addresses, run_arguments, tmpfs_as_docker
from tools.verify_compose.rendered import Project, project, seconds

DOCUMENT: dict[str, Any] = {
    "services": {
        "web": {
            "image": "web:1",
            "command": ["serve", "--all"],
            "entrypoint": ["/bin/sh", "-c"],
            "environment": {"SECRET": "hunter2", "PRICE": "5$$", "UNSET": None},
            "user": "10001:10001",
            "read_only": True,
            "init": False,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
            "tmpfs": ["/scratch:mode=1777", "/run/secrets:uid=7,mode=0700"],
            "mem_limit": "1048576",
            "pids_limit": 10,
            "restart": "unless-stopped",
            "stop_grace_period": "1m10s",
            "ports": [{"host_ip": "127.0.0.1", "published": "8000", "target": 80}],
            "volumes": [
                {"type": "volume", "source": "data", "target": "/data", "volume": {}},
                {"type": "bind", "source": "/conf", "target": "/etc/web", "read_only": True},
            ],
            "networks": {"front": None, "back": None},
            "depends_on": {"base": {"condition": "service_healthy", "required": True}},
            "healthcheck": {"test": ["CMD", "ask", "$$me"], "timeout": "5s"},
        },
        "base": {
            "image": "base:1",
            "networks": {"back": None},
            "healthcheck": {"test": ["CMD-SHELL", "ask | grep yes"]},
        },
        "alone": {"image": "alone:1", "networks": {"front": None}},
    },
    "networks": {
        "front": {"ipam": {"config": [{"subnet": "10.9.9.0/28"}]}},
        "back": {"internal": True},
    },
    "volumes": {"data": {}},
}


@pytest.fixture
def example() -> Project:
    return project(DOCUMENT)


def words(example: Project, name: str) -> list[str]:
    addresses = Addresses.plan(example)
    service = example.services[name]
    return run_arguments(service, f"localhost/{name}:1", addresses, "p-", Path("/env"))


def test_whoever_is_waited_for_comes_first(example: Project) -> None:
    assert [it.name for it in example.in_order()] == ["base", "web", "alone"]


def test_a_variable_without_a_value_is_not_given(example: Project) -> None:
    web = example.services["web"]
    assert web.environment == {"SECRET": "hunter2", "PRICE": "5$"}
    assert web.passed_on == {"UNSET"}


def test_a_secret_stands_on_no_command_line(example: Project) -> None:
    assert not any("hunter2" in word for word in words(example, "web"))


def test_confinement_is_handed_on_and_podmans_own_additions_are_off(example: Project) -> None:
    told = words(example, "web")
    for wanted in ("--read-only", "--read-only-tmpfs=false", "--cap-drop=all"):
        assert wanted in told
    for option, value in (
        ("--user", "10001:10001"), ("--security-opt", "no-new-privileges"),
        ("--memory", "1048576"), ("--pids-limit", "10"), ("--restart", "unless-stopped"),
        ("--stop-timeout", "70"), ("--publish", "127.0.0.1:8000:80"),
    ):  # fmt: skip
        assert told[told.index(option) + 1] == value


def test_what_the_file_does_not_take_away_is_not_taken_away(example: Project) -> None:
    """Or verify-compose would prove a confinement that compose does not make."""
    told = words(example, "base")
    assert not {"--read-only", "--cap-drop=all", "--security-opt", "--user"} & {*told}


def test_volumes_bear_the_prefix_and_paths_do_not(example: Project) -> None:
    told = words(example, "web")
    volumes = [told[at + 1] for at, word in enumerate(told) if word == "--volume"]
    assert volumes[1:] == ["p-data:/data", "/conf:/etc/web:ro"]


def test_a_name_is_known_to_whoever_shares_a_network_only(example: Project) -> None:
    addresses = Addresses.plan(example)
    assert addresses.seen_from("base").keys() == {"base", "web"}
    assert addresses.seen_from("alone").keys() == {"alone", "web"}
    assert addresses.seen_from("web")["base"] == addresses.of("base", "back")


def test_a_fixed_subnet_is_kept_and_its_first_address_left_to_the_gateway(example: Project) -> None:
    addresses = Addresses.plan(example)
    assert addresses.of("alone", "front") == ip_address("10.9.9.2")
    assert addresses.of("web", "front") == ip_address("10.9.9.3")


def test_a_health_check_is_podmans_list_or_a_shells(example: Project) -> None:
    told = words(example, "web")
    assert told[told.index("--health-cmd") + 1] == '["ask", "$me"]'
    told = words(example, "base")
    assert told[told.index("--health-cmd") + 1] == '["CMD-SHELL", "ask | grep yes"]'


def test_the_command_comes_last(example: Project) -> None:
    assert words(example, "web")[-3:] == ["localhost/web:1", "serve", "--all"]


def test_tmpfs_is_as_docker_mounts_it() -> None:
    assert tmpfs_as_docker("/scratch") == "/scratch:nosuid,nodev,noexec,notmpcopyup"
    assert tmpfs_as_docker("/x:exec,size=1m") == "/x:exec,size=1m,nosuid,nodev,notmpcopyup"


def test_a_tmpfs_of_somebodys_is_a_volume_for_podman(example: Project) -> None:
    assert "p-web-run-secrets:/run/secrets" in words(example, "web")
    assert not any(word.startswith("/run/secrets:uid") for word in words(example, "web"))


def test_durations() -> None:
    assert (seconds("1m30s"), seconds("5s"), seconds("3m0s")) == (90.0, 5.0, 180.0)
