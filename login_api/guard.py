"""The admission guard: may this attempt be made at all? One round trip to Redis."""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol

import redis
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.exceptions import RedisError
from redis.retry import Retry

from login_api.errors import PartUnavailableError
from login_blocking.attempts import Outcome
from login_blocking.limits import limits
from login_blocking.moments import LATEST_MS
from login_blocking.names import block_hash, blocked_set, guard, known_places
from login_blocking.policy import Policy
from login_blocking.subjects import Subject

KNOWN_FOR_MS: Final = 30 * 86_400_000
MOST_PLACES: Final = 20
"""Of one user; the one not used for the longest is forgotten first."""

_LIMITS_KEPT: Final = 4_096
"""Of how many subjects the limits are remembered: looking for exemptions costs microseconds."""

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

    def ping(self) -> None:
        """Returns if attempts can be admitted."""


class RedisGuard:
    """The guard as two Lua scripts, so that it is exact however many processes ask.

    A call whose connection is lost is tried again; a repeated one changes nothing more. `policy` is
    asked at each attempt, so that a changed policy holds at once. Each thread has a connection of
    its own: a pool would look at a connection each time before it hands it out, and cost as much as
    the call.
    """

    def __init__(self, url: str, timeout_ms: int, policy: Callable[[], Policy]) -> None:
        self._policy = policy
        self._limits = _Limits(policy())
        self._url = url
        self._timeout_s = timeout_ms / 1_000
        self._admit_script = (_SCRIPTS / "admit.lua").read_text()
        self._settle_script = (_SCRIPTS / "settle.lua").read_text()
        self._mine = threading.local()
        self._clients: list[redis.Redis] = []

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
        try:
            connected = self._connected()
            outcome, now, until, known = connected.admit(keys=_keys(request), args=arguments)
        except RedisError as error:
            raise PartUnavailableError("redis") from error
        refused = None if outcome == "admitted" else Outcome(outcome)
        return Admission(int(now), bool(known), refused, _end(until))

    def succeed(self, request: Request, *, known: bool) -> None:
        """See Guard."""
        self._settled(request, known=known, right=True)

    def give_back(self, request: Request) -> None:
        """See Guard."""
        self._settled(request, known=False, right=False)

    def forget(self, subject: Subject) -> None:
        """See Guard."""
        self._delete(guard(subject.type, subject.key))

    def forget_places(self, user: str) -> None:
        """See Guard."""
        self._delete(known_places(user))

    def ping(self) -> None:
        """See Guard."""
        try:
            self._connected().client.ping()
        except RedisError as error:
            raise PartUnavailableError("redis") from error

    def close(self) -> None:
        """Closes the connections of all threads."""
        for client in self._clients:
            client.close()

    def _connected(self) -> "_Connected":
        connected: _Connected | None = getattr(self._mine, "connected", None)
        if connected is None:
            client = redis.Redis.from_url(
                self._url,
                single_connection_client=True,
                decode_responses=True,
                socket_timeout=self._timeout_s,
                socket_connect_timeout=self._timeout_s,
                # Not after a timeout: a Redis that is frozen would cost the answer twice as much.
                retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
                retry_on_error=[redis.ConnectionError],
            )
            self._clients.append(client)
            connected = _Connected(
                client,
                client.register_script(self._admit_script),
                client.register_script(self._settle_script),
            )
            self._mine.connected = connected
        return connected

    def _settled(self, request: Request, *, known: bool, right: bool) -> None:
        arguments: list[str | int] = [request.id, int(right), int(known), request.place]
        arguments += [KNOWN_FOR_MS, MOST_PLACES]
        try:
            self._connected().settle(keys=_keys(request), args=arguments)
        except RedisError as error:
            raise PartUnavailableError("redis") from error

    def _delete(self, key: str) -> None:
        try:
            self._connected().client.delete(key)
        except RedisError as error:
            raise PartUnavailableError("redis") from error


def _keys(request: Request) -> list[str]:
    return [
        guard("user", request.user),
        guard("ip", request.address),
        known_places(request.user),
    ]


@dataclass(frozen=True, slots=True)
class _Connected:
    """One thread's connection, and the scripts through it."""

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
