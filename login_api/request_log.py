"""One line and one measurement a request, however it was answered."""

import time
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import structlog

from login_api.metrics import Metrics

HEADERS: Final = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))
"""What every answer carries, besides its X-Request-Id."""

_log = structlog.get_logger("login_api")


@dataclass(frozen=True, slots=True)
class Begun:
    """A request that is being answered: its id, and when it began (monotonic seconds)."""

    request_id: str
    at_s: float


class RequestLog:
    """Writes down what was answered; never what was sent."""

    def __init__(self, metrics: Metrics) -> None:
        # Routes and statuses are few; looking a child up costs more than observing it.
        self._seconds = lru_cache(maxsize=1_024)(metrics.request_seconds.labels)

    def begin(self) -> Begun:
        """Called first of all."""
        return Begun(uuid.uuid4().hex, time.perf_counter())

    def end(self, begun: Begun, method: str, route: str, status: int) -> None:
        """Called with the answer in hand; `route` is the pattern, not the path."""
        elapsed_s = time.perf_counter() - begun.at_s
        self._seconds(route, status).observe(elapsed_s)
        _log.info(
            "request",
            request_id=begun.request_id,
            method=method,
            route=route,
            status=status,
            ms=round(elapsed_s * 1_000, 2),
        )
