"""The operator's commands say in one line what was wrong."""

import pytest
from click.testing import CliRunner

from login_api.cli import create_cli


def run(*arguments: str) -> tuple[int, str]:
    """Exit code and all that was written; what a command raises comes through."""
    result = CliRunner(env={"LOGIN_API_KAFKA_BOOTSTRAP": "127.0.0.1:1"}).invoke(
        create_cli().cli, arguments, catch_exceptions=False
    )
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("block", "a\udcff", "--by", "eve", "--reason", "x"), "subject"),
        (("unblock", "alice", "--by", "e\udcff", "--reason", "x"), "by"),
        (("unblock", "alice", "--by", "eve", "--reason", "x\udcff"), "reason"),
        (("block", "alice", "--by", "eve", "--reason", "x", "--for", "\udcff"), "for"),
        (("block", "alice", "--by", "eve", "--reason", "x", "--until", "\udcff"), "until"),
        (("attempts", "a\udcff"), "user"),
        (("attempts", "a" * 257), "user"),
    ],
)
def test_what_is_no_command_is_one_line_with_its_field(
    arguments: tuple[str, ...], field: str
) -> None:
    code, written = run(*arguments)
    assert code == 1
    assert written.startswith(f"Error: {field}: ")
    assert written.count("\n") == 1
