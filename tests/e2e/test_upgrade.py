"""Another policy for the live job, and the old one again, while attacks go on."""

import re

import pytest

from flink_control import live_job
from flink_control.rest import FlinkRest
from tools import bench_upgrade
from tools.stack.layout import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_upgrade_and_roll_back_under_load_lose_no_attempt_and_no_block(stack: Stack) -> None:
    found = bench_upgrade.measure(stack, rate=50, rounds=1, around_s=2.0, show=lambda _: None)

    assert len(found.rounds) == 2
    assert found.sent == 5 * found.blocks > 1_000
    assert (found.missing, found.early, found.lost) == (0, 0, 0)
    # The job that goes on tells in whose place it came, and Flink whether it has that one's state.
    flink = FlinkRest(stack.flink_url)
    (alive,) = flink.alive(live_job.JOB_NAME)
    assert re.fullmatch("[0-9a-f]{32}", flink.parameters(alive)[live_job.BEGINS_FROM])
    assert flink.restored_from(alive) is not None
