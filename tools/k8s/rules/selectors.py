"""How labels select, and how a manifest is called."""

from typing import Any

from tools.k8s.manifests import Manifest


def name_of(it: Manifest) -> str:
    """Kind and name."""
    return f"{it['kind']}/{it['metadata']['name']}"


def has(labels: dict[str, str], wanted: dict[str, str]) -> bool:
    """Whether all of the wanted labels are among them."""
    return all(labels.get(key) == value for key, value in wanted.items())


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a selector of labels, and of lists of their values, takes these."""
    if not has(labels, selector.get("matchLabels", {})):
        return False
    return all(
        labels.get(it["key"]) in it["values"]
        for it in selector.get("matchExpressions", [])
        if it["operator"] == "In"
    )
