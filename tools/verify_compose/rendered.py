"""docker-compose.yml as compose itself reads it: variables filled in, anchors resolved."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Final

from tools.stack.binaries import MissingProgramError
from tools.stack.layout import LOCAL, ROOT

COMPOSE_VERSION: Final = "2.40.3"
_MODULE: Final = "github.com/docker/compose/v2"
_BUILT: Final = LOCAL / "tools" / f"docker-compose-{COMPOSE_VERSION}"
_BUILD_TIMEOUT_S: Final = 1_800.0


class RefusedError(Exception):
    """Compose refused the file; the message is its own."""


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a container, and where it is published."""

    host_ip: str
    published: int
    target: int


@dataclass(frozen=True, slots=True)
class Mount:
    """A named volume, or a path of this machine (`bind`)."""

    kind: str
    source: str
    target: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class Health:
    """`test` is None where the image's own counts; `disabled` where none does."""

    test: tuple[str, ...] | None
    disabled: bool
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Service:
    """One service of the file."""

    name: str
    image: str
    entrypoint: tuple[str, ...] | None
    command: tuple[str, ...] | None
    environment: Mapping[str, str]
    passed_on: frozenset[str]
    """Names without a value: given to the container only when they are set outside."""
    user: str
    read_only: bool
    cap_drop: tuple[str, ...]
    security_opt: tuple[str, ...]
    tmpfs: tuple[str, ...]
    mounts: tuple[Mount, ...]
    ports: tuple[Port, ...]
    networks: tuple[str, ...]
    memory: int | None
    shared_memory: int | None
    pids: int | None
    restart: str
    init: bool
    stop_within_s: float
    logging: Mapping[str, Any]
    profiles: tuple[str, ...]
    waits_for: Mapping[str, str]
    """Another service → its condition."""
    health: Health | None

    @property
    def once(self) -> bool:
        """A step that ends, not a service that lasts."""
        return self.restart == "no"


@dataclass(frozen=True, slots=True)
class Network:
    """A network; `subnet` where the file fixes it."""

    name: str
    internal: bool
    subnet: IPv4Network | None


@dataclass(frozen=True, slots=True)
class Project:
    """The whole file."""

    services: Mapping[str, Service]
    networks: Mapping[str, Network]
    volumes: frozenset[str]

    def in_order(self) -> list[Service]:
        """Each after all that it waits for."""
        ordered: dict[str, Service] = {}

        def visit(service: Service) -> None:
            if service.name not in ordered:
                for other in sorted(service.waits_for):
                    visit(self.services[other])
                ordered[service.name] = service

        for name in self.services:
            visit(self.services[name])
        return list(ordered.values())

    def meet(self, one: str, other: str) -> list[str]:
        """The networks on which two services are both."""
        return sorted({*self.services[one].networks} & {*self.services[other].networks})


def compose() -> list[str]:
    """The command: Docker's own plugin if it is here, else one that is built, once."""
    if shutil.which("docker"):
        asked = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        if asked.returncode == 0:
            return ["docker", "compose"]
    if not _BUILT.exists():
        _build()
    return [str(_BUILT)]


def render(env_file: Path, *, profiles: tuple[str, ...] = ("monitoring",)) -> Project:
    """The file with these variables; RefusedError with compose's words."""
    command = [*compose(), "--project-directory", str(ROOT), "-f", str(ROOT / "docker-compose.yml")]
    for profile in profiles:
        command += ["--profile", profile]
    command += ["--env-file", str(env_file), "config", "--format", "json"]
    # Only the file's variables: what this shell has set must not decide what is shown.
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0 or done.stderr.strip():
        raise RefusedError(done.stderr.strip())
    return project(json.loads(done.stdout))


def project(document: Mapping[str, Any]) -> Project:
    """What `config --format json` prints."""
    return Project(
        services={name: _service(name, it) for name, it in document["services"].items()},
        networks={
            name: Network(name, bool((it or {}).get("internal")), _subnet(it or {}))
            for name, it in document["networks"].items()
        },
        volumes=frozenset(document["volumes"]),
    )


