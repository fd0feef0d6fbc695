"""Refusals remembered for a moment: who hammers on costs no round trip to Redis."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock
from typing import Final

from login_api.guard import Admission, Guard, Request
from login_blocking.subjects import Subject

REMEMBERED_MS: Final = 250
"""An unblock is heard of so much later by who was refused a moment ago."""

_MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Refusal:
    admission: Admission
    heard_at_ms: float


class RememberingGuard:
    """A Guard that asks another one, but for who was refused within the last 250 ms.

    Only refusals are remembered, and each of one user from one address: nobody is admitted but by
    the guard itself, which stays exact. `clock` is monotonic, in seconds.
    """

    def __init__(self, guard: Guard, clock: Callable[[], float] = time.monotonic) -> None:
        self._guard = guard
        self._clock = clock
        self._refusals: OrderedDict[tuple[str, str], _Refusal] = OrderedDict()
        self._changing = Lock()

    def recall(self, user: str, address: str) -> Admission | None:
        """See Guard."""
        refusal = self._refusals.get((user, address))
        if refusal is None:
            return None
        passed_ms = int(self._clock() * 1_000 - refusal.heard_at_ms)
        now, until = refusal.admission.now + passed_ms, refusal.admission.until
        if passed_ms >= REMEMBERED_MS or (until is not None and until <= now):
            return None
        return replace(refusal.admission, now=now)

    def admit(self, request: Request) -> Admission:
        """See Guard."""
        recalled = self.recall(request.user, request.address)
        if recalled is not None:
            return recalled
        moment_ms = self._clock() * 1_000
        admission = self._guard.admit(request)
        if admission.refused is not None:
            key = (request.user, request.address)
            with self._changing:
                self._refusals[key] = _Refusal(admission, moment_ms)
                self._refusals.move_to_end(key)
                if len(self._refusals) > _MOST:
                    self._refusals.popitem(last=False)
        return admission

    def succeed(self, request: Request, *, known: bool) -> None:
        """See Guard."""
        self._guard.succeed(request, known=known)

    def give_back(self, request: Request) -> None:
        """See Guard."""
        self._guard.give_back(request)

    def forget(self, subject: Subject) -> None:
        """See Guard."""
        with self._changing:
            self._refusals.clear()
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
