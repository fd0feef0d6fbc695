"""The policy that the detector judges by, for the guard's limits; a changed file is read again."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from login_blocking.policy import Policy
from login_blocking.policy_file import PolicyError, parse_policy

_LOOK_EVERY_S: Final = 1.0
_log = structlog.get_logger("login_api")


class PolicyInForce:
    """Looks at the file at most once a second. One that cannot be used leaves the last in force.

    The first read raises OSError or PolicyError. `clock` is monotonic, in seconds.
    """

    def __init__(self, file: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._looking = threading.Lock()
        self._seen = _version(file)
        self._policy = parse_policy(file.read_text(encoding="utf-8"))
        self._looked_at = clock()

    def __call__(self) -> Policy:
        """The policy now."""
        due = self._clock() - self._looked_at >= _LOOK_EVERY_S
        if due and self._looking.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._looking.release()
        return self._policy

    def _look(self) -> None:
        self._looked_at = self._clock()
        try:
            version = _version(self._file)
            if version != self._seen:
                self._policy = parse_policy(self._file.read_text(encoding="utf-8"))
                self._seen = version
                _log.info("policy changed")
        except (OSError, PolicyError) as error:
            _log.error("the policy cannot be used; the last one holds", error=str(error))


def _version(file: Path) -> tuple[int, int, int]:
    found = file.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size
