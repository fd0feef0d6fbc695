"""Reads Redis, which this side cannot write: its Redis user may not."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson
import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from blocked_api.block_list import BlockList
from blocked_api.blocks import (
    Blocks,
    BlocksUnavailableError,
    MalformedEntryError,
    live_blocks,
    live_blocks_of,
)
from blocked_api.changes import Change, Place
from login_blocking.names import (
    BLOCK_CHANGES,
    BLOCK_STATE,
    block_hash,
    blocked_set,
    blocks_begun,
)
from login_blocking.redis_urls import with_verified_name
from login_blocking.subjects import SUBJECT_TYPES, Subject, SubjectType

STALE_AFTER_MS: Final = 10_000
"""A detector that has not reported for so long may not be there: new blocks may be missing."""

_AWAY_MS: Final = 500
"""How long a Redis that did not answer is left alone: see `RedisQuestions`."""
_AT_ONCE: Final = 5_000
"""Changes or subjects a round trip."""
_TYPES: Final[dict[str, SubjectType]] = {blocked_set(kind): kind for kind in SUBJECT_TYPES}
_STATE_FIELDS: Final = ("generation", "version", "complete_at", "heartbeat", "lag_ms")


def now_ms() -> int:
    """The wall clock in ms since the epoch."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class ListState:
    """What Redis says of its list as a whole; times in ms since the epoch, None when unknown."""

    generation: str
    place: Place | None
    complete_at: int | None
    heartbeat: int | None
    lag_ms: int | None

    def status(self, now: int) -> str:
        """`complete`, `refilling` (blocks may be missing) or `stale` (new ones may be)."""
        if self.complete_at is None or now < self.complete_at:
            return "refilling"
        if self.heartbeat is None or now - self.heartbeat > STALE_AFTER_MS:
            return "stale"
        return "complete"

    def heartbeat_age_ms(self, now: int) -> int | None:
        """How long ago the detector reported; clocks that differ make it no less than 0."""
        return None if self.heartbeat is None else max(0, now - self.heartbeat)


def state_of(fields: Sequence[bytes | None]) -> ListState | None:
    """The values of _STATE_FIELDS; None if there is no list yet. Raises MalformedEntryError."""
    generation, version, complete_at, heartbeat, lag_ms = fields
    if generation is None:
        return None
    try:
        return ListState(
            generation.decode(),
            None if version is None else Place.parse(version.decode()),
            *(int(text) if text else None
              for text in (complete_at, heartbeat, lag_ms)),
        )  # fmt: skip
    except ValueError as error:
        raise MalformedEntryError("a state that is none") from error


class RedisQuestions:
    """Short questions, each one round trip, for what answers calls.

    No question takes longer than `timeout_ms` twice. While Redis is away, questions fail at once
    and only one of them every `_AWAY_MS` really asks: threads that all wait for Redis would keep
    the other clients, and the health check, waiting. All raise BlocksUnavailableError.
    """

    def __init__(self, url: str, timeout_ms: int) -> None:
        self._redis = redis.Redis(
            connection_pool=_pool(url, timeout_ms / 1_000, Retry(NoBackoff(), 1))
        )
        self._ask_again_at_ms: float | None = None

    def state(self) -> ListState | None:
        """The list as a whole; None if there is none."""
        return state_of(self._ask(lambda: self._redis.hmget(BLOCK_STATE, list(_STATE_FIELDS))))

    def begun(self, minutes: Sequence[int]) -> list[dict[str, int]]:
        """For each minute since the epoch: rule → blocks that began in it."""
        pipeline = self._redis.pipeline(transaction=False)
        for minute in minutes:
            pipeline.hgetall(blocks_begun(minute))
        answers = self._ask(pipeline.execute)
        return [{rule: int(count) for rule, count in _by_text(found).items()} for found in answers]

    def close(self) -> None:
        """Closes all connections."""
        self._redis.connection_pool.disconnect()

    def _ask(self, question: Callable[[], Any]) -> Any:  # noqa: ANN401 — whatever Redis answers
        ask_again_at_ms, moment_ms = self._ask_again_at_ms, _monotonic_ms()
        if ask_again_at_ms is not None:
            if moment_ms < ask_again_at_ms:
                raise BlocksUnavailableError("Redis was away a moment ago")
            self._ask_again_at_ms = moment_ms + _AWAY_MS
        try:
            answer = question()
        except (RedisError, OSError) as error:
            self._ask_again_at_ms = _monotonic_ms() + _AWAY_MS
            raise BlocksUnavailableError("Redis did not answer") from error
        self._ask_again_at_ms = None
        return answer