def _service(name: str, it: Mapping[str, Any]) -> Service:
    environment = it.get("environment") or {}
    health = it.get("healthcheck")
    return Service(
        name=name,
        image=it["image"],
        entrypoint=_words(it.get("entrypoint")),
        command=_words(it.get("command")),
        environment={key: _plain(value) for key, value in environment.items() if value is not None},
        passed_on=frozenset(key for key, value in environment.items() if value is None),
        user=it.get("user", ""),
        read_only=it.get("read_only", False),
        cap_drop=tuple(it.get("cap_drop", ())),
        security_opt=tuple(it.get("security_opt", ())),
        tmpfs=tuple(it.get("tmpfs", ())),
        mounts=tuple(
            Mount(m["type"], m["source"], m["target"], m.get("read_only", False))
            for m in it.get("volumes", ())
        ),
        ports=tuple(
            Port(p.get("host_ip", ""), int(p["published"]), p["target"])
            for p in it.get("ports", ())
        ),
        networks=tuple(sorted(it.get("networks") or ())),
        memory=_number(it.get("mem_limit")),
        shared_memory=_number(it.get("shm_size")),
        pids=it.get("pids_limit"),
        restart=it.get("restart", "no"),
        init=it.get("init", False),
        stop_within_s=seconds(it.get("stop_grace_period", "10s")),
        logging=it.get("logging") or {},
        profiles=tuple(it.get("profiles", ())),
        waits_for={
            other: condition["condition"]
            for other, condition in (it.get("depends_on") or {}).items()
        },
        health=None
        if health is None
        else Health(
            _words(health.get("test")),
            bool(health.get("disable")),
            seconds(health.get("timeout", "30s")),
        ),
    )


def _words(given: list[str] | None) -> tuple[str, ...] | None:
    return None if given is None else tuple(map(_plain, given))


def _plain(text: str) -> str:
    """Compose prints each dollar twice, so that its output can be read as a file again."""
    return text.replace("$$", "$")


def _number(given: str | int | None) -> int | None:
    return None if given is None else int(given)


def _subnet(network: Mapping[str, Any]) -> IPv4Network | None:
    for config in (network.get("ipam") or {}).get("config", ()):
        return IPv4Network(config["subnet"])
    return None


def seconds(duration: str) -> float:
    """Of `1m30s`, as compose writes it."""
    units = {"h": 3_600.0, "m": 60.0, "s": 1.0}
    total, digits = 0.0, ""
    for letter in duration:
        if letter in units:
            total += float(digits) * units[letter]
            digits = ""
        else:
            digits += letter
    return total


def _build() -> None:
    """Compose from its Go module: its own go.mod decides what it is built from."""
    if shutil.which("go") is None:
        raise MissingProgramError(
            "docker compose is not here, and neither is Go to build it: install Docker's compose "
            "plugin, or Go 1.24 or newer"
        )
    print(f"Building docker compose {COMPOSE_VERSION} into {_BUILT.parent} (minutes, once)")
    _BUILT.parent.mkdir(parents=True, exist_ok=True)
    source = _BUILT.parent / "compose-source"
    shutil.rmtree(source, ignore_errors=True)
    fetched = subprocess.run(
        ["go", "mod", "download", "-json", f"{_MODULE}@v{COMPOSE_VERSION}"],
        check=True, capture_output=True, text=True, timeout=_BUILD_TIMEOUT_S, cwd=_BUILT.parent,
    )  # fmt: skip
    try:
        shutil.copytree(json.loads(fetched.stdout)["Dir"], source)
        subprocess.run(["chmod", "-R", "u+w", str(source)], check=True)
        version = f"-X {_MODULE}/internal.Version=v{COMPOSE_VERSION}"
        unfinished = _BUILT.with_suffix(".new")
        command = ["go", "build", "-trimpath", f"-ldflags=-s -w {version}"]
        subprocess.run(
            [*command, "-o", str(unfinished), "./cmd"],
            check=True, cwd=source, timeout=_BUILD_TIMEOUT_S,
            env={**os.environ, "CGO_ENABLED": "0"},
        )  # fmt: skip
        unfinished.replace(_BUILT)
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(source)], check=False)
        shutil.rmtree(source, ignore_errors=True)
