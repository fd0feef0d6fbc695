"""A policy file that changes under a running process."""

from pathlib import Path

import pytest

from login_api.policy_in_force import PolicyInForce
from login_blocking.policy_file import PolicyError
from tests.support.services import REPOSITORY

DEFAULT = (REPOSITORY / "policies" / "default.yaml").read_text()
SEED = (REPOSITORY / "policies" / "seed.yaml").read_text()


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_changed_file_is_in_force_a_second_later(tmp_path: Path) -> None:
    file, clock = tmp_path / "policy.yaml", Clock()
    file.write_text(DEFAULT)
    policy = PolicyInForce(file, clock)
    rules = len(policy().rules)
    file.write_text(SEED)

    clock.now_s = 0.9
    assert len(policy().rules) == rules
    clock.now_s = 1.0
    assert len(policy().rules) == 1


@pytest.mark.parametrize("text", ["rules: []", None])
def test_a_file_that_cannot_be_used_leaves_the_last_policy_in_force(
    tmp_path: Path, text: str | None
) -> None:
    file, clock = tmp_path / "policy.yaml", Clock()
    file.write_text(SEED)
    policy = PolicyInForce(file, clock)
    before = policy()
    if text is None:
        file.unlink()
    else:
        file.write_text(text)

    clock.now_s = 5
    assert policy() is before
    file.write_text(DEFAULT)
    clock.now_s = 10
    assert policy() != before


def test_a_first_file_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("rules: []")
    with pytest.raises(PolicyError):
        PolicyInForce(tmp_path / "policy.yaml")
    with pytest.raises(OSError, match="missing"):
        PolicyInForce(tmp_path / "missing.yaml")
