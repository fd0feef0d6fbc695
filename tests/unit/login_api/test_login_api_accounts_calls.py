"""Passwords that change, hashes that age, accounts that go."""

import pytest
from argon2 import PasswordHasher

from login_api.errors import PartUnavailableError
from login_api.records import Record
from login_blocking.attempts import Outcome
from login_blocking.commands import Action
from login_blocking.names import BLOCK_COMMANDS
from login_blocking.subjects import Subject
from tests.support.login_api import (
    NOW,
    FailingGuard,
    FailingRecordPublisher,
    InMemoryAccounts,
    InMemoryGuard,
    InMemoryRecordPublisher,
    LoginApi,
    credentials,
)

ALICE = credentials("alice", "correct horse 9")
CHANGE = {**ALICE, "new": "another horse 9"}


def an_api() -> LoginApi:
    api = LoginApi()
    assert api.client().post("/register", json=ALICE).status_code == 201
    return api


def test_a_new_name_begins_without_what_stood_against_it() -> None:
    (command,) = an_api().commands()
    assert (command.action, command.subject) == (Action.UNBLOCK, Subject("user", "alice"))
    assert (command.by, command.reason) == ("login-api", "registered")


def test_the_new_password_takes_the_place_of_the_old_one() -> None:
    api = an_api()
    client = api.client()
    assert client.post("/password", json=CHANGE).json == {"success": True}
    assert client.post("/login", json=ALICE).status_code == 401
    assert client.post("/login", json=credentials("alice", CHANGE["new"])).status_code == 200
    assert [it.reason for it in api.commands()] == ["registered", "password changed"]


def test_of_two_changes_at_once_one_is_told_that_it_came_too_late() -> None:
    class ChangedMeanwhile(InMemoryAccounts):
        def replace_hash(self, user: str, old: str, new: str) -> bool:
            super().replace_hash(user, old, "somebody else's")
            return super().replace_hash(user, old, new)

    api = LoginApi(accounts=ChangedMeanwhile())
    client = api.client()
    assert client.post("/register", json=ALICE).status_code == 201
    assert client.post("/password", json=CHANGE).status_code == 409
    assert [it.reason for it in api.commands()] == ["registered"]


def test_a_guess_at_the_old_password_counts_like_any_other() -> None:
    api = an_api()
    guess = {**CHANGE, "pass": "guess"}
    for path, body in (("/password", guess), ("/unregister", credentials("alice", "guess"))):
        answer = api.client().post(path, json=body)
        assert (answer.status_code, answer.json) == (401, {"error": "Wrong password"})
    assert [it.outcome for it in api.published()] == [Outcome.FAILURE, Outcome.FAILURE]
    assert api.client().post("/login", json=ALICE).status_code == 200
    assert len(api.commands()) == 1


def test_who_is_blocked_or_limited_changes_nothing() -> None:
    api = an_api()
    api.block(Subject("user", "alice"), None)
    assert api.client().post("/password", json=CHANGE).status_code == 403
    assert api.client().post("/unregister", json=ALICE).status_code == 403
    full = LoginApi(guard=InMemoryGuard(threshold=0))
    assert full.client().post("/password", json=CHANGE).status_code == 429


def test_a_new_password_that_would_be_refused_at_registration_is_refused() -> None:
    api = an_api()
    for new, reason in (
        ("short", "new: at least 8 characters"),
        ("alice", "new: at least 8 characters"),
        ("password1", "new: one of the most common passwords; choose another"),
        (ALICE["pass"], "new: the same as the old one"),
    ):
        answer = api.client().post("/password", json={**ALICE, "new": new})
        assert (answer.status_code, answer.json) == (400, {"error": reason})
    missing = api.client().post("/password", json=ALICE)
    assert missing.json == {"error": "new: missing"}
    assert api.published() == []


def test_an_account_that_is_gone_knows_no_password_and_no_place() -> None:
    api = an_api()
    client = api.client()
    assert client.post("/login", json=ALICE).status_code == 200
    assert client.post("/unregister", json=ALICE).json == {"success": True}
    assert client.post("/login", json=ALICE).status_code == 401
    assert client.post("/register", json=ALICE).status_code == 201
    client.post("/login", json=ALICE)
    assert [it.known for it in api.published()] == [False, True, False, False]


def test_a_hash_of_other_parameters_is_renewed_by_a_right_login() -> None:
    accounts = InMemoryAccounts()
    old = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1).hash(ALICE["pass"])
    accounts.create("alice", old)
    api = LoginApi(accounts=accounts)
    client = api.client()
    client.post("/login", json=credentials("alice", "guess"))
    assert accounts.password_hash("alice") == old
    assert client.post("/login", json=ALICE).status_code == 200
    renewed = accounts.password_hash("alice")
    assert renewed is not None
    assert "m=8,t=1,p=1" in renewed
    assert client.post("/login", json=ALICE).status_code == 200
    assert accounts.password_hash("alice") == renewed


@pytest.mark.parametrize("host_ahead_ms", [-5_000, 5_000])
def test_commands_begin_by_the_clock_that_attempts_have(host_ahead_ms: int) -> None:
    api = LoginApi(now=NOW + host_ahead_ms)
    api.client().post("/register", json=credentials("alice", "correct horse 9"))
    assert [command.ts for command in api.commands()] == [NOW]


def test_without_a_guard_commands_begin_by_the_hosts_clock() -> None:
    api = LoginApi(guard=FailingGuard(), now=NOW + 7)
    api.client().post("/register", json=credentials("alice", "correct horse 9"))
    assert [command.ts for command in api.commands()] == [NOW + 7]


def test_an_account_whose_password_changed_meanwhile_is_not_deleted() -> None:
    class ChangedMeanwhile(InMemoryAccounts):
        def delete(self, user: str, password_hash: str) -> bool:
            self.replace_hash(user, password_hash, "of another password")
            return super().delete(user, password_hash)

    api = LoginApi(accounts=ChangedMeanwhile())
    client = api.client()
    client.post("/register", json=ALICE)
    answer = client.post("/unregister", json=ALICE)
    assert answer.status_code == 409
    assert api.accounts.password_hash("alice") == "of another password"


def test_a_new_owner_inherits_no_known_place() -> None:
    api = LoginApi()
    assert isinstance(api.guard, InMemoryGuard)
    api.guard.places["alice"].add("where the last owner lived")
    api.client().post("/register", json=ALICE)
    assert not api.guard.places["alice"]


def test_what_stands_already_is_answered_even_if_no_command_can_be_written_down() -> None:
    class Refusing(InMemoryRecordPublisher):
        """Takes what may come later, and nothing that must be safe now."""

        def publish(self, record: Record) -> None:
            if record.topic == BLOCK_COMMANDS:
                raise PartUnavailableError("kafka")
            super().publish(record)

    api = LoginApi(publisher=Refusing())
    client = api.client()
    assert client.post("/register", json=ALICE).status_code == 201
    assert client.post("/password", json=CHANGE).json == {"success": True}
    assert [it.reason for it in api.commands()] == ["registered", "password changed"]
    nowhere = LoginApi(guard=FailingGuard(), publisher=FailingRecordPublisher())
    assert nowhere.client().post("/register", json=ALICE).status_code == 201
