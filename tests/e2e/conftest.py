"""One whole stack on free ports of its own, for all end-to-end tests; ended whatever happens."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support import canaries
from tools.stack import layout
from tools.stack.layout import ROOT, Stack


@pytest.fixture(scope="package")  # not longer: two JVMs and a broker slow down all that comes after
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    state_dir = tmp_path_factory.mktemp("stack")
    command = [sys.executable, "-m", "tools.stack", "--state-dir", str(state_dir)]
    try:
        started = subprocess.run(
            [*command, "up", "--ports", "auto"],
            cwd=ROOT, capture_output=True, text=True, timeout=280, check=False,
        )  # fmt: skip
        assert started.returncode == 0, started.stdout + started.stderr
        running = layout.load(state_dir)
        canaries.leave(running)
        yield running
        # Of all that the end-to-end tests have done.
        assert canaries.found(running) == []
    finally:
        subprocess.run([*command, "down"], cwd=ROOT, timeout=120, check=True)
