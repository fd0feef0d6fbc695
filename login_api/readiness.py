"""Which of the parts answer: what /readyz says."""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Literal

State = Literal["ok", "down", "degraded"]


class Readiness:
    """Asks all parts at once. A ping returns if its part is there, and raises if not.

    One that takes longer than `budget_s` counts as down. A verdict is kept for `kept_s`, so that
    no number of probes can load the parts. Without a spared part the service goes on: then it is
    degraded, not down. `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        pings: Mapping[str, Callable[[], None]],
        *,
        spared: Collection[str] = (),
        budget_s: float = 1.0,
        kept_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pings = pings
        self._spared = spared
        self._budget_s = budget_s
        self._kept_s = kept_s
        self._clock = clock
        self._asking = threading.Lock()
        self._askers = ThreadPoolExecutor(len(pings), thread_name_prefix="readiness")
        self._states: dict[str, State] = {}
        self._asked_at: float | None = None

    def states(self) -> dict[str, State]:
        """Each part's state, by its name."""
        with self._asking:
            if self._asked_at is None or self._clock() - self._asked_at >= self._kept_s:
                self._states = self._ask()
                self._asked_at = self._clock()
            return self._states

    def _ask(self) -> dict[str, State]:
        answers = {name: self._askers.submit(ping) for name, ping in self._pings.items()}
        wait(answers.values(), timeout=self._budget_s)
        return {
            name: "ok" if _answered(answer) else "degraded" if name in self._spared else "down"
            for name, answer in answers.items()
        }


def _answered(answer: Future[None]) -> bool:
    if not answer.done():
        answer.cancel()
        return False
    return answer.exception() is None
