"""The scenarios through the live stack's Kafka and Flink: one job a family."""

import pytest

from tests.support import scenarios
from tests.support.scenarios import Family
from tools import replay
from tools.stack.layout import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


@pytest.mark.parametrize("family", scenarios.families(), ids=lambda family: family.name)
def test_live_stack_does_what_the_scenarios_say(stack: Stack, family: Family) -> None:
    events = replay.replay(stack, family.attempts(), family.policy_text, family.commands())

    assert scenarios.differences(family, events) == {}
