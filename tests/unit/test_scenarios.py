import pytest

from tests.support import scenarios
from tests.support.scenarios import Family

FAMILIES = scenarios.families()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_reference_and_lifecycle_do_what_the_scenarios_say(family: Family) -> None:
    assert scenarios.differences(family, scenarios.play(family)) == {}


def test_names_differ_and_there_are_many() -> None:
    names = [scenario.name for family in FAMILIES for scenario in family.scenarios]

    assert len(set(names)) == len(names) >= 60
