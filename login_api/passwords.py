"""Password rules, and argon2id hashing that is bounded and costs the same for unknown users."""

import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from prometheus_client import Gauge
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from login_api.errors import PartUnavailableError
from login_blocking.subjects import user_key

SHORTEST: Final = 8
LONGEST: Final = 128
"""In characters; NIST 800-63B asks for at least 8 and for room up to 64."""

_LONGEST_RAW: Final = 1_024
"""In characters, before NFC: putting combining marks in order costs their square."""

_COMMON: Final = frozenset(password.casefold() for password in FREQUENCY_LISTS["passwords"])


def normalise(password: str) -> str:
    """NFC, so that one password typed on two systems is one (RFC 8265, OpaqueString).

    Raises ValueError, as that profile does, for control characters and lone surrogates, and for
    what is far too long, before it costs time; the message never quotes the password.
    """
    if len(password) > _LONGEST_RAW:
        raise ValueError(f"at most {_LONGEST_RAW:,} characters")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in password):
        raise ValueError("may not hold control characters or lone surrogates")
    return unicodedata.normalize("NFC", password)


def refusal(password: str, user: str, field: str = "pass") -> str | None:
    """Why nobody may choose this password, None if they may. Never quotes it.

    Both are in normal form; `field` is what the caller calls the password.
    """
    if len(password) < SHORTEST:
        return f"{field}: at least {SHORTEST} characters"
    if len(password) > LONGEST:
        return f"{field}: at most {LONGEST} characters"
    if not password.strip():
        return f"{field}: may not be blank"
    if user_key(password) == user:
        return f"{field}: may not be the user name"
    if password.casefold() in _COMMON:
        return f"{field}: one of the most common passwords; choose another"
    return None


class Argon2Hasher:
    """argon2id; at most `concurrency` hashes run at once, `waiting` more wait up to `wait_ms`.

    Raises PartUnavailableError("hashing") for one that waited too long, and at once for one that
    finds the queue full: a queue that only grows would take every answer down with it.
    """

    def __init__(
        self,
        hasher: PasswordHasher,
        concurrency: int,
        waiting: int,
        wait_ms: int,
        in_hand: Gauge,
    ) -> None:
        self._hasher = hasher
        self._in_hand = in_hand
        self._slots = threading.BoundedSemaphore(concurrency)
        self._queue = threading.BoundedSemaphore(concurrency + waiting)
        self._wait_s = wait_ms / 1_000
        self._of_nobody = hasher.hash("the hash an unknown user's guess is compared with")

    def hash(self, password: str) -> str:
        """The encoded hash of a password."""
        with self._turn():
            return self._hasher.hash(password)

    def verify(self, encoded: str | None, password: str) -> bool:
        """Whether the password is the hashed one; `None` costs as much and is never right."""
        with self._turn():
            try:
                right = self._hasher.verify(encoded or self._of_nobody, password)
            except (VerificationError, InvalidHashError):
                return False
        return right and encoded is not None

    def is_outdated(self, encoded: str) -> bool:
        """Whether a hash was made with other parameters than those of today."""
        return self._hasher.check_needs_rehash(encoded)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._queue.acquire(blocking=False):
            raise PartUnavailableError("hashing")
        try:
            with self._in_hand.track_inprogress():
                if not self._slots.acquire(timeout=self._wait_s):
                    raise PartUnavailableError("hashing")
                try:
                    yield
                finally:
                    self._slots.release()
        finally:
            self._queue.release()
