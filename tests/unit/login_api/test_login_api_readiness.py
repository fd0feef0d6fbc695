"""What readiness promises: all parts at once, within its budget, and not too often."""

import threading

from login_api.readiness import Readiness


def test_a_verdict_is_kept_for_its_time_and_then_asked_again() -> None:
    now = 100.0
    asked: list[float] = []
    readiness = Readiness({"redis": lambda: asked.append(now)}, kept_s=1.0, clock=lambda: now)
    readiness.states()
    now = 100.999
    readiness.states()
    assert asked == [100.0]
    now = 101.0
    readiness.states()
    assert asked == [100.0, 101.0]


def test_a_part_that_does_not_answer_in_time_is_down() -> None:
    answer_at_last = threading.Event()
    readiness = Readiness(
        {"kafka": lambda: _wait(answer_at_last), "redis": lambda: None}, budget_s=0.5
    )
    assert readiness.states() == {"kafka": "down", "redis": "ok"}
    answer_at_last.set()


def test_whatever_a_ping_raises_the_part_is_down() -> None:
    def surprise() -> None:
        raise RuntimeError

    assert Readiness({"redis": surprise}).states() == {"redis": "down"}


def test_without_a_spared_part_the_service_is_degraded_and_not_down() -> None:
    def nobody_there() -> None:
        raise RuntimeError

    readiness = Readiness({"kafka": nobody_there, "redis": nobody_there}, spared={"kafka"})
    assert readiness.states() == {"kafka": "degraded", "redis": "down"}


def _wait(event: threading.Event) -> None:
    event.wait(10)
