"""What builds and runs images: Docker where its daemon answers, else buildah and podman."""

import functools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_HARDENED: Final = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")
_TMPFS: Final = "rw,nosuid,nodev,noexec,mode=1777,size=512m"
_LABELLED: Final = frozenset({"VERSION", "REVISION"})
_CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
_SETTINGS: Final = {
    "pip": (Path.home() / ".config/pip/pip.conf", Path("/etc/pip.conf")),
    "maven": (Path.home() / ".m2/settings.xml",),
}
"""Where this machine names its index, mirror, passwords: lent to a build, kept in no layer."""
_ASK_WITHIN_S: Final = 60.0
_PULL_WITHIN_S: Final = 1_800.0
_JAVA_CERTIFICATES: Final = Path("/etc/ssl/certs/java/cacerts")


class EngineError(Exception):
    """No engine, or it failed; the message is for the user."""


@dataclass(frozen=True, slots=True)
class Engine:
    """Builds and runs; `name` is docker or podman."""

    name: str
    build: tuple[str, ...]
    run: tuple[str, ...]
    hardened: tuple[str, ...]
    """Nothing writable, no right, no way to get one."""
    tmpfs: str
    """Options of a writable folder in memory."""
    local_prefix: str
    """What a tag without a registry is called: podman puts localhost/ before it."""

    def local(self, tag: str) -> str:
        """The full name of an image of this machine."""
        return self.local_prefix + tag

    def has(self, image: str) -> bool:
        """Whether the image is on this machine."""
        return _quiet([self.name, "image", "inspect", image]) is not None

    def inspect(self, image: str) -> dict[str, Any]:
        """What the engine knows of an image; raises EngineError if it has none of that name."""
        answer = _quiet([self.name, "image", "inspect", image])
        if answer is None:
            raise EngineError(f"there is no image {image}: make images")
        found: list[dict[str, Any]] = json.loads(answer)
        return found[0]

    def build_image(
        self,
        dockerfile: Path,
        context: Path,
        tag: str,
        arguments: Mapping[str, str],
        volumes: Sequence[str] = (),
    ) -> None:
        """Builds and tags, with the engine's own output; raises EngineError if that fails."""
        command = [*self.build, "--file", str(dockerfile), "--tag", tag]
        text = dockerfile.read_text(encoding="utf-8")
        declared = set(re.findall(r"^ARG (\w+)", text, re.MULTILINE))
        for name, value in arguments.items():
            command += ["--build-arg", f"{name}={value}"] if name in declared else []
            if self.name == "podman" and name in _LABELLED:
                # buildah 1.28 takes a LABEL from its cache whatever its ARG has become.
                command += ["--label", f"org.opencontainers.image.{name.lower()}={value}"]
        for name, places in _SETTINGS.items():
            found = next((place for place in places if place.is_file()), None)
            command += ["--secret", f"id={name},src={found}"] if found else []
        for volume in volumes if self.name == "podman" else ():
            command += ["--volume", volume]
        if subprocess.run([*command, str(context)], check=False).returncode:
            raise EngineError(f"{dockerfile} could not be built (see above)")

    def can_pull(self, image: str) -> bool:
        """Whether the image is here or its registry gives it (then it is here afterwards)."""
        return _quiet([self.name, "pull", image], _PULL_WITHIN_S) is not None


def certificate_volumes(*, java: bool = False) -> list[str]:
    """What a build behind a proxy of one's own must trust: this machine's authorities, mounted.

    Mounted, so that no layer holds them; over files that the images have, so that nothing is left.
    """
    found = [_CERTIFICATES, *([_JAVA_CERTIFICATES] if java else [])]
    return [f"{path}:{path}:ro" for path in found if path.exists()]


@functools.cache
def find_engine() -> Engine:
    """Docker if its daemon answers, else podman; raises EngineError if there is neither."""
    if shutil.which("docker") and _quiet(["docker", "info"]) is not None:
        return Engine(
            name="docker",
            build=("docker", "build"),
            run=("docker", "run"),
            hardened=_HARDENED,
            tmpfs=_TMPFS,
            local_prefix="",
        )
    if not (shutil.which("podman") and shutil.which("buildah")):
        raise EngineError("no Docker daemon, and no podman with buildah: install one of them")
    build = ["buildah", "bud", "--layers", "--format", "docker"]  # OCI's form has no HEALTHCHECK
    run = ["podman"]
    limits: list[str] = []
    if os.geteuid() == 0:
        # Root in a sandbox may have no user namespaces, no systemd and a low limit.
        build += ["--isolation", "chroot"]
        run += ["--runtime", shutil.which("runc") or "runc", "--cgroup-manager=cgroupfs"]
        limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
    # Podman makes some folders writable by itself, and copies a folder's rights into its tmpfs.
    return Engine(
        name="podman",
        build=tuple(build),
        run=(*run, "run", *limits),
        hardened=(*_HARDENED, "--read-only-tmpfs=false"),
        tmpfs=f"{_TMPFS},notmpcopyup",
        local_prefix="localhost/",
    )


def _quiet(command: list[str], within_s: float = _ASK_WITHIN_S) -> str | None:
    """The command's output; None if it fails, or hangs as a client does whose daemon is stuck."""
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=within_s
        )
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.returncode == 0 else None
