import re
from pathlib import Path

import pytest

from tests.support import scenarios
from tests.support.scenarios import Family

ROOT = Path(__file__).parents[2]
FAMILIES = scenarios.families()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_reference_and_lifecycle_do_what_the_scenarios_say(family: Family) -> None:
    assert scenarios.differences(family, scenarios.play(family)) == {}


def test_names_differ_and_there_are_many() -> None:
    names = [scenario.name for family in FAMILIES for scenario in family.scenarios]

    assert len(set(names)) == len(names) >= 60


def test_every_scenario_that_the_semantics_name_exists() -> None:
    names = {scenario.name for family in FAMILIES for scenario in family.scenarios}
    text = (ROOT / "docs" / "semantics.md").read_text()
    named = {
        " ".join(name.split())
        for block in re.findall(r"^\*([^*].*?)\*$", text, re.MULTILINE | re.DOTALL)
        for name in block.split("·")
    }

    assert len(named) > 25
    assert named <= names
