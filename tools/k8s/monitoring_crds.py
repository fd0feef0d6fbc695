"""The Prometheus operator's CRDs, out of its Go module."""

import json
import shutil
import subprocess
from typing import Final

from tools.stack.layout import LOCAL

MODULE: Final = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
FOLDER: Final = LOCAL / "monitoring-crds"
_KINDS: Final = ("servicemonitors", "podmonitors", "prometheusrules")
_TIMEOUT_S: Final = 300.0


class NoCrdsError(Exception):
    """The module cannot be had; the message says why."""


def fetch() -> None:
    """Copies them to FOLDER once; raises NoCrdsError."""
    if FOLDER.is_dir():
        return
    try:
        done = subprocess.run(
            ["go", "mod", "download", "-json", MODULE],
            cwd=LOCAL, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False,
        )  # fmt: skip
    except OSError as error:
        raise NoCrdsError(f"go: {error}") from error
    found = json.loads(done.stdout or "{}")
    if "Dir" not in found:
        raise NoCrdsError(str(found.get("Error", done.stderr.strip())))
    new = FOLDER.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    for kind in _KINDS:
        source = f"{found['Dir']}/example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml"
        shutil.copyfile(source, new / f"{kind}.yaml")
    new.rename(FOLDER)
