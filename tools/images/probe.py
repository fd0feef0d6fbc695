"""Runs inside a container, as its user: tells as JSON what that user is and can do.

Only the standard library, and no import of the project's: it goes in as text.
"""

import importlib.util
import json
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import Final

_TOOLS: Final = ("pip", "pip3", "gcc", "cc", "g++", "make", "mvn", "javac", "git", "curl", "wget")
_LEFT_OF_A_BUILD: Final = ("/etc/pip.conf", "/root/.m2", "/root/.cache", "/build", "/root/.config")
_WRITE_HERE: Final = ("/", "/app", "/opt", "/etc", "/usr", "/home", "/var/tmp", "/tmp")  # noqa: S108


def main() -> None:
    """Prints the findings."""
    json.dump(
        {
            "uid": os.getuid(),
            "gid": os.getgid(),
            "python": ".".join(map(str, sys.version_info[:3])),
            "writable": [path for path in _WRITE_HERE if _takes_a_file(Path(path))],
            "tools": _tools(),
            "left": [path for path in _LEFT_OF_A_BUILD if _is_there(Path(path))],
            "other_rights": _files_with_other_rights(),
        },
        sys.stdout,
    )


def _tools() -> list[str]:
    modules = [
        name for name in ("pip", "ensurepip", "setuptools") if importlib.util.find_spec(name)
    ]
    return [tool for tool in _TOOLS if shutil.which(tool)] + modules


def _takes_a_file(folder: Path) -> bool:
    file = folder / "written-by-the-probe"
    try:
        file.write_text("")
        file.unlink()
    except OSError:
        return False
    return True


def _is_there(path: Path) -> bool:
    try:
        return path.is_file() or any(path.iterdir())
    except OSError:
        return False


def _files_with_other_rights() -> list[str]:
    found = []
    for folder, folders, files in os.walk("/"):
        if folder == "/":
            folders[:] = [name for name in folders if name not in ("proc", "sys", "dev")]
        for name in files:
            path = Path(folder, name)
            if path.is_symlink():
                continue
            if path.lstat().st_mode & (stat.S_ISUID | stat.S_ISGID):
                found.append(str(path))
    return found


if __name__ == "__main__":
    main()
