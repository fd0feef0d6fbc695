"""The rules of tools/k8s/rules: every overlay keeps them, and each of them can be broken."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tools.k8s.manifests import OVERLAYS, Manifest
from tools.k8s.rules import RULES, Rule
from tools.stack.layout import ROOT

Rendered = Callable[[str], list[Manifest]]
GONE: Final = object()


class Loader(yaml.SafeLoader):
    """Knows what is gone."""


Loader.add_constructor("!gone", lambda *_: GONE)
BROKEN: Final[list[list[Any]]] = yaml.load(
    Path(__file__).with_name("broken_manifests.yaml").read_text(),
    Loader,  # noqa: S506 — a SafeLoader
)
BY_NAME: Final = {rule.__name__: rule for rule in RULES}


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("rule", RULES, ids=lambda it: it.__name__)
def test_every_overlay_keeps_every_rule(rendered: Rendered, rule: Rule, overlay: str) -> None:
    assert list(rule(rendered(overlay))) == []


@pytest.mark.parametrize("broken", BROKEN, ids=lambda it: f"{it[0]}-{it[2]}-{it[3]}")
def test_a_broken_manifest_is_noticed(rendered: Rendered, broken: list[Any]) -> None:
    rule, overlay, name, path, value = broken
    manifests = copy.deepcopy(rendered(overlay))
    (it,) = (it for it in manifests if f"{it['kind']}/{it['metadata']['name']}" == name)
    put(it, path, value)
    assert list(BY_NAME[rule](manifests)) != []


def test_each_rule_is_broken_once() -> None:
    assert {it[0] for it in BROKEN} == set(BY_NAME)


def test_the_docs_count_them() -> None:
    assert f" {len(RULES)} rules of our own" in (ROOT / "docs" / "kubernetes.md").read_text()


def put(it: Manifest, path: str, value: object) -> None:
    """Puts a value at a path of keys and places, with a slash for a label's own dots."""
    steps = [
        step.replace("pod-security/", "pod-security.kubernetes.io/") for step in path.split(".")
    ]
    at: Any = it
    for step in steps[:-1]:
        at = at[int(step)] if isinstance(at, list) else at[step]
    last: Any = int(steps[-1]) if isinstance(at, list) else steps[-1]
    if value is GONE:
        del at[last]
    else:
        at[last] = value
