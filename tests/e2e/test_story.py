"""What people see, over HTTP, on the real thing."""

import secrets
import time

import pytest
import requests

from flink_control.rest import FlinkError
from tools import demo, replay
from tools.policies import find_policy
from tools.recordings import read_recording
from tools.stack.layout import ROOT, Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

DATA = ROOT / "tests" / "data"


def login(stack: Stack, user: str, password: str) -> requests.Response:
    body = {"user": user, "pass": password}
    return requests.post(f"{stack.login_url}/login", json=body, timeout=5)


def test_fifth_wrong_password_blocks_the_user_and_nobody_else(stack: Stack) -> None:
    assert demo.show(stack.login_url, stack.blocked_url) < 5_000


def test_four_wrong_passwords_block_nobody(stack: Stack) -> None:
    user = f"four-{secrets.token_hex(4)}"
    for _ in range(4):
        assert login(stack, user, "wrong password").status_code == 401
    # A fifth of somebody else's, judged after the four, shows that these were judged.
    demo.show(stack.login_url, stack.blocked_url)

    assert login(stack, user, "wrong password").status_code == 401


def test_blocked_user_is_shown_with_rule_and_end(stack: Stack) -> None:
    user = f"Shown-{secrets.token_hex(4)}"
    for _ in range(5):
        login(stack, f" {user.upper()} ", "wrong password")

    url = f"{stack.blocked_url}/blocked/users/{user}"
    deadline = time.monotonic() + 10
    while (answer := requests.get(url, timeout=5)).status_code == 404:
        assert time.monotonic() < deadline
    shown = answer.json()

    assert answer.status_code == 200
    assert (shown["subject"], shown["rule"], shown["level"]) == (user.lower(), "user-failures", 1)
    assert shown["until"] > shown["since"]


@pytest.mark.parametrize("name", ["elastic_examples_auth.ndjson.gz", "disorder.ndjson"])
def test_recorded_attempts_lead_to_the_expected_blocks(stack: Stack, name: str) -> None:
    policy = find_policy("seed").read_text()

    events = replay.replay(stack, read_recording(DATA / name), policy)

    expected = DATA / "expected" / f"{name.partition('.')[0]}.seed.ndjson"
    assert replay.block_lines(events) == expected.read_text().splitlines()


def test_history_reaches_neither_redis_nor_the_live_topic(stack: Stack) -> None:
    policy = find_policy("seed").read_text()
    attempts = read_recording(DATA / "disorder.ndjson")

    blocked = {event.subject for event in replay.replay(stack, attempts, policy)}

    listed = requests.get(f"{stack.blocked_url}/blocked", timeout=5).json()["users-blocked"]
    live = {event.subject for event in replay.read_events(stack, "block-events")}
    assert blocked
    assert not blocked & set(listed)
    assert not blocked & live


def test_stranger_sees_why_a_policy_is_refused(stack: Stack) -> None:
    attempts = read_recording(DATA / "disorder.ndjson")[:1]
    wrong = (
        "rules:\n  - {name: spray, subject: ip, count: distinct_ips, threshold: 3,"
        " within: 1m, block: [1h]}\nforget_level_after: 1d\n"
    )

    with pytest.raises(FlinkError, match="distinct_users"):
        replay.replay(stack, attempts, wrong)
