import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from blocked_api.metrics import Metrics as BlockedApiMetrics
from login_api.metrics import Metrics as LoginApiMetrics
from tests.support import monitoring
from tests.support.monitoring import Alert

ALERTS = monitoring.alerts()
OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"
SEVERITIES = {"critical", "warning", "info", "none"}


def test_rules_are_understood() -> None:
    checked = monitoring.promtool("check", "rules", *monitoring.RULES)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_configuration_is_understood(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch()
    shipped = monitoring.DEPLOY / "prometheus" / "prometheus.yml"
    text = shipped.read_text().replace("/run/secrets/blocked_api_token", str(token))
    config = tmp_path / "prometheus.yml"
    config.write_text(text.replace("rules/", f"{shipped.parent}/rules/"))
    checked = monitoring.promtool("check", "config", config)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(monitoring.RULES)} rule files found" in checked.stdout


def test_every_alert_fires_when_it_should_and_only_then() -> None:
    tested = monitoring.promtool("test", "rules", *monitoring.RULE_TESTS)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_alert_has_a_test_that_sees_it_come_and_go() -> None:
    sights: dict[str, list[bool]] = {}
    for test in _rule_tests():
        for look in test["promql_expr_test"]:
            name = re.findall(r'alertname="(\w+)"', look["expr"])[0]
            sights.setdefault(name, []).append(bool(look["exp_samples"]))
    assert sights.keys() == {alert.name for alert in ALERTS}
    assert sights.pop("Watchdog") == [True, True]
    for name, seen in sights.items():
        assert not seen[0], f"{name}: not looked at before it fires"
        assert not seen[-1], f"{name}: not looked at after its end"
        assert any(seen), f"{name}: never fires"


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_alert_says_how_bad_it_is_and_what_to_do(alert: Alert) -> None:
    assert alert.severity in SEVERITIES
    assert set(alert.annotations) == {"summary", "description", "runbook_url"}
    assert alert.annotations["runbook_url"] == f"docs/operations.md#{alert.name.lower()}"


def test_names_are_given_once() -> None:
    names = [alert.name for alert in ALERTS]
    assert sorted(names) == sorted(set(names))


def test_runbook_has_a_section_for_every_alert_and_no_other() -> None:
    text = OPERATIONS.read_text(encoding="utf-8").partition("## Runbook")[2]
    sections = re.findall(r"^### (\w+)$", text, flags=re.MULTILINE)
    assert sorted(sections) == sorted(alert.name for alert in ALERTS)


def test_table_of_alerts_is_that_of_the_rules() -> None:
    text = OPERATIONS.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| \[(\w+)\]\(#\w+\) \| (\w+) \|", text, flags=re.MULTILINE))
    assert rows == {alert.name: alert.severity for alert in ALERTS}


def test_rules_and_panels_ask_the_apis_only_for_what_they_tell() -> None:
    told = {*_told(LoginApiMetrics()), *_told(BlockedApiMetrics())}
    asked = {name for name in monitoring.metrics_used() if not name.startswith("flink_")}
    assert asked
    assert asked <= told


def test_every_figure_of_the_apis_is_on_a_dashboard_or_in_a_rule() -> None:
    """A figure nobody looks at is none: either it is shown, or it can go."""
    used = monitoring.metrics_used()
    for name in _families(LoginApiMetrics()) | _families(BlockedApiMetrics()):
        assert any(asked.startswith(name) for asked in used), name


def _rule_tests() -> Iterator[dict[str, Any]]:
    for file in monitoring.RULE_TESTS:
        yield from yaml.safe_load(file.read_text())["tests"]


def _families(metrics: LoginApiMetrics | BlockedApiMetrics) -> set[str]:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {family.name for family in families if not family.name.endswith("_created")}


def _told(metrics: LoginApiMetrics | BlockedApiMetrics) -> set[str]:
    """Names of samples, also of those that have none yet because they have labels."""
    endings = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""]}
    return {
        # A counter's family is named without its ending.
        family.name + ending
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for ending in endings[family.type]
    }
