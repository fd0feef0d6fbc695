"""What docs/operations.md tells to type runs as it is written."""

import os
import subprocess
from pathlib import Path
from typing import Final

from tests.support.services import REPOSITORY

LISTED: Final = ["--help", "198.51.100.7", "alice smith"]
CURL: Final = """#!/bin/sh
echo '{"users-blocked":["--help","198.51.100.7","alice smith"]}'
"""
FLASK: Final = """#!/bin/sh
cat >/dev/null
echo "$LOGIN_API_KAFKA_BOOTSTRAP $*"
"""


def commands(section: str) -> str:
    """The lines of a section that are indented as code."""
    text = (REPOSITORY / "docs/operations.md").read_text(encoding="utf-8")
    body = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return "\n".join(line[4:] for line in body.splitlines() if line.startswith("    "))


def test_all_who_are_blocked_are_unblocked(tmp_path: Path) -> None:
    for name, text in (("bin/curl", CURL), (".local/venv/bin/flask", FLASK)):
        program = tmp_path / name
        program.parent.mkdir(parents=True)
        program.write_text(text)
        program.chmod(0o755)
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", commands("Unblock")],
        cwd=tmp_path, env={"PATH": path}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=True, timeout=60,
    )  # fmt: skip
    unblock = "127.0.0.1:19092 --app login_api unblock --type user --by eve"
    assert done.stdout.splitlines() == [
        f"{unblock} --reason rule was too tight -- {user}" for user in LISTED
    ]
    assert done.stderr == ""
