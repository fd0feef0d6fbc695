"""Every setting is told wherever people look for one, spelt the same, with the same default."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml
from pydantic import SecretStr

from tests.support.deployed_settings import CLASSES, PREFIXES, deployed, settings_of

ROOT: Final = Path(__file__).parents[3]
NAME: Final = re.compile(rf"\b(?:{'|'.join(PREFIXES)})[A-Z0-9_]+\b")
KNOWN: Final = {name: value for it in CLASSES for name, value in settings_of(it).items()}
DEPLOYED: Final = {name for it in CLASSES for name in deployed(it)}


def readme_names(text: str) -> set[str]:
    """The names in README's table, where `_X` in a cell goes on from the first name's prefix."""
    found = set()
    for line in text.splitlines():
        if not line.startswith("| `"):
            continue
        cell = re.findall(r"`([A-Z0-9_]+)`", line.split("|")[1])
        prefix = next((it for it in PREFIXES if cell and cell[0].startswith(it)), None)
        if prefix is not None:
            found |= {prefix + name[1:] if name.startswith("_") else name for name in cell}
    return found


def kubernetes_text() -> str:
    """All that k8s/ says."""
    files = sorted(it for it in (ROOT / "k8s").rglob("*") if it.suffix in (".yaml", ".env"))
    return "\n".join(it.read_text(encoding="utf-8") for it in files)


def set_by_compose() -> set[str]:
    """Names that docker-compose.yml gives a value by itself: .env has no say in them."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    given = [it for service in services.values() for it in service.get("environment", {}).items()]
    return {
        name for name, value in given if value is not None and f"${{{name}" not in str(value)
    } - {name for name, value in given if value is None}


def places() -> Iterator[tuple[str, set[str]]]:
    yield "README.md", readme_names((ROOT / "README.md").read_text(encoding="utf-8"))
    for file in (".env.example", "docker-compose.yml"):
        yield file, set(NAME.findall((ROOT / file).read_text(encoding="utf-8")))
    yield "k8s", set(NAME.findall(kubernetes_text()))


@pytest.mark.parametrize("place", ["README.md", ".env.example", "docker-compose.yml", "k8s"])
def test_every_setting_is_told(place: str) -> None:
    missing = DEPLOYED - dict(places())[place]
    if place == ".env.example":
        missing -= set_by_compose()
    assert not missing, f"{place} does not tell {sorted(missing)}"


@pytest.mark.parametrize("place", ["README.md", ".env.example", "docker-compose.yml", "k8s"])
def test_no_setting_is_told_that_does_not_exist(place: str) -> None:
    unknown = dict(places())[place] - KNOWN.keys()
    assert not unknown, f"{place} tells {sorted(unknown)}, which nothing reads"


def written(default: object) -> str | None:
    """A default as an environment file would give it; None if it has no fixed one."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, int | str):
        return str(default)
    return None


@pytest.mark.parametrize("place", [".env.example", "k8s"])
def test_a_default_that_is_told_is_the_default(place: str) -> None:
    text = kubernetes_text() if place == "k8s" else (ROOT / place).read_text(encoding="utf-8")
    told = re.findall(rf"^# ?({NAME.pattern})=(\S*)$", text, re.MULTILINE)
    assert told
    wrong = {
        name: f"{value}, in truth {written(KNOWN[name])}"
        for name, value in told
        if written(KNOWN[name]) is not None and value != written(KNOWN[name])
    }
    assert not wrong, json.dumps(wrong, indent=1)


def test_readme_names_goes_on_from_the_first_prefix() -> None:
    line = "| `LOGIN_API_PORT`, `_HOST` and `LOGIN_API_X` | `_NOT` | |"
    assert readme_names(line) == {"LOGIN_API_PORT", "LOGIN_API_HOST", "LOGIN_API_X"}


def test_a_secret_has_no_default() -> None:
    secrets = [name for name, value in KNOWN.items() if isinstance(value, SecretStr)]
    assert secrets == []
