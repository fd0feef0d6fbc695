"""Bases of the public ones' names and layout, made from Debian and PyPI where no registry answers.

What they cannot prove stands in docs/images.md.
"""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tools.images.engine import Engine, EngineError

_FOLDER: Final = Path(__file__).parent
_CHANGES: Final = (
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    'CMD ["python3"]',
    "LABEL login-blocking.stand-in=python",
)


def make_stand_ins(engine: Engine, bases: Mapping[str, str]) -> dict[str, str]:
    """Makes what is missing or has changed; from each base's build argument to its stand-in."""
    names = {argument: engine.local(image) for argument, image in bases.items()}
    python, maven, flink = (names[f"{part}_IMAGE"] for part in ("PYTHON", "MAVEN", "FLINK"))
    if not engine.has(python):
        _say(f"{python}: Debian with its Python, by debootstrap (about 2 minutes)")
        _make_python(engine, python)
    _say(f"{maven}: Debian's JDK 17 and Maven")
    _make(engine, "maven", maven, {"DEBIAN_WITH_PYTHON": python}, [])
    _say(f"{flink}: Flink of PyPI's apache-flink")
    _make(engine, "flink", flink, {"DEBIAN_WITH_JDK": maven}, [f"{_wheel()}:/wheel:ro"])
    return names


def _make(
    engine: Engine, name: str, tag: str, arguments: dict[str, str], volumes: list[str]
) -> None:
    engine.build_image(_FOLDER / f"{name}.Dockerfile", _FOLDER, tag, arguments, volumes)


def _make_python(engine: Engine, tag: str) -> None:
    if shutil.which("debootstrap") is None:
        raise EngineError("no registry answers, and stand-in bases need debootstrap: install it")
    with tempfile.TemporaryDirectory(prefix="login-blocking-stand-in-") as folder:
        root, archive = Path(folder) / "root", Path(folder) / "root.tar"
        _run([str(_FOLDER / "make-python-root"), str(root), sys.executable])
        _run(["tar", "--numeric-owner", "-C", str(root), "-cf", str(archive), "."])
        changes = [word for change in _CHANGES for word in ("--change", change)]
        _run([engine.name, "import", *changes, str(archive), tag])


def _wheel() -> Path:
    spec = importlib.util.find_spec("pyflink")
    if spec is None or spec.origin is None:
        raise EngineError("no PyFlink to make a stand-in of: make setup")
    return Path(spec.origin).parent


def _run(command: list[str]) -> None:
    if subprocess.run(command, check=False).returncode:
        raise EngineError(f"{Path(command[0]).name} failed (see above)")


def _say(text: str) -> None:
    print(f"· stand-in {text}", flush=True)
