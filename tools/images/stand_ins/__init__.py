"""Bases of the public ones' names and layout, made from Debian and PyPI where no registry answers.

What they cannot prove stands in docs/images.md.
"""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tools.images.engine import Engine, EngineError

_FOLDER: Final = Path(__file__).parent
_PYTHON: Final = "3.11"
_PACKAGES: Final = (
    "ca-certificates",
    "netbase",
    "tzdata",
    f"python{_PYTHON}",
    f"libpython{_PYTHON}",
)
# What the public Python image has beside the interpreter, and a final stage must get rid of.
_TOOLS: Final = ("pip==25.3", "setuptools==80.9.0", "wheel==0.45.1")
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def make_stand_ins(engine: Engine, bases: dict[str, str]) -> dict[str, str]:
    """Makes what is missing or has changed; from each base's build argument to the stand-in's name."""
    names = {argument: engine.local(image) for argument, image in bases.items()}
    python, maven, flink = (names[f"{part}_IMAGE"] for part in ("PYTHON", "MAVEN", "FLINK"))
    if not engine.has(python):
        _say(f"{python}: Debian with Python {_PYTHON}, by debootstrap (2 minutes)")
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
        root = Path(folder) / "root"
        _run(
            [
                "debootstrap",
                "--variant=minbase",
                f"--include={','.join(_PACKAGES)}",
                "bookworm",
                str(root),
            ]
        )
        _add_headers(root)
        _add_public_layout(root)
        archive = Path(folder) / "root.tar"
        _run(
            [
                "tar",
                "--numeric-owner",
                "--exclude=./proc/*",
                "--exclude=./sys/*",
                "--exclude=./dev/*",
                "--exclude=./var/cache/apt/archives/*.deb",
                "--exclude=./var/lib/apt/lists/*",
                "-C",
                str(root),
                "-cf",
                str(archive),
                ".",
            ]
        )
        _run(
            [
                engine.name,
                "import",
                "--change",
                f"ENV PATH={_PATH}",
                "--change",
                'CMD ["python3"]',
                "--change",
                "LABEL login-blocking.stand-in=python",
                str(archive),
                tag,
            ]
        )


def _add_headers(root: Path) -> None:
    """Python's headers, which the public image has; not the compiler, which Debian would bring."""
    for package in (f"libpython{_PYTHON}-dev",):
        _run(["chroot", str(root), "sh", "-c", f"cd /tmp && apt-get -q download {package}"])
        for archive in (root / "tmp").glob("*.deb"):
            _run(
                ["sh", "-c", f"dpkg-deb --fsys-tarfile {archive} | tar -C {root} -x ./usr/include"]
            )
            archive.unlink()


def _add_public_layout(root: Path) -> None:
    programs = root / "usr/local/bin"
    for name in ("python", "python3", f"python{_PYTHON}"):
        (programs / name).symlink_to(f"/usr/bin/python{_PYTHON}")
    library = root / f"usr/local/lib/python{_PYTHON}"
    packages = library / "site-packages"
    packages.mkdir(parents=True)
    _run([sys.executable, "-m", "pip", "install", "--quiet", "--target", str(packages), *_TOOLS])
    # Debian's interpreter looks for local packages in another folder.
    (library / "dist-packages").mkdir(exist_ok=True)
    (library / "dist-packages" / "local.pth").write_text(
        f"/usr/local/lib/python{_PYTHON}/site-packages\n"
    )
    pip = programs / "pip"
    pip.write_text('#!/bin/sh\nexec python -m pip "$@"\n')
    pip.chmod(0o755)


def _wheel() -> Path:
    spec = importlib.util.find_spec("pyflink")
    if spec is None or spec.origin is None:
        raise EngineError("no PyFlink to make a stand-in of: make setup")
    return Path(spec.origin).parent


def _run(command: list[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise EngineError(f"{' '.join(command[:3])} … failed:\n{last}")


def _say(text: str) -> None:
    print(f"· stand-in {text}", flush=True)  # noqa: T201
