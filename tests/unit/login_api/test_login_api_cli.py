"""The operator's commands say in one line what was wrong."""

from typing import NoReturn

import pytest
from click.testing import CliRunner

from login_api import cli
from login_api.attempt_history import History, KafkaAttemptHistory
from login_api.cli import create_cli
from login_api.errors import PartUnavailableError
from login_blocking.attempts import Attempt, Outcome
from login_blocking.commands import Command


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


@pytest.mark.parametrize("command", ["block", "unblock"])
@pytest.mark.parametrize(
    "subject",
    ["198.51.100.7", " 2001:db8::1", "2001:db8::/64", "10.0.0.0/8", "\uff11\uff198.51.100.7"],
)
def test_an_address_is_not_taken_for_a_user_in_silence(command: str, subject: str) -> None:
    code, written = run(command, subject, "--by", "eve", "--reason", "x")
    assert code == 1
    assert "looks like an address: say --type ip, or --type user" in written


@pytest.mark.parametrize("named", ["user", "ip"])
def test_an_address_whose_type_is_named_is_taken(
    named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Command] = []
    monkeypatch.setattr(cli, "_send", lambda _access, command: sent.append(command))
    given = ("block", "198.51.100.7", "--type", named, "--by", "eve", "--reason", "x")
    assert run(*given) == (0, f"block {named} '198.51.100.7': on its way\n")
    assert [(it.subject.type, it.subject.key) for it in sent] == [(named, "198.51.100.7")]


def test_who_is_no_address_is_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_send", lambda _access, _command: None)
    given = ("unblock", "198.51.100", "--by", "eve", "--reason", "x")
    assert run(*given) == (0, "unblock user '198.51.100': on its way\n")


FOUND = Attempt("a1", 1_795_478_400_123, "alice", "198.51.100.7", Outcome.FAILURE)
MORE = "There may be more before 2026-11-24T00:00:00.123Z: the search was ended there.\n"


@pytest.mark.parametrize(
    ("history", "told"),
    [
        (History([], None), "None was found among all attempts that Kafka keeps.\n"),
        (
            History([], 1_795_478_400_123),
            "None was found since 2026-11-24T00:00:00.123Z: the search was ended there.\n",
        ),
        (History([FOUND], None), ""),
        (History([FOUND], 1_795_478_400_123), MORE),
    ],
)
def test_attempts_tell_how_far_back_they_were_sought(
    history: History, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KafkaAttemptHistory, "of_user", lambda *_: history)
    env = {"LOGIN_API_KAFKA_BOOTSTRAP": "127.0.0.1:1"}
    result = CliRunner(env=env).invoke(create_cli().cli, ["attempts", "alice"])
    assert (result.exit_code, result.stderr) == (0, told)
    assert len(result.stdout.splitlines()) == len(history.attempts)


def away(*_: object) -> NoReturn:
    raise PartUnavailableError("kafka")


def test_without_kafka_a_command_did_nothing_and_a_search_read_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cli, "_send", away)
    monkeypatch.setattr(KafkaAttemptHistory, "of_user", away)
    away_words = "Error: Kafka does not answer at 127.0.0.1:1; "
    unblock = ("unblock", "alice", "--by", "eve", "--reason", "x")
    assert run(*unblock) == (1, f"{away_words}nothing was done\n")
    assert run("attempts", "alice") == (1, f"{away_words}no attempts could be read\n")
