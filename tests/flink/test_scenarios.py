"""The scenarios on a Flink of the tests' own: one job a family."""

import pytest

from tests.support import scenarios
from tests.support.scenarios import Family

pytestmark = [
    pytest.mark.flink,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore"),  # PyFlink's own, and those of what it imports
]


@pytest.mark.parametrize("family", scenarios.families(), ids=lambda family: family.name)
def test_compiled_job_does_what_the_scenarios_say(family: Family) -> None:
    from tools import history  # noqa: PLC0415 — PyFlink is slow to load

    events = history.judge(family.attempts(), family.policy_text, family.commands())

    assert scenarios.differences(family, events) == {}
