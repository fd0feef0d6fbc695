"""Who hammers on is answered before the framework begins, and hears exactly the same."""

from dataclasses import dataclass, field

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from login_api.guard import Admission, Request
from login_api.refusals import RememberingGuard
from login_blocking.attempts import Outcome
from login_blocking.subjects import Subject
from tests.support.login_api import NOW, InMemoryGuard, LoginApi, credentials

ALICE = credentials("alice", "canary-Tr0ub4dor&3")


@dataclass
class Asking:
    """An API whose guard remembers, and counts what it is asked in earnest."""

    api: LoginApi = field(default_factory=LoginApi)
    asked: int = 0
    ms: float = 1_000_000.0

    def client(self) -> FlaskClient:
        inner = self.api.guard
        assert isinstance(inner, InMemoryGuard)
        admit = inner.admit

        def counted(request: Request) -> Admission:
            self.asked += 1
            return admit(request)

        inner.admit = counted  # type: ignore[method-assign]
        self.api.guard = RememberingGuard(inner, lambda: self.ms / 1_000)  # type: ignore[assignment]
        return self.api.client()


def told(answer: TestResponse) -> tuple[int, bytes, dict[str, str]]:
    headers = dict(answer.headers)
    assert len(headers.pop("X-Request-Id")) == 32
    return answer.status_code, answer.data, headers


@pytest.mark.parametrize("until", [NOW + 90_000, None])
def test_a_remembered_block_is_told_to_the_byte(until: int | None) -> None:
    asking = Asking()
    asking.api.block(Subject("user", "alice"), until)
    client = asking.client()
    first = told(client.post("/login", json=ALICE))
    again = [told(client.post("/login", json=ALICE)) for _ in range(3)]
    assert again == [first] * 3
    assert first[0] == 403
    assert asking.asked == 1


def test_a_full_guard_is_told_to_the_byte() -> None:
    asking = Asking(LoginApi(guard=InMemoryGuard(threshold=0)))
    client = asking.client()
    first, again = (told(client.post("/login", json=ALICE)) for _ in range(2))
    assert first == again
    assert first[0] == 429
    assert asking.asked == 1


def test_what_is_remembered_is_written_down_as_any_refusal() -> None:
    asking = Asking()
    asking.api.block(Subject("user", "alice"), NOW + 90_000)
    client = asking.client()
    for _ in range(3):
        client.post("/login", json=ALICE)
    published = asking.api.published()
    assert [attempt.outcome for attempt in published] == [Outcome.BLOCKED] * 3
    assert len({attempt.id for attempt in published}) == 3
    figures = client.get("/metrics").text
    assert 'login_api_attempts_total{outcome="blocked"} 3.0' in figures
    assert 'login_api_guard_refusals_total{outcome="blocked"} 3.0' in figures
    assert 'request_seconds_count{route="/login",status="403"} 3.0' in figures


def test_after_a_moment_it_is_asked_again() -> None:
    asking = Asking()
    asking.api.block(Subject("user", "alice"), NOW + 90_000)
    client = asking.client()
    client.post("/login", json=ALICE)
    asking.ms += 250
    client.post("/login", json=ALICE)
    assert asking.asked == 2


@pytest.mark.parametrize(("user", "address"), [("bob", "127.0.0.1"), ("alice", "198.51.100.7")])
def test_another_name_or_address_is_judged_by_itself(user: str, address: str) -> None:
    asking = Asking()
    asking.api.block(Subject("user", "alice"), NOW + 90_000)
    client = asking.client()
    client.post("/login", json=ALICE)
    client.post("/login", json=credentials(user, "x"), environ_base={"REMOTE_ADDR": address})
    assert asking.asked == 2


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "application/json", 400),
        (b'{"user":"alice"}', "application/json", 400),
        (b'{"user":"alice","pass":"x","user":"bob"}', "application/json", 400),
        (b"\xff", "application/json", 400),
        (b'{"user":"alice","pass":"x"}', "text/plain", 415),
        (b" " * 20_000, "application/json", 413),
        (b'{"user":"alice","pass":"x"}', "application/json; charset=utf-8", 403),
    ],
)
def test_odd_requests_reach_the_application_whole(
    body: bytes, content_type: str, status: int
) -> None:
    asking = Asking()
    asking.api.block(Subject("user", "alice"), NOW + 90_000)
    client = asking.client()
    client.post("/login", json=ALICE)
    answer = client.post("/login", data=body, content_type=content_type)
    assert answer.status_code == status


def test_other_methods_and_paths_are_the_applications() -> None:
    client = Asking().client()
    assert client.get("/login").status_code == 405
    assert client.post("/login/", json=ALICE).status_code == 404
