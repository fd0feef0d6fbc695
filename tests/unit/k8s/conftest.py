from collections.abc import Callable
from pathlib import Path

import pytest

from tools.k8s import manifests
from tools.k8s.manifests import Manifest, NoKubectlError


@pytest.fixture(scope="session")
def k8s(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of k8s/ with made-up secrets."""
    try:
        manifests.kubectl()
    except NoKubectlError as error:
        pytest.skip(str(error))
    return manifests.copy_with_secrets(tmp_path_factory.mktemp("kustomize") / "k8s")


@pytest.fixture(scope="session")
def rendered(k8s: Path) -> Callable[[str], list[Manifest]]:
    """What an overlay becomes; asked for once each."""
    known = {name: manifests.render(k8s / "overlays" / name) for name in manifests.OVERLAYS}
    return known.__getitem__
