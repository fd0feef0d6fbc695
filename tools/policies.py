"""Policies as people name them on a command line."""

from pathlib import Path
from typing import Final

from login_blocking.policy_file import PolicyError

SHIPPED: Final = Path(__file__).parents[1] / "policies"


def find_policy(name: str) -> Path:
    """A policy by its file, or by the name of one in policies/; raises PolicyError for neither."""
    shipped = SHIPPED / f"{name}.yaml"
    chosen = shipped if shipped.is_file() else Path(name)
    if not chosen.is_file():
        names = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.yaml")))
        raise PolicyError([f"there is no policy {name}: give a file, or one of {names}"])
    return chosen
