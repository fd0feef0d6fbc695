"""What people at a login meet while somebody attacks it; each address is another loopback one."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from tests.support.waiting import eventually
from tools.stack.layout import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
HOME, ELSEWHERE = "at home", "elsewhere"


def a_fresh_address() -> str:
    """One address that all attacks came from would be refused itself."""
    return f"127.{secrets.randbelow(250) + 1}.{secrets.randbelow(250)}.{secrets.randbelow(250)}"


class _From(HTTPAdapter):
    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(
        self,
        connections: int,
        maxsize: int,
        block: bool = False,  # noqa: FBT001, FBT002 — requests' signature
        **more: Any,  # noqa: ANN401
    ) -> None:
        more["source_address"] = (self._address, 0)
        super().init_poolmanager(connections, maxsize, block=block, **more)


class Person:
    """Somebody with a name and a password, in places with addresses of their own."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.name = f"person-{secrets.token_hex(4)}"
        self.password = secrets.token_urlsafe(12)
        self._sessions: dict[str, requests.Session] = {}

    def call(self, path: str, at: str = HOME, password: str | None = None) -> int:
        if at not in self._sessions:
            self._sessions[at] = requests.Session()
            self._sessions[at].mount("http://", _From(a_fresh_address()))
        body = {"user": self.name, "pass": password or self.password}
        url = f"{self._stack.login_url}/{path}"
        return self._sessions[at].post(url, json=body, timeout=10).status_code

    def is_listed(self) -> bool:
        listed = requests.get(f"{self._stack.blocked_url}/blocked", timeout=5).json()
        return self.name in listed["users-blocked"]

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()


@pytest.fixture
def person(stack: Stack) -> Iterator[Person]:
    somebody = Person(stack)
    yield somebody
    somebody.close()


def attack(person: Person, at: str = ELSEWHERE) -> None:
    assert [person.call("login", at, "guess") for _ in range(5)] == [401] * 5
    eventually(person.is_listed)


def test_strangers_do_not_lock_anybody_out_at_home(person: Person) -> None:
    assert person.call("register") == 201
    assert person.call("login") == 200

    attack(person)

    assert person.call("login", ELSEWHERE) == 403
    assert person.call("login", HOME) == 200
    assert person.call("login", HOME, "guess") == 401


def test_where_nobody_is_known_the_name_is_blocked(person: Person) -> None:
    assert person.call("register") == 201

    attack(person)

    assert person.call("login", HOME) == 403


def test_an_operator_frees_a_user(stack: Stack, person: Person) -> None:
    assert person.call("register") == 201
    attack(person)
    body = {"subject_type": "user", "subject": person.name, "by": "eve", "reason": "called us"}

    answer = requests.post(
        f"{stack.login_url}/admin/unblock", json=body, timeout=10,
        headers={"Authorization": f"Bearer {stack.secrets.admin_token}"},
    )  # fmt: skip

    assert answer.status_code == 202
    eventually(lambda: not person.is_listed())
    assert person.call("login", ELSEWHERE) == 200


def test_a_name_that_was_attacked_is_its_owners_from_the_start(person: Person) -> None:
    attack(person)

    assert person.call("register") == 201

    eventually(lambda: not person.is_listed())
    assert person.call("login", HOME) == 200


def test_after_the_threshold_no_password_is_looked_at(person: Person) -> None:
    assert person.call("register") == 201

    answers = [person.call("login", ELSEWHERE, "guess") for _ in range(5)]
    answers += [person.call("login", ELSEWHERE) for _ in range(20)]

    assert answers[:5] == [401] * 5
    assert set(answers[5:]) <= {403, 429}
