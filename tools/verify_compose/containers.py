"""The services as podman's containers: what the file says, turned into podman's own words."""

import contextlib
import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Final

from tools.verify_compose.rendered import Mount, Project, Service

# Out of the way of what networks at home and Docker's own pools use; /28 each.
_POOL: Final = IPv4Network("10.214.128.0/20")
_CNI: Final = Path("/etc/cni/net.d")
_PROCESSES: Final = 4_096
# Not the label of the bases' stand-ins, which our own images inherit.
_STAND_IN: Final = "login-blocking.stands-in-for"


class PodmanError(Exception):
    """Podman refused; the message is its own."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Who has which address on which network: podman's bridges here have no name server."""

    project: Project
    subnets: Mapping[str, IPv4Network]

    @classmethod
    def plan(cls, project: Project) -> "Addresses":
        """Subnets for networks that the file leaves without one."""
        free = _POOL.subnets(new_prefix=28)
        return cls(
            project,
            {name: it.subnet or next(free) for name, it in sorted(project.networks.items())},
        )

    def of(self, service: str, network: str) -> IPv4Address:
        """A service's address on one of its networks. The first of a network is its gateway's."""
        members = sorted(
            name for name, it in self.project.services.items() if network in it.networks
        )
        return self.subnets[network][2 + members.index(service)]

    def seen_from(self, service: str) -> dict[str, IPv4Address]:
        """Name → address of all that a service can look up, as Docker's name server answers."""
        known = {}
        for other in self.project.services:
            shared = self.project.meet(service, other)
            if shared:
                known[other] = self.of(other, shared[0])
        return known


def run_arguments(
    service: Service, image: str, addresses: Addresses, prefix: str, env_file: Path
) -> list[str]:
    """`podman run` of one service; secrets go by the file, not by the command line."""
    arguments = ["run", "--detach", "--name", f"{prefix}{service.name}"]
    arguments += ["--env-file", str(env_file), "--log-driver", "k8s-file"]
    arguments += ["--restart", service.restart, "--stop-timeout", f"{service.stop_within_s:.0f}"]
    arguments += _confinement(service)
    for network in service.networks:
        arguments += ["--network", f"{prefix}{network}:ip={addresses.of(service.name, network)}"]
    for name, address in sorted(addresses.seen_from(service.name).items()):
        arguments += ["--add-host", f"{name}:{address}"]
    for port in service.ports:
        arguments += ["--publish", f"{port.host_ip}:{port.published}:{port.target}"]
    for tmpfs in service.tmpfs:
        if is_owned(tmpfs):
            target = tmpfs.partition(":")[0]
            arguments += ["--volume", f"{tmpfs_volume(service, target, prefix)}:{target}"]
        else:
            arguments += ["--tmpfs", tmpfs_as_docker(tmpfs)]
    for mount in service.mounts:
        arguments += ["--volume", _volume(mount, prefix)]
    arguments += _health(service)
    if service.entrypoint is not None:
        arguments += ["--entrypoint", json.dumps(service.entrypoint)]
    return [*arguments, image, *(service.command or ())]


def _confinement(service: Service) -> list[str]:
    arguments = ["--user", service.user] if service.user else []
    if service.read_only:
        # Podman's own additions off: Docker gives no writable /run or /var/tmp either.
        arguments += ["--read-only", "--read-only-tmpfs=false"]
    arguments += [f"--cap-drop={name.lower()}" for name in service.cap_drop]
    for option in service.security_opt:
        arguments += ["--security-opt", option.removesuffix(":true")]
    for limit, given in (
        ("--memory", service.memory),
        ("--shm-size", service.shared_memory),
        ("--pids-limit", service.pids),
    ):
        arguments += [] if given is None else [limit, str(given)]
    if service.init and shutil.which("catatonit"):
        arguments += ["--init"]
    return arguments


def tmpfs_as_docker(tmpfs: str) -> str:
    """Docker's defaults written out, and without podman's copy of what the image has there."""
    return f"{tmpfs.partition(':')[0]}:{tmpfs_options(tmpfs)},notmpcopyup"


def tmpfs_options(tmpfs: str) -> str:
    """Its mount options, Docker's defaults among them."""
    given = [option for option in tmpfs.partition(":")[2].split(",") if option]
    return ",".join([*given, "nosuid", "nodev", *([] if "exec" in given else ["noexec"])])


def _without_size(options: str) -> str:
    return ",".join(option for option in options.split(",") if not option.startswith("size="))


