"""Looking back when Kafka is slower than anybody waits; the real one: tests/contract."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from login_api import attempt_history
from login_api.attempt_history import search
from login_api.errors import PartUnavailableError
from login_blocking.attempts import Attempt, Outcome

STEP = 10


def record(offset: int) -> Any:  # noqa: ANN401 — as kafka-python's
    attempt = Attempt(f"{offset}", 1_000 + offset, "alice", "192.0.2.1", Outcome.FAILURE)
    return SimpleNamespace(
        offset=offset, timestamp=attempt.ts, key=b"alice", value=attempt.encode()
    )


@dataclass
class SlowConsumer:
    """A partition of 30 records; each poll gives one and takes a second."""

    now_s: float = 0.0
    polls: int = 100
    at: int = 0
    ends: int = 30
    clock: Any = field(default=None)

    def partitions_for_topic(self, _: str) -> set[int]:
        return {0}

    def assign(self, _: object) -> None:
        pass

    def beginning_offsets(self, partitions: list[Any]) -> dict[Any, int]:
        return dict.fromkeys(partitions, 0)

    def end_offsets(self, partitions: list[Any]) -> dict[Any, int]:
        return dict.fromkeys(partitions, self.ends)

    def seek(self, _: object, offset: int) -> None:
        self.at = offset

    def position(self, _: object) -> int:
        return self.at

    def poll(self, timeout_ms: int) -> dict[str, list[Any]]:
        self.now_s += 1
        self.at += 1
        return {"alice": [record(self.at - 1)]}


@pytest.fixture(autouse=True)
def _short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt_history, "_STEP", STEP)


def looked_back(seconds: float) -> attempt_history.History:
    consumer = SlowConsumer()
    return search(consumer, "alice", 100, seconds, lambda: consumer.now_s)


def test_what_was_read_whole_is_shown_and_how_far_it_reaches() -> None:
    history = looked_back(15)
    assert [it.id for it in history.attempts] == [str(number) for number in range(29, 19, -1)]
    assert history.searched_back_to == 1_020


def test_enough_time_shows_everything() -> None:
    history = looked_back(100)
    assert len(history.attempts) == 30
    assert history.searched_back_to is None


def test_a_step_without_its_newest_is_not_shown() -> None:
    with pytest.raises(PartUnavailableError):
        looked_back(5)
