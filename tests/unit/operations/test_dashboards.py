import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import monitoring

PROVISIONING = monitoring.DEPLOY / "grafana" / "provisioning"
PANELS = monitoring.panels()
UNITS = {"s", "ms", "none", "short", "reqps", "ops", "bytes", "percentunit"}


@pytest.fixture(params=monitoring.DASHBOARDS, ids=lambda file: file.stem)
def dashboard(request: pytest.FixtureRequest) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(Path(request.param).read_text())
    return document


def test_dashboard_has_what_grafana_reads(dashboard: dict[str, Any]) -> None:
    assert dashboard["uid"]
    assert dashboard["title"]
    assert dashboard["schemaVersion"] >= 39
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


def test_panels_do_not_lie_on_each_other(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_panels_take_the_source_that_is_chosen_and_one_is_provisioned(
    dashboard: dict[str, Any],
) -> None:
    (source,) = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yaml").read_text())[
        "datasources"
    ]
    (variable,) = dashboard["templating"]["list"]
    assert variable["current"]["value"] == source["uid"]
    assert variable["query"] == source["type"]
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_panel_has_a_unit_and_names_no_host(panel: dict[str, Any]) -> None:
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["targets"]
    for target in panel["targets"]:
        assert not re.search(r"localhost|\d+\.\d+\.\d+\.\d+|:\d{4}", target["expr"])
        # A rate over a fixed time shows nothing once scrapes are further apart.
        if "rate(" in target["expr"] or "increase(" in target["expr"]:
            assert "[$__rate_interval]" in target["expr"]


def test_every_expression_is_understood(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expr}
        for number, expr in enumerate(monitoring.expressions())
    ]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    checked = monitoring.promtool("check", "rules", file)
    assert checked.returncode == 0, checked.stdout + checked.stderr