def is_owned(tmpfs: str) -> bool:
    """Whether it belongs to somebody: podman's --tmpfs cannot say that, its volumes can."""
    return "uid=" in tmpfs


def tmpfs_volume(service: Service, target: str, prefix: str) -> str:
    """The name of the volume that is such a tmpfs."""
    return f"{prefix}{service.name}{target.replace('/', '-')}"


def _volume(mount: Mount, prefix: str) -> str:
    source = mount.source if mount.kind == "bind" else f"{prefix}{mount.source}"
    return f"{source}:{mount.target}{':ro' if mount.read_only else ''}"


def _health(service: Service) -> list[str]:
    health = service.health
    if health is None or health.test is None:
        return ["--no-healthcheck"] if health is not None and health.disabled else []
    if health.test[0] == "NONE" or health.disabled:
        return ["--no-healthcheck"]
    # Podman takes a list for a command, and one that begins with CMD-SHELL for a shell's.
    test = health.test if health.test[0] == "CMD-SHELL" else health.test[1:]
    command = ["--health-cmd", json.dumps(test), "--health-timeout", f"{health.timeout_s:.0f}s"]
    # We ask by ourselves: podman's timers are systemd's.
    return [*command, "--health-interval", "disable"]


@dataclass(frozen=True, slots=True)
class Podman:
    """This machine's podman; everything of ours bears the prefix."""

    prefix: str

    def call(self, *arguments: str, timeout_s: float = 120.0) -> str:
        """Its output; PodmanError with its words."""
        done = self.try_call(*arguments, timeout_s=timeout_s)
        if done.returncode != 0:
            raise PodmanError(f"podman {arguments[0]}: {done.stderr.strip()}")
        return done.stdout

    def try_call(
        self, *arguments: str, timeout_s: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """The same, whatever comes of it."""
        return subprocess.run(
            [*self._command(), *arguments],
            capture_output=True, text=True, check=False, timeout=timeout_s,
        )  # fmt: skip

    def start(self, service: Service, image: str, addresses: Addresses) -> None:
        """Creates and starts a service's container."""
        arguments = run_arguments(service, image, addresses, self.prefix, Path("-"))
        health = service.health
        if health is not None and health.test is None and not health.disabled:
            arguments[1:1] = self._image_health(image)
        if not Path("/run/systemd/system").exists():
            # Nobody raised the limits of this machine's root; podman would ask for more.
            files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            arguments[1:1] = [f"--ulimit=nofile={files}:{files}"]
            arguments[1:1] = [f"--ulimit=nproc={_PROCESSES}:{_PROCESSES}"]
        for tmpfs in filter(is_owned, service.tmpfs):
            self.call(
                "volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs",
                # Its size podman would limit by a file system's quota: not for memory.
                "--opt", f"o={_without_size(tmpfs_options(tmpfs))}",
                tmpfs_volume(service, tmpfs.partition(":")[0], self.prefix),
            )  # fmt: skip
        with _env_file(service.environment) as file:
            arguments[arguments.index("--env-file") + 1] = str(file)
            self.call(*arguments)

    def again(self, service: Service) -> None:
        """Starts a container that has ended."""
        self.call("start", self.prefix + service.name)

    def healthy(self, service: Service) -> bool:
        """Asks the service by its own health check, once."""
        return self.try_call("healthcheck", "run", self.prefix + service.name).returncode == 0

    def state(self, service: Service) -> dict[str, Any]:
        """What podman knows of it: `Status`, `Pid`, `ExitCode` and more."""
        state: dict[str, Any] = json.loads(
            self.call("inspect", "--format", "{{json .State}}", self.prefix + service.name)
        )
        return state

    def logs(self, service: Service, lines: int = 15) -> str:
        """The newest lines of a container's log."""
        done = self.try_call("logs", "--tail", str(lines), self.prefix + service.name)
        return (done.stdout + done.stderr).strip()

    def stop(self, service: Service) -> float:
        """Seconds that it took to end after SIGTERM (or the image's own signal)."""
        began = time.monotonic()
        self.call("stop", self.prefix + service.name, timeout_s=service.stop_within_s + 60)
        return time.monotonic() - began

    def memory(self) -> dict[str, int]:
        """Service → megabytes, its caches included."""
        line = "{{.ContainerStats.Name}} {{.ContainerStats.MemUsage}}"
        listed = self.call("stats", "--no-stream", "--no-reset", "--format", line)
        used = dict(row.rsplit(" ", 1) for row in listed.splitlines())
        return {
            name.removeprefix(self.prefix): int(taken) // 1_000_000
            for name, taken in used.items()
            if name.startswith(self.prefix)
        }

    def create_networks(self, addresses: Addresses) -> None:
        """All of the project's; those that Docker keeps apart are kept apart."""
        for name, network in addresses.project.networks.items():
            internal = ["--internal"] if network.internal else []
            self.call(
                "network", "create", *internal, "--opt", "isolate=true", "--disable-dns",
                "--subnet", str(addresses.subnets[name]), self.prefix + name,
            )  # fmt: skip
            if network.internal:
                self._close(str(addresses.subnets[name]))
                _publish_nothing_on(self.prefix + name)

    def _close(self, subnet: str) -> None:
        """As Docker closes an internal network; podman only leaves out the way out of it.

        Before all routing: in FORWARD podman's netavark puts its own rules first, which accept.
        """
        _iptables(
            "-t", "raw", "-I", "PREROUTING", "!", "-s", subnet, "-d", subnet,
            "-m", "comment", "--comment", f"{self.prefix}{subnet}", "-j", "DROP",
        )  # fmt: skip

    def _open_again(self) -> None:
        for rule in _iptables("-t", "raw", "-S", "PREROUTING").splitlines():
            words = shlex.split(rule)
            if words[0] == "-A" and any(word.startswith(self.prefix) for word in words):
                _iptables("-t", "raw", "-D", *words[1:])

    def remove_all(self) -> None:
        """Containers, volumes, networks of the prefix, and their rules; images stay."""
        try:
            for name in self._named("ps", "--all"):
                self.try_call("rm", "--force", "--time", "1", name)
            for name in self._named("volume", "ls"):
                self.try_call("volume", "rm", "--force", name)
            for name in self._named("network", "ls"):
                self.try_call("network", "rm", "--force", name)
        finally:
            self._open_again()

    def image(self, name: str) -> str | None:
        """The image of that name, as podman knows it, if it is here and no stand-in."""
        for candidate in (f"localhost/{name}", name):
            there = self.try_call("image", "exists", candidate)
            if there.returncode > 1:  # neither yes nor no
                raise PodmanError(there.stderr.strip())
            if there.returncode == 0:
                document = json.loads(self.call("image", "inspect", candidate))[0]
                if _STAND_IN not in (document.get("Labels") or {}):
                    return candidate
        return None

    def _image_health(self, image: str) -> list[str]:
        document = json.loads(self.call("image", "inspect", image))[0]
        test = (document.get("Healthcheck") or {}).get("Test")
        if not test or test[0] == "NONE":
            raise PodmanError(f"{image} has no HEALTHCHECK, and docker-compose.yml none for it")
        listed = test if test[0] == "CMD-SHELL" else test[1:]
        return ["--health-cmd", json.dumps(listed), "--health-interval", "disable"]

    def _named(self, *listing: str) -> list[str]:
        column = "{{.Names}}" if listing[0] == "ps" else "{{.Name}}"
        names = self.call(*listing, "--format", column).split()
        return [name for name in names if name.startswith(self.prefix)]

    def _command(self) -> list[str]:
        if Path("/run/systemd/system").exists():
            return ["podman"]
        return ["podman", "--runtime", "runc", "--cgroup-manager=cgroupfs"]


def can_reach(pid: int, address: IPv4Address, port: int, within_s: float = 1.0) -> bool:
    """Whether a TCP connection from a container's network gets through: its tools do not matter."""
    code = f"import socket; socket.create_connection(('{address}', {port}), {within_s})"
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, "-c", code]
    done = subprocess.run(command, check=False, capture_output=True)
    return done.returncode == 0


def _publish_nothing_on(network: str) -> None:
    """Podman's CNI maps ports to a container's every network, also to one without a way in."""
    file = _CNI / f"{network}.conflist"
    if file.exists():
        document = json.loads(file.read_text())
        document["plugins"] = [it for it in document["plugins"] if it["type"] != "portmap"]
        file.write_text(json.dumps(document))


def _iptables(*arguments: str) -> str:
    done = subprocess.run(
        ["iptables", "--wait", *arguments], check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise PodmanError(f"iptables: {done.stderr.strip()}")
    return done.stdout


@contextlib.contextmanager
def _env_file(environment: Mapping[str, str]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="compose-env-") as folder:
        file = Path(folder) / "env"
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "w") as opened:
            opened.writelines(f"{name}={value}\n" for name, value in environment.items())
        yield file
