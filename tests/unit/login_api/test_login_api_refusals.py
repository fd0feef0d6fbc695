"""Refusals that are remembered: who is told from memory, and who never is."""

from dataclasses import dataclass

from login_api.guard import Admission, Request
from login_api.refusals import REMEMBERED_MS, RememberingGuard
from login_blocking.attempts import Outcome
from login_blocking.subjects import Subject
from tests.support.login_api import NOW, InMemoryGuard

ALICE = Subject("user", "alice")


@dataclass
class Asked:
    """A guard whose questions are counted, and a clock in ms."""

    blocked_until: int | None = NOW + 60_000
    ms: float = 1_000_000.0

    def __post_init__(self) -> None:
        self.inner = InMemoryGuard()
        self.inner.ends[ALICE] = self.blocked_until
        self.guard = RememberingGuard(self.inner, lambda: self.ms / 1_000)

    def admit(self, address: str = "192.0.2.1") -> Admission:
        return self.guard.admit(Request("id", "alice", address, ""))


def test_a_refusal_is_remembered_for_a_moment_and_not_longer() -> None:
    asked = Asked()
    assert asked.admit() == Admission(NOW, known=False, refused=Outcome.BLOCKED, until=NOW + 60_000)
    del asked.inner.ends[ALICE]
    asked.ms += REMEMBERED_MS - 1
    told = asked.admit()
    assert (told.refused, told.now) == (Outcome.BLOCKED, NOW + REMEMBERED_MS - 1)
    asked.ms += 1
    assert asked.admit().refused is None


def test_a_refusal_ends_with_its_block() -> None:
    asked = Asked(blocked_until=NOW + 10)
    asked.admit()
    asked.inner.now = NOW + 10
    asked.ms += 9
    assert asked.admit().refused is Outcome.BLOCKED
    asked.ms += 1
    assert asked.admit().refused is None


def test_who_comes_from_elsewhere_is_asked_about() -> None:
    asked = Asked()
    asked.admit()
    del asked.inner.ends[ALICE]
    assert asked.admit("192.0.2.2").refused is None


def test_an_admission_is_never_remembered() -> None:
    asked = Asked()
    del asked.inner.ends[ALICE]
    assert asked.admit().refused is None
    asked.inner.ends[ALICE] = None
    assert asked.admit().refused is Outcome.BLOCKED


def test_what_is_forgotten_is_asked_about() -> None:
    asked = Asked()
    asked.admit()
    del asked.inner.ends[ALICE]
    asked.guard.forget(ALICE)
    assert asked.admit().refused is None
