"""Changes as server-sent events: a task a client, no thread."""

import asyncio
import contextlib
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final
from urllib.parse import parse_qs

import orjson

from blocked_api.blocks import BlocksUnavailableError
from blocked_api.changes import Version
from blocked_api.follower import Alive, Follower, Health, Heard, Told
from blocked_api.present import Present

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

RING: Final = 10_000
"""Events kept for slow clients; who is further behind is let go, and resumes."""
_GROUPS: Final = 32
_AWAKE_AT_ONCE: Final = 32
"""Clients are woken in groups; after so many the loop takes breath, and calls come in between."""
_BREATH_S: Final = 0.0003
_RETRY_MS: Final = 1_000
_RING_BYTES: Final = 64 * 1024 * 1024
PIECE_BYTES: Final = 128 * 1024
"""What is sent at once: a client that lags does not cost more memory than that."""
_TAKEN_WITHIN_S: Final = 20.0
"""A client that does not read for so long is let go."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a stream does not begin: status, the error told, further headers."""

    status: int
    error: str
    headers: Headers


class Stream:
    """All clients of one process. `tell` may be called by any thread, the rest by the loop's.

    `most` clients at once, `most_each` of one address, which `share` lets begin so often.
    """

    def __init__(
        self,
        present: Present,
        follower: Follower,
        *,
        most: int,
        most_each: int,
        share: Callable[[str], bool],
    ) -> None:
        self._present = present
        self.follower = follower
        self._most = most
        self._most_each = most_each
        self._share = share
        self._ring: deque[bytes] = deque()
        self._ring_bytes = 0
        self._told = 0
        self._ring_lock = threading.Lock()  # held for moments only: the loop takes it too
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = [asyncio.Event() for _ in range(_GROUPS)]
        self._waking = self._wake_again = False
        self._ended = False
        self._in_group = [0] * _GROUPS
        self._of_client: Counter[str] = Counter()
        self.clients = 0
        follower.listen(self.tell)

    def tell(self, heard: Heard) -> None:
        """Puts an event before all clients; without one it costs nothing."""
        if self.clients:
            self._put(_encoded(heard))

    def begin(self) -> None:
        """Called in the event loop that serves the clients."""
        self._loop = asyncio.get_running_loop()

    def let_go(self) -> None:
        """Ends all streams, so that the process can end; clients resume elsewhere."""
        self._ended = True
        self._wake()

    async def answer(
        self, scope: Scope, client: str, receive: Receive, send: Send, pool: Executor
    ) -> int:
        """Serves one client until it or `let_go` ends it; the status of the answer."""
        refusal = self._refusal(client)
        if refusal is not None:
            await refuse(send, refusal)
            return refusal.status
        self.clients += 1
        self._of_client[client] += 1
        try:
            loop = asyncio.get_running_loop()
            begin = await loop.run_in_executor(pool, self._first, _asked_since(scope))
            if isinstance(begin, Refusal):
                await refuse(send, begin)
                return begin.status
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            serving = asyncio.ensure_future(self._serve(send, *begin))
            leaving = asyncio.ensure_future(_left(receive))
            try:
                await asyncio.wait((serving, leaving), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (serving, leaving):
                    task.cancel()
            with contextlib.suppress(asyncio.CancelledError, TimeoutError, OSError):
                await serving
            with contextlib.suppress(Exception):  # the client may be gone
                await send({"type": "http.response.body", "body": b""})
            return 200
        finally:
            self.clients -= 1
            self._of_client[client] -= 1
            if not self._of_client[client]:
                del self._of_client[client]

    def _refusal(self, client: str) -> Refusal | None:
        if self.clients >= self._most:
            return Refusal(503, "Too many streams", [(b"retry-after", b"5")])
        if self._of_client[client] >= self._most_each or not self._share(client):
            return Refusal(429, "Too many streams of one client", [(b"retry-after", b"10")])
        return None

    def _first(self, since: str | None) -> tuple[bytes, int] | Refusal:
        """In a thread, for it waits for the follower: what is told first, and what comes next."""
        try:
            version = None if since is None else Version.parse(since)
        except ValueError:
            return Refusal(400, "since: not a version", [])
        try:
            _, begun = self._present.read(
                lambda blocks: (
                    blocks.version,
                    None if version is None else blocks.since(version),
                    self._told,
                )
            )
        except BlocksUnavailableError:
            error = "The block list cannot be read now; try again"
            return Refusal(503, error, [(b"retry-after", b"1")])
        now, delta, told = begun
        first = b"retry: %d\n\n" % _RETRY_MS + _encoded(self.follower.health)
        if version is None:
            first += _change({"version": str(now), "full": False, **_NOTHING}, now)
        else:
            first += _encoded(Told(now, delta))
        return first, told

    async def _serve(self, send: Send, first: bytes, told: int) -> None:
        for start in range(0, len(first), PIECE_BYTES):
            await send_piece(send, first[start : start + PIECE_BYTES])
        group = min(range(_GROUPS), key=self._in_group.__getitem__)
        self._in_group[group] += 1
        try:
            await self._follow(send, told, group)
        finally:
            self._in_group[group] -= 1

    async def _follow(self, send: Send, told: int, group: int) -> None:
        while not self._ended:
            news = self._news[group]
            while told < self._told:
                chunk, told = self._next(told)
                if not chunk:
                    return  # too far behind: it comes back, and is told the difference
                await send_piece(send, chunk)
            if not self._ended:
                await news.wait()

    def _next(self, told: int) -> tuple[bytes, int]:
        """What comes after the first `told` events, in one piece; nothing if that is gone."""
        with self._ring_lock:
            missed = self._told - told
            if missed > len(self._ring):
                return b"", told
            # From the right end: the other one may be ten thousand steps away.
            waiting = list(islice(reversed(self._ring), missed))
        waiting.reverse()
        size = 0
        for count, event in enumerate(waiting, 1):
            size += len(event)
            if size >= PIECE_BYTES:
                return b"".join(waiting[:count]), told + count
        return b"".join(waiting), told + len(waiting)

    def _put(self, event: bytes) -> None:
        with self._ring_lock:
            self._ring.append(event)
            self._ring_bytes += len(event)
            self._told += 1
            while len(self._ring) > RING or self._ring_bytes > _RING_BYTES:
                self._ring_bytes -= len(self._ring.popleft())
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # a loop that has ended
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        """Wakes all clients, a group at a time: calls come in between."""
        if self._waking:
            self._wake_again = True
        else:
            self._waking = True
            self._wake_group(0)

    def _wake_group(self, group: int) -> None:
        """Wakes groups from this one on, until so many clients are awake that calls must wait."""
        awake = 0
        while group < _GROUPS and awake < _AWAKE_AT_ONCE:
            news, self._news[group] = self._news[group], asyncio.Event()
            news.set()
            awake += self._in_group[group]
            group += 1
        if group < _GROUPS:
            asyncio.get_running_loop().call_later(_BREATH_S, self._wake_group, group)
            return
        self._waking = False
        if self._wake_again:
            self._wake_again = False
            self._wake()


async def refuse(send: Send, refusal: Refusal) -> None:
    """A short answer in JSON."""
    body = orjson.dumps({"error": refusal.error}, option=orjson.OPT_APPEND_NEWLINE)
    headers = [(b"content-type", b"application/json"), *COMMON_HEADERS, *refusal.headers]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


COMMON_HEADERS: Final[Headers] = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]
_HEADERS: Final[Headers] = [
    (b"content-type", b"text/event-stream"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
    *COMMON_HEADERS,
]
_NOTHING: Final[dict[str, list[object]]] = {"added": [], "changed": [], "removed": []}


def _asked_since(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"last-event-id" and value:
            return str(value.decode("latin-1"))
    found = parse_qs(scope["query_string"].decode("latin-1")).get("since")
    return found[0] if found else None


def _encoded(told: Heard) -> bytes:
    if isinstance(told, Alive):
        # The id lets a client that was told nothing for long resume from here.
        return (
            b": alive\n\n" if told.version is None else b": alive\nid: %b\n\n" % _id(told.version)
        )
    if isinstance(told, Health):
        document = orjson.dumps({"status": told.status, "redis": told.redis})
        return b"event: status\ndata: %b\n\n" % document
    if told.delta is None:
        return b"event: reset\ndata: %b\n\n" % orjson.dumps({"version": str(told.version)})
    return _change(told.delta.document(told.version), told.version)


def _change(document: dict[str, Any], version: Version) -> bytes:
    # JSON holds no line ends of its own, whatever a name holds.
    return b"id: %b\nevent: change\ndata: %b\n\n" % (_id(version), orjson.dumps(document))


def _id(version: Version) -> bytes:
    return str(version).encode()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_piece(send: Send, piece: bytes) -> None:
    """A part of a body, after which more comes; raises TimeoutError if nobody takes it."""
    async with asyncio.timeout(_TAKEN_WITHIN_S):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
