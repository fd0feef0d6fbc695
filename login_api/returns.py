"""Places whose return Redis did not confirm: given back as soon as it answers again."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from login_api.errors import PartUnavailableError
from login_api.guard import Admission, Guard, Request
from login_api.metrics import Metrics
from login_blocking.limits import LONGEST_MS
from login_blocking.subjects import Subject

_RETRY_AFTER_S: Final = 0.25
_MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Owed:
    request: Request
    since_s: float


class ReturningGuard:
    """A Guard around another one that leaks no place.

    An admission whose answer was lost may hold a place for a password that nobody will look at, and
    a return that was lost does. Both are given back by a thread of its own, oldest first, until
    Redis takes them or the guard has forgotten by itself. `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        guard: Guard,
        metrics: Metrics,
        *,
        goes_on: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`goes_on`: an attempt is made even if its admission failed, and so keeps its place."""
        self._guard = guard
        self._goes_on = goes_on
        self._metrics = metrics
        self._clock = clock
        self._owed: deque[_Owed] = deque(maxlen=_MOST)  # the oldest come free first by themselves
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._return_all, name="returns", daemon=True)
        self._thread.start()

    def recall(self, user: str, address: str) -> Admission | None:
        """See Guard."""
        return self._guard.recall(user, address)

    def admit(self, request: Request) -> Admission:
        """See Guard."""
        try:
            return self._guard.admit(request)
        except PartUnavailableError:
            if not self._goes_on:
                self._owe(request)
            raise

    def succeed(self, request: Request, *, known: bool) -> None:
        """See Guard."""
        try:
            self._guard.succeed(request, known=known)
        except PartUnavailableError:
            self._owe(request)
            raise

    def give_back(self, request: Request) -> None:
        """See Guard."""
        try:
            self._guard.give_back(request)
        except PartUnavailableError:
            self._owe(request)
            raise

    def forget(self, subject: Subject) -> None:
        """See Guard."""
        self._guard.forget(subject)

    def forget_places(self, user: str) -> None:
        """See Guard."""
        self._guard.forget_places(user)

    def clock(self) -> int:
        """See Guard."""
        return self._guard.clock()

    def ping(self) -> None:
        """See Guard."""
        self._guard.ping()

    def _owe(self, request: Request) -> None:
        with self._changed:
            self._owed.append(_Owed(request, self._clock()))
            self._changed.notify()

    def _return_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._owed)
                owed = self._owed.popleft()
            while self._clock() - owed.since_s < LONGEST_MS / 1_000:
                try:
                    self._guard.give_back(owed.request)
                except Exception:  # noqa: BLE001 — the thread must outlive whatever it is
                    self._metrics.background_failures.labels("returns").inc()
                    time.sleep(_RETRY_AFTER_S)
                else:
                    self._metrics.places_returned_late.inc()
                    break
