"""The shipped rules and dashboards, as tests read them."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
RULES: Final = sorted((DEPLOY / "prometheus" / "rules").glob("*.yaml"))
RULE_TESTS: Final = sorted((DEPLOY / "prometheus" / "tests").glob("*.yaml"))
DASHBOARDS: Final = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
OURS: Final = re.compile(r"\b(?:flink_(?:job|task)manager|login_api|blocked_api)_\w+")
"""Names of metrics, inside an expression."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule."""

    name: str
    expr: str
    severity: str
    annotations: dict[str, str]


def alerts() -> list[Alert]:
    """All alerts that are shipped."""
    groups = [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]
    return [
        Alert(rule["alert"], rule["expr"], rule["labels"]["severity"], rule["annotations"])
        for group in groups
        for rule in group["rules"]
    ]


def panels() -> list[dict[str, Any]]:
    """All panels of all dashboards that show something."""
    found = [panel for file in DASHBOARDS for panel in json.loads(file.read_text())["panels"]]
    return [panel for panel in found if panel["type"] != "row"]


def expressions() -> list[str]:
    """Every expression of a panel, as Prometheus would be asked it."""
    return [
        target["expr"].replace("$__rate_interval", "1m")
        for panel in panels()
        for target in panel["targets"]
    ]


def metrics_used() -> set[str]:
    """Every metric of ours that a rule or a panel asks for."""
    asked = [alert.expr for alert in alerts()] + expressions()
    return {name for expr in asked for name in OURS.findall(expr)}


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs promtool; where it is not installed the test is skipped, or fails if it is required."""
    program = shutil.which("promtool")
    if program is None:
        missing = "promtool is not installed (Debian: apt install prometheus)"
        if os.environ.get("PROMTOOL_REQUIRED"):
            pytest.fail(missing)
        pytest.skip(missing)
    return subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )
