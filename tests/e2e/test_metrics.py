"""What rules and dashboards ask for is what a running stack tells."""

import contextlib
import re

import pytest
import requests
from kafka import KafkaProducer
from prometheus_client.parser import text_string_to_metric_families

from login_blocking.names import BLOCK_COMMANDS, LOGIN_ATTEMPTS
from tests.support import monitoring
from tests.support.waiting import eventually
from tools.stack.layout import MAX_PARALLELISM, Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_flink_tells_every_metric_that_a_rule_or_a_panel_asks_for(stack: Stack) -> None:
    asked = {name for name in monitoring.metrics_used() if name.startswith("flink_")}
    assert asked
    missing = asked

    def told() -> bool:
        nonlocal missing
        missing = asked - _samples(stack).keys()
        return not missing

    with contextlib.suppress(AssertionError):
        eventually(told, within_s=30)
    assert missing == set()


def test_jobs_and_operators_are_called_as_the_rules_call_them(stack: Stack) -> None:
    with_labels = _samples(stack)
    assert {labels["job_name"] for labels in with_labels["flink_jobmanager_job_uptime"]} >= {
        "block_detector"
    }
    sent = with_labels["flink_taskmanager_job_task_operator_numRecordsSend"]
    operators = {re.sub(r"_\d+_:.*", "", labels["operator_name"]) for labels in sent}
    assert {"rejected_attempts", "block_events"} <= operators


def test_what_is_no_attempt_and_no_command_is_counted(stack: Stack) -> None:
    rejected, malformed = _rejected(stack), _malformed(stack)
    producer = KafkaProducer(bootstrap_servers=stack.kafka_bootstrap)
    try:
        producer.send(LOGIN_ATTEMPTS, key=b"x", value=b'{"no":"attempt"}')
        producer.send(BLOCK_COMMANDS, key=b"x", value=b'{"subject_type":"user","subject":"x"}')
        producer.flush()
    finally:
        producer.close()
    eventually(lambda: _rejected(stack) > rejected and _malformed(stack) > malformed)


def test_state_is_cut_into_as_many_key_groups_as_it_can_ever_have_tasks(stack: Stack) -> None:
    flink = requests.get(f"{stack.flink_url}/jobs/overview", timeout=10).json()["jobs"]
    (job,) = [
        it["jid"] for it in flink if it["name"] == "block-detector" and it["state"] == "RUNNING"
    ]
    vertices = requests.get(f"{stack.flink_url}/jobs/{job}", timeout=10).json()["vertices"]
    groups = {vertex["name"]: vertex["maxParallelism"] for vertex in vertices}
    # The clock is one stream, of which no second task could take a part.
    alone = [name for name, number in groups.items() if number == 1]
    assert [name for name in alone if "clock" not in name] == []
    assert {number for name, number in groups.items() if name not in alone} == {MAX_PARALLELISM}


def _rejected(stack: Stack) -> float:
    return _sum(stack, "flink_taskmanager_job_task_operator_numRecordsSend", "rejected_attempts")


def _malformed(stack: Stack) -> float:
    return _sum(stack, "flink_taskmanager_job_task_operator_malformed_commands", "block_lifecycle")


def _sum(stack: Stack, name: str, operator: str) -> float:
    return sum(
        sample.value
        for port in (stack.ports.flink_metrics, stack.ports.flink_taskmanager_metrics)
        for family in text_string_to_metric_families(_scrape(port))
        for sample in family.samples
        if sample.name == name and sample.labels["operator_name"].startswith(operator)
    )


def _samples(stack: Stack) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for port in (stack.ports.flink_metrics, stack.ports.flink_taskmanager_metrics):
        for family in text_string_to_metric_families(_scrape(port)):
            for sample in family.samples:
                found.setdefault(sample.name, []).append(sample.labels)
    return found


def _scrape(port: int) -> str:
    return requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
