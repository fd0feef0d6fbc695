"""The admission guard: may this attempt be made at all? One round trip to Redis."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol, cast

import redis
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from login_api.errors import PartUnavailableError
from login_blocking.attempts import Outcome
from login_blocking.limits import limits
from login_blocking.moments import LATEST_MS
from login_blocking.names import block_hash, blocked_set, guard, known_places
from login_blocking.policy import Policy
from login_blocking.redis_urls import with_verified_name
from login_blocking.subjects import Subject

KNOWN_FOR_MS: Final = 30 * 86_400_000
MOST_PLACES: Final = 20
"""Of one user; the one not used for the longest is forgotten first."""

_LIMITS_KEPT: Final = 4_096
"""Of how many subjects the limits are remembered: looking for exemptions costs microseconds."""

_PATIENCE: Final = 3
_AWAY_S: Final = 0.15
"""How long a Redis that did not answer is left alone: see `RedisGuard`."""

_SCRIPTS: Final = Path(__file__).parents[1] / "redis"


@dataclass(frozen=True, slots=True)
class Request:
    """An attempt that asks to be made; user and address in normal form, `place` by Places."""

    id: str
    user: str
    address: str
    place: str


@dataclass(frozen=True, slots=True)
class Admission:
    """The answer, at `now` (Redis' clock, ms since the epoch: one clock for all processes).

    `refused` is BLOCKED or LIMITED, None for an attempt that has a place. `until` tells when
    another one makes sense, None for never. `known` tells that the user has logged in from there
    before.
    """

    now: int
    known: bool
    refused: Outcome | None = None
    until: int | None = None


class Guard(Protocol):
    """What the routes need; all methods raise PartUnavailableError("redis")."""

    def recall(self, user: str, address: str) -> Admission | None:
        """A refusal of a moment ago that still holds, None if the question is worth asking."""

    def admit(self, request: Request) -> Admission:
        """Refuses, or reserves a place, which failing keeps for as long as a rule looks back."""

    def succeed(self, request: Request, *, known: bool) -> None:
        """The password was right: gives the place back, and knows from where from now on."""

    def give_back(self, request: Request) -> None:
        """The password was never looked at: gives the place back, if there is one."""

    def forget(self, subject: Subject) -> None:
        """Whatever stood against the subject is forgotten, as after an unblock."""

    def forget_places(self, user: str) -> None:
        """From nowhere is the user known any more."""

    def clock(self) -> int:
        """The clock by which attempts are admitted, in ms since the epoch."""

    def ping(self) -> None:
        """Returns if attempts can be admitted."""


class RedisGuard:
    """The guard as two Lua scripts, so that it is exact however many processes ask.

    A call whose connection is lost is tried again; a repeated one changes nothing more. `policy` is
    asked at each attempt, so that a changed policy holds at once.

    A question takes `timeout_ms` at most. After `_PATIENCE` in a row that took so long the others
    fail at once, and one of them every `_AWAY_S` really asks: threads that all wait for a frozen
    Redis would keep everybody else waiting for a thread.
    """

    def __init__(self, url: str, timeout_ms: int, policy: Callable[[], Policy]) -> None:
        self._policy = policy
        self._limits = _Limits(policy())
        self._url = url
        self._timeout_s = timeout_ms / 1_000
        self._admit_script = (_SCRIPTS / "admit.lua").read_text()
        self._settle_script = (_SCRIPTS / "settle.lua").read_text()
        # Not redis-py's pool: it looks at a connection each time before it hands it out, which
        # costs as much as the call. As many as were ever in use at once; pop and append are atomic.
        self._idle: deque[_Connected] = deque()
        self._unanswered = 0
        self._ask_again_at_s = 0.0

    def recall(self, user: str, address: str) -> None:
        """See Guard; it remembers nothing."""

    def admit(self, request: Request) -> Admission:
        """See Guard."""
        policy = self._policy()
        if self._limits.policy is not policy:
            self._limits = _Limits(policy)
        of_user = self._limits.of_user(request.user)
        of_address = self._limits.of_ip(request.address)
        arguments: list[str | int] = [
            blocked_set("user"), blocked_set("ip"), block_hash("user", request.user),
            request.user, request.address, request.id, request.place, KNOWN_FOR_MS,
            len(of_user) // _FIELDS, *of_user, *of_address,
        ]  # fmt: skip
        with self._asking() as connected:
            outcome, now, until, known = connected.admit(keys=_keys(request), args=arguments)
        refused = None if outcome == "admitted" else Outcome(outcome)
        return Admission(int(now), bool(known), refused, _end(until))

    def succeed(self, request: Request, *, known: bool) -> None:
        """See Guard."""
        self._settle(request, known=known, right=True)

    def give_back(self, request: Request) -> None:
        """See Guard."""
        self._settle(request, known=False, right=False)

    def forget(self, subject: Subject) -> None:
        """See Guard."""
        with self._asking() as connected:
            connected.client.delete(guard(subject.type, subject.key))

    def forget_places(self, user: str) -> None:
        """See Guard."""
        with self._asking() as connected:
            connected.client.delete(known_places(user))

    def clock(self) -> int:
        """See Guard."""
        with self._asking() as connected:
            seconds, microseconds = cast("tuple[int, int]", connected.client.time())
        return seconds * 1_000 + microseconds // 1_000

    def ping(self) -> None:
        """See Guard."""
        with self._asking() as connected:
            connected.client.ping()

    def close(self) -> None:
        """Closes the connections that nobody uses."""
        while self._idle:
            self._idle.pop().client.close()

    def _settle(self, request: Request, *, known: bool, right: bool) -> None:
        arguments: list[str | int] = [request.id, int(right), int(known), request.place]
        arguments += [KNOWN_FOR_MS, MOST_PLACES]
        with self._asking() as connected:
            connected.settle(keys=_keys(request), args=arguments)

    @contextmanager
    def _asking(self) -> Iterator["_Connected"]:
        if self._unanswered >= _PATIENCE:
            now_s = time.monotonic()
            if now_s < self._ask_again_at_s:
                raise PartUnavailableError("redis")
            self._ask_again_at_s = now_s + self._timeout_s + _AWAY_S
        connected = None
        try:
            connected = self._idle_or_new()
            yield connected
        except RedisTimeoutError as error:
            self._unanswered += 1
            self._ask_again_at_s = time.monotonic() + _AWAY_S
            raise PartUnavailableError("redis") from error
        except RedisError as error:
            self._unanswered = 0  # it answered, or refused the connection: at once
            raise PartUnavailableError("redis") from error
        else:
            self._unanswered = 0
        finally:
            if connected is not None:
                self._idle.append(connected)

    def _idle_or_new(self) -> "_Connected":
        with suppress(IndexError):
            return self._idle.pop()
        client = redis.Redis.from_url(
            with_verified_name(self._url),
            single_connection_client=True,
            decode_responses=True,
            socket_timeout=self._timeout_s,
            socket_connect_timeout=self._timeout_s,
            # Not after a timeout: a Redis that is frozen would cost the answer twice as much.
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
            retry_on_error=[redis.ConnectionError],
        )
        return _Connected(
            client,
            client.register_script(self._admit_script),
            client.register_script(self._settle_script),
        )


def _keys(request: Request) -> list[str]:
    return [
        guard("user", request.user),
        guard("ip", request.address),
        known_places(request.user),
    ]


@dataclass(frozen=True, slots=True)
class _Connected:
    """A connection, and the scripts through it."""

    client: redis.Redis
    admit: Script
    settle: Script


class _Limits:
    """The limits of a policy as admit.lua takes them."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

        def flat(subject: Subject) -> tuple[str | int, ...]:
            return tuple(
                field
                for limit in limits(policy, subject)
                for field in (
                    limit.rule,
                    limit.threshold,
                    limit.within_ms,
                    int(limit.reset_on_success),
                    limit.places,
                )
            )

        self.of_user = lru_cache(_LIMITS_KEPT)(lambda user: flat(Subject("user", user)))
        self.of_ip = lru_cache(_LIMITS_KEPT)(lambda address: flat(Subject("ip", address)))


_FIELDS: Final = 5


def _end(until: str) -> int | None:
    # The latest end of all is for ever; so is what no calendar holds.
    end = float(until) if until else math.inf
    return None if end > LATEST_MS else int(end)
