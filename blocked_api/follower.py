"""Keeps the list in memory in step with Redis, and tells who listens what has changed."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import structlog
from redis.exceptions import RedisError

from blocked_api.block_feed import ListState, now_ms
from blocked_api.block_list import BlockList
from blocked_api.blocks import BlocksUnavailableError, MalformedEntryError
from blocked_api.changes import Change, Delta, GapError, Place, Version
from login_blocking.subjects import SUBJECT_TYPES, Subject, SubjectType

WAIT_MS: Final = 200
"""How long one question for changes waits at Redis: so long may a Redis that hangs go unnoticed."""

ALIVE_EVERY_S: Final = 15.0
_CAUGHT_UP_WITHIN_S: Final = 0.25
_COUNTED_EVERY_S: Final = 30.0
_CLOCKS_DIFFER_MS: Final = 10_000
_STATE_EVERY_S: Final = 0.5
_TOLD_AT_ONCE: Final = 500
"""Subjects in one event."""
_SETTLED_EVERY: Final = 10_000
"""Changes."""
_RETRY_S: Final = (0.05, 1.0)

T = TypeVar("T")
_log = structlog.get_logger("blocked_api")


class Feed(Protocol):
    """What the follower reads: `RedisFeed`."""

    def state(self) -> ListState | None:
        """The list as a whole; None if there is none."""

    def load(self, state: ListState) -> BlockList:
        """The list with its history."""

    def changes(self, after: Place, wait_ms: int) -> list[Change]:
        """The changes after a place."""

    def count(self, subject_type: SubjectType, later_than: int) -> int:
        """How many are blocked for longer than that moment, as Redis counts."""


@dataclass(frozen=True, slots=True)
class Told:
    """What listeners hear, in this order and under the follower's lock.

    `delta` None is a reset: what was told before no longer leads to `version`.
    """

    version: Version
    delta: Delta | None


@dataclass(frozen=True, slots=True)
class Health:
    """How the list stands, as people read it: status of the list, and of Redis (`ok`, `down`)."""

    status: str
    redis: str


@dataclass(frozen=True, slots=True)
class Alive:
    """Nothing has happened up to this version; None while there is no list."""

    version: Version | None


Heard = Told | Health | Alive
Listener = Callable[[Heard], None]


class Follower:
    """One thread that follows the changes in Redis; any thread may `read` the list.

    A change that is missing, another generation of the list, or a count that differs from Redis'
    own make it read everything anew. `settle` is called whenever much has been put into memory that
    will stay there.
    """

    def __init__(
        self,
        feed: Feed,
        clock: Callable[[], int] = now_ms,
        settle: Callable[[], object] = lambda: None,
        on_reload: Callable[[], object] = lambda: None,
    ) -> None:
        self._on_reload = on_reload
        self._feed = feed
        self._settle = settle
        self._changes_to_settle = 0
        self._clock = clock
        self._condition = threading.Condition()
        self._blocks: BlockList | None = None
        self._state: ListState | None = None
        self._health = Health("refilling", "down")
        self._listeners: list[Listener] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._counted_at_s = self._state_at_s = self._alive_at_s = 0.0
        self.reloads = 0

    def start(self) -> None:
        """Begins to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, within moments."""
        self._stopped.set()
        self._thread.join(timeout=5)

    def listen(self, listener: Listener) -> None:
        """Calls it with all that happens from now on; it must return at once and take no lock."""
        with self._condition:
            self._listeners.append(listener)

    @property
    def health(self) -> Health:
        """What was last told."""
        return self._health

    def read(self, state: ListState, question: Callable[[BlockList], T]) -> T:
        """Asks the list as it was at `state` or later, ends up to now included.

        Raises BlocksUnavailableError if the list is not there yet. The question must be quick.
        """
        with self._condition:
            if not self._condition.wait_for(lambda: self._reached(state), _CAUGHT_UP_WITHIN_S):
                raise BlocksUnavailableError("the list is being read")
            blocks = self._blocks
            if blocks is None:  # for the type checker: what has been reached is there
                raise BlocksUnavailableError("the list is being read")
            self._tell_ends(blocks)
            return question(blocks)

    def reached(self, state: ListState) -> BlockList | None:
        """The list if `read` would answer at once, and nothing ends meanwhile. Takes no lock."""
        blocks = self._blocks
        if blocks is None or not self._reached(state) or blocks.next_end <= self._clock():
            return None
        return blocks

    def _reached(self, state: ListState) -> bool:
        blocks = self._blocks
        if blocks is None:
            return False
        version = blocks.version
        return version.generation == state.generation and (
            state.place is None or version.place >= state.place
        )

    def _run(self) -> None:
        wait_s = _RETRY_S[0]
        while not self._stopped.is_set():
            try:
                self._tell_alive()
                self.follow_once(WAIT_MS)
                wait_s = _RETRY_S[0]
            except GapError:
                self._forget("a change is missing")
            except MalformedEntryError:
                self._forget("an entry that is none")
                self._stopped.wait(_RETRY_S[1])
            except (RedisError, OSError, BlocksUnavailableError) as error:
                if wait_s == _RETRY_S[0]:
                    _log.warning("redis is not followed", cause=type(error).__name__)
                self._tell_health(Health(self._status(), "down"))
                self._state_at_s = 0.0
                self._stopped.wait(wait_s)
                wait_s = min(2 * wait_s, _RETRY_S[1])
            except Exception as error:  # noqa: BLE001 — a thread that ends in silence would be worse
                _log.error("following failed", cause=type(error).__name__)
                self._forget("an unforeseen error")
                self._stopped.wait(wait_s)

    def follow_once(self, wait_ms: int) -> None:
        """One step: the state and the list where they are due, the next changes and ends."""
        moment_s = time.monotonic()
        due = self._blocks is None or moment_s >= self._state_at_s + _STATE_EVERY_S
        if due and not self._is_there(moment_s):
            self._stopped.wait(wait_ms / 1_000)
            return
        blocks = self._blocks
        if blocks is None:
            return
        ends_in_ms = max(1.0, blocks.next_end - self._clock())
        changes = self._feed.changes(blocks.version.place, int(min(wait_ms, ends_in_ms)))
        with self._condition:
            for part in _without_repeats(changes):
                delta = Delta()
                for change in part:
                    delta.update(blocks.apply(change))
                if delta:
                    self._tell(Told(blocks.version, delta))
            if changes:
                self._condition.notify_all()
            self._tell_ends(blocks)
        self._changes_to_settle += len(changes)
        if self._changes_to_settle >= _SETTLED_EVERY:
            self._changes_to_settle = 0
            self._settle()
        if moment_s >= self._counted_at_s + _COUNTED_EVERY_S:
            self._counted_at_s = moment_s
            self._compare_counts(blocks)

    def _is_there(self, moment_s: float) -> bool:
        """Whether Redis has a list; it is read if it is not the one in memory."""
        self._state = self._feed.state()
        self._state_at_s = moment_s
        if self._state is None:
            self._missing()
            return False
        if self._blocks is None or self._blocks.version.generation != self._state.generation:
            self._load(self._state)
        self._tell_health(Health(self._status(), "ok"))
        return True

    def _load(self, state: ListState) -> None:
        began_s = time.monotonic()
        blocks = self._feed.load(state)
        self._on_reload()
        self.reloads += 1
        with self._condition:
            self._blocks = blocks
            self._tell(Told(blocks.version, None))
            self._condition.notify_all()
        self._counted_at_s = time.monotonic()
        self._settle()
        _log.info("list read", subjects=len(blocks), ms=round(1_000 * (time.monotonic() - began_s)))

    def _missing(self) -> None:
        with self._condition:
            self._blocks = None
        self._tell_health(Health("refilling", "ok"))

    def _forget(self, why: str) -> None:
        _log.warning("list will be read anew", why=why)
        with self._condition:
            self._blocks = None

    def _compare_counts(self, blocks: BlockList) -> None:
        # Redis lifts by its own clock, and what is about to end may end between the two counts.
        later_than = self._clock() + _CLOCKS_DIFFER_MS
        for kind in SUBJECT_TYPES:
            known = blocks.version.place
            in_redis = self._feed.count(kind, later_than)
            with self._condition:
                listed = blocks.count(kind, later_than)
            state = self._feed.state()
            unchanged = state is not None and (state.place or known) == known
            if unchanged and listed != in_redis:
                raise GapError

    def _status(self) -> str:
        return "refilling" if self._state is None else self._state.status(self._clock())

    def _tell_ends(self, blocks: BlockList) -> None:
        before = blocks.version
        parts = list(blocks.advance(self._clock()).parts(_TOLD_AT_ONCE))
        for number, part in enumerate(parts, 1):
            # Who hears only the first ones must hear them again: they lead nowhere yet.
            self._tell(Told(blocks.version if number == len(parts) else before, part))

    def _tell_alive(self) -> None:
        if time.monotonic() >= self._alive_at_s + ALIVE_EVERY_S:
            self._alive_at_s = time.monotonic()
            with self._condition:
                self._tell(Alive(None if self._blocks is None else self._blocks.version))

    def _tell_health(self, health: Health) -> None:
        with self._condition:
            if health != self._health:
                self._health = health
                self._tell(health)

    def _tell(self, told: Heard) -> None:
        for listener in self._listeners:
            listener(told)


def _without_repeats(changes: list[Change]) -> list[list[Change]]:
    """Cut where a subject comes again: a delta tells each only once."""
    parts: list[list[Change]] = []
    seen: set[Subject] = set()
    for change in changes:
        if not parts or change.subject in seen or len(seen) >= _TOLD_AT_ONCE:
            parts.append([])
            seen.clear()
        parts[-1].append(change)
        seen.add(change.subject)
    return parts
