"""Login attempts and their wire format, the value of topic `login-attempts`."""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

VERSION: Final = 1

FUTURE_REFUSED_MS: Final = 60_000
"""A stamp further ahead of the clock is refused: it would run event time away."""


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class Outcome(StrEnum):
    """How an attempt ended. Only FAILURE counts against anybody."""

    SUCCESS = "success"
    FAILURE = "failure"
    """The password was checked and wrong, or there is no such user."""
    BLOCKED = "blocked"
    """Refused because of a block; the password was never looked at."""
    LIMITED = "limited"
    """Refused by the admission guard; the password was never looked at."""


class MalformedAttemptError(ValueError):
    """A record that is not an attempt; the message says why and never quotes the record."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One login attempt.

    `ts` is the event time in ms since the epoch. `user` and `ip` are in normal form (see
    `login_blocking.subjects`); a recording may lack one of them, the Login API always has both.
    `known` tells that the user has logged in from this address before.
    """

    id: str
    ts: int
    user: str | None
    ip: str | None
    outcome: Outcome
    known: bool = False

    def encode(self) -> bytes:
        """The record's value: compact JSON in UTF-8, keys always in this order."""
        document = {
            "v": VERSION,
            "id": self.id,
            "ts": self.ts,
            "user": self.user,
            "ip": self.ip,
            "outcome": self.outcome.value,
            "known": self.known,
        }
        return _ENCODER.encode(document).encode()

    def key(self) -> bytes | None:
        """The record's key: one user's attempts share a partition, so they keep their order."""
        return None if self.user is None else self.user.encode()


def decode(value: bytes) -> Attempt:
    """The attempt that a record's value holds; raises MalformedAttemptError."""
    try:
        document: Any = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise MalformedAttemptError("not JSON") from error
    if not isinstance(document, dict):
        raise MalformedAttemptError("not a JSON object")
    if document.get("v") != VERSION:
        raise MalformedAttemptError("v: not a known version")
    identity, ts = document.get("id"), document.get("ts")
    user, ip = document.get("user"), document.get("ip")
    if not isinstance(identity, str) or not identity:
        raise MalformedAttemptError("id: not a text")
    if isinstance(ts, bool) or not isinstance(ts, int):
        raise MalformedAttemptError("ts: not a whole number of milliseconds")
    if not isinstance(user, str | None) or not isinstance(ip, str | None):
        raise MalformedAttemptError("user, ip: neither text nor null")
    if user is None and ip is None:
        raise MalformedAttemptError("user, ip: both missing")
    try:
        outcome = Outcome(str(document.get("outcome")))
    except ValueError as error:
        raise MalformedAttemptError("outcome: not a known one") from error
    known = document.get("known", False)
    if not isinstance(known, bool):
        raise MalformedAttemptError("known: neither true nor false")
    return Attempt(identity, ts, user, ip, outcome, known)