class RedisFeed:
    """The whole list and then each change, for the one thread that follows them.

    All raise redis' errors, and MalformedEntryError for what is none.
    """

    def __init__(self, url: str, timeout_ms: int, clock: Callable[[], int] = now_ms) -> None:
        self._clock = clock
        self._redis = redis.Redis(
            connection_pool=_pool(url, timeout_ms / 1_000, Retry(NoBackoff(), 0))
        )

    def state(self) -> ListState | None:
        """The list as a whole; None if there is none."""
        return state_of(cast("Any", self._redis.hmget(BLOCK_STATE, list(_STATE_FIELDS))))

    def load(self, state: ListState) -> BlockList:
        """The list with its history: all changes that Redis keeps, and what stood there before."""
        changes = list(self._all_changes())
        unbroken = _unbroken(changes)
        if changes and len(unbroken) == len(changes) and unbroken[0].previous is None:
            blocks = BlockList(state.generation)  # they tell everything from the beginning
        else:
            known_from = unbroken[0].previous if unbroken else state.place
            blocks = BlockList(state.generation, *(() if known_from is None else (known_from,)))
            told = {change.subject for change in unbroken}
            for subject, live in self._stored():
                if subject not in told:
                    blocks.fill(subject, live)
            if known_from is not None or len(blocks):
                blocks.begin(self._clock(), told)
        for change in unbroken:
            blocks.advance(min(change.place.ms, self._clock()))
            blocks.apply(change)
        blocks.advance(self._clock())
        return blocks

    def changes(self, after: Place, wait_ms: int) -> list[Change]:
        """The changes after a place; waits up to `wait_ms` for one, 0 for not at all."""
        found = cast(
            "Any",
            self._redis.xread({BLOCK_CHANGES: str(after)}, count=_AT_ONCE, block=wait_ms or None),
        )
        return [self._change(*entry) for _, entries in found for entry in entries]

    def count(self, subject_type: SubjectType, later_than: int) -> int:
        """How many on Redis' own list are blocked for longer than that moment."""
        key, later = blocked_set(subject_type), f"({later_than}"
        return int(cast("int", self._redis.zcount(key, later, "+inf")))

    def close(self) -> None:
        """Closes the connection."""
        self._redis.connection_pool.disconnect()

    def _all_changes(self) -> Iterator[Change | None]:
        """None in place of one that is none."""
        start = "-"
        while True:
            entries = cast("Any", self._redis.xrange(BLOCK_CHANGES, start, "+", count=_AT_ONCE))
            for entry in entries:
                try:
                    yield self._change(*entry)
                except MalformedEntryError:
                    yield None
            if len(entries) < _AT_ONCE:
                return
            start = f"({entries[-1][0].decode()}"

    def _stored(self) -> Iterator[tuple[Subject, Blocks]]:
        for kind in SUBJECT_TYPES:
            seen: set[str] = set()
            found: list[str] = []
            for member, _ in self._redis.zscan_iter(blocked_set(kind), count=_AT_ONCE):
                name = member.decode()
                if name not in seen:  # a scan may show one twice
                    seen.add(name)
                    found.append(name)
                if len(found) == _AT_ONCE:
                    yield from self._stored_of(kind, found)
                    found = []
            yield from self._stored_of(kind, found)

    def _stored_of(
        self, kind: SubjectType, names: Iterable[str]
    ) -> Iterator[tuple[Subject, Blocks]]:
        subjects = [Subject(kind, name) for name in names]
        pipeline = self._redis.pipeline(transaction=False)
        for subject in subjects:
            pipeline.hgetall(block_hash(*subject))
        now = self._clock()
        for subject, entries in zip(subjects, pipeline.execute(), strict=True):
            live = live_blocks_of(_by_text(entries), now)
            if live:
                yield subject, live

    @staticmethod
    def _change(identity: bytes, fields: Mapping[bytes, bytes]) -> Change:
        try:
            subject = Subject(_TYPES[fields[b"list"].decode()], fields[b"subject"].decode())
            previous = fields[b"previous"].decode()
            place = Place.parse(identity.decode())
            # As it was then: what has ended since ends by `advance`, and is told.
            live = live_blocks(orjson.loads(fields[b"entries"]), place.ms)
        except (KeyError, ValueError, TypeError) as error:
            raise MalformedEntryError("a change that is none") from error
        return Change(place, Place.parse(previous) if previous else None, subject, live)


def _unbroken(changes: list[Change | None]) -> list[Change]:
    """The newest of them, as far back as none is missing between them."""
    newest: list[Change] = []
    for change in reversed(changes):
        if change is None or (newest and newest[-1].previous != change.place):
            break
        newest.append(change)
    return newest[::-1]


def _pool(url: str, timeout_s: float, retry: Retry) -> redis.ConnectionPool:
    return redis.ConnectionPool.from_url(
        with_verified_name(url),
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=retry,
        retry_on_error=[redis.ConnectionError, redis.TimeoutError],
        client_name="blocked-api",
    )


def _by_text(fields: Any) -> dict[str, bytes]:  # noqa: ANN401 — RESP2 and RESP3 differ
    if isinstance(fields, list):
        fields = dict(zip(fields[::2], fields[1::2], strict=True))
    return {key.decode(): value for key, value in fields.items()}


def _monotonic_ms() -> float:
    return time.monotonic() * 1_000
