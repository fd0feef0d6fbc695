"""Every manifest against its schema: Kubernetes' own, strictly, and the operators' CRDs."""

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import kubernetes_validate
import pytest
import yaml

from tools.k8s import monitoring_crds
from tools.k8s.manifests import OVERLAYS, Manifest
from tools.stack.layout import ROOT

Rendered = Callable[[str], list[Manifest]]

CUSTOM: Final = ("flink.apache.org", "kafka.strimzi.io", "monitoring.coreos.com")
CRDS: Final = ROOT.parent / "shared" / "crd"
OLDEST, NEWEST = "1.30", "1.36"
"""1.30: the first in which preStop may sleep without a feature gate."""


def is_custom(it: Manifest) -> bool:
    return it["apiVersion"].partition("/")[0] in CUSTOM


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_built_in_kinds_fit_their_schema(rendered: Rendered, overlay: str, version: str) -> None:
    for it in rendered(overlay):
        if not is_custom(it):
            kubernetes_validate.validate(it, version, strict=True)


def test_a_misspelt_field_is_noticed(rendered: Rendered) -> None:
    it = next(copy.deepcopy(it) for it in rendered("dev") if it["kind"] == "Deployment")
    it["spec"]["replica"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(it, NEWEST, strict=True)


def crd_check(folders: list[Path], file: Path) -> list[str]:
    """A line for each manifest, beginning with OK, FAIL or SKIP."""
    command = [
        sys.executable, str(CRDS / "validate_crd_instance.py"), ",".join(map(str, folders)),
        str(file),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.stderr == ""
    return done.stdout.splitlines()


def crd_folders() -> list[Path]:
    if not CRDS.is_dir():
        pytest.skip(f"the operators' CRDs are not at {CRDS}")
    return [CRDS, *(it for it in [monitoring_crds.FOLDER] if it.is_dir())]


def test_custom_resources_fit_their_crds(rendered: Rendered, tmp_path: Path) -> None:
    folders = crd_folders()
    custom = [it for it in rendered("prod") if is_custom(it)]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(custom))
    lines = crd_check(folders, tmp_path / "all.yaml")
    assert len(lines) == len(custom)
    # Those of the Prometheus operator are fetched by `make verify-k8s`, which applies them.
    unknown = [it for it in lines if it.startswith("SKIP") and "monitoring.coreos.com" not in it]
    assert unknown == []
    assert [it for it in lines if it.startswith("FAIL")] == []


def test_a_misspelt_field_of_a_custom_resource_is_noticed(
    rendered: Rendered, tmp_path: Path
) -> None:
    folders = crd_folders()
    it = next(copy.deepcopy(it) for it in rendered("prod") if it["kind"] == "FlinkDeployment")
    it["spec"]["job"]["paralellism"] = 2
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(it))
    (first, *_) = crd_check(folders, tmp_path / "one.yaml")
    assert first.startswith("FAIL")
