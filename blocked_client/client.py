"""Keeps the copy in step with the Blocked API, and answers from it.

One daemon thread talks to the server: it takes the full list, then follows the stream of changes
and resumes it after every break. Nothing that the server tells, or fails to tell, ends it.
"""

import logging
import os
import random
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from types import TracebackType
from typing import Final, Literal, Self

import urllib3
from urllib3.exceptions import HTTPError

from blocked_client.answers import (
    ListStatus,
    MalformedAnswerError,
    list_status,
    read_changes,
    read_status,
    read_version,
)
from blocked_client.block_copy import Block, BlockCopy, Held, block_of
from blocked_client.event_stream import Event, EventStreamParser, MalformedStreamError
from login_blocking.subjects import SubjectType, ip_key, user_key

State = Literal["complete", "refilling", "stale", "unreachable"]
WhenUnknown = Literal["allow", "refuse"]

_log = logging.getLogger("blocked_client")

_LARGEST_ANSWER_BYTES: Final = 256 * 1024 * 1024
"""About 1.5 million blocks; no answer and no event may take more memory."""

_SPELLINGS_REMEMBERED: Final = 32_768
_LONGEST_REMEMBERED: Final = 128
"""In characters. What a stranger sends may be longer; it is put into normal form each time."""

_READ_BYTES: Final = 65_536
_FIRST_DELAY_S: Final = 1.0
_LONGEST_DELAY_S: Final = 10.0
_HEALTHY_AFTER_S: Final = 10.0
"""A connection that lived so long was a good one: the next delay is the first again."""

_LONGEST_RETRY_AFTER_S: Final = 60
_SPREAD_S: Final = 2.0
"""Clients that learn at one moment that something is due come at random within this time."""

_CLOSED_WITHIN_S: Final = 2.0

_OTHER_VERSION: Final = (HTTPStatus.BAD_REQUEST, HTTPStatus.GONE)
"""The server does not know the version that was asked for: the full list is due."""


@dataclass(frozen=True, slots=True)
class Status:
    """How far the copy can be trusted.

    `state` is what the server says of its list, `unreachable` while it is not heard; `age_s` is the
    time since anything was heard that could be read, None if nothing ever was. `problem` tells why
    the last connection ended, None while one stands. The rest counts since the start.
    """

    state: State
    age_s: float | None
    version: str | None
    users: int
    ips: int
    problem: str | None
    full_lists: int
    changes: int
    connections: int
    malformed: int


class _RefusedError(Exception):
    """The server answered, but not with what was asked for."""

    def __init__(self, status: int, retry_after_s: float) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.retry_after_s = retry_after_s


class _EndedError(Exception):
    """The server ended the stream."""


class BlockedClient:
    """Who is blocked, from memory.

    `when_unknown` decides for everybody until the first list is there, and again once nothing was
    heard for longer than `max_age_s`; None: the copy answers however old it is. `silence_s` without
    a byte ends a connection: more than the 15 s between the server's comments. `clock_s` is the
    wall clock that ends of blocks are compared with; `random_fraction` gives from 0 to 1.

    One client is one thread; it does not survive a fork: start it in each worker. Raises
    ValueError for settings that cannot be meant.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        when_unknown: WhenUnknown = "refuse",
        max_age_s: float | None = None,
        connect_timeout_s: float = 3.0,
        silence_s: float = 20.0,
        clock_s: Callable[[], float] = time.time,
        random_fraction: Callable[[], float] = random.random,
    ) -> None:
        if urllib3.util.parse_url(url).scheme not in ("http", "https"):
            raise ValueError("url: not of the form http://host:port")
        if when_unknown not in ("allow", "refuse"):
            raise ValueError("when_unknown: allow or refuse")
        if max_age_s is not None and not max_age_s >= silence_s:  # NaN is not meant either
            raise ValueError("max_age_s: at least silence_s, so long a connection may say nothing")
        if token is not None and not (token.isascii() and token.isprintable() and token):
            raise ValueError("token: printable ASCII, or None")
        self._url = url.rstrip("/")
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._blocked_when_unknown = when_unknown == "refuse"
        self._max_age_s = max_age_s
        self._timeout = urllib3.Timeout(connect=connect_timeout_s, read=silence_s)
        self._clock_s = clock_s
        self._random_fraction = random_fraction
        self._copy = BlockCopy(clock_s)
        self._known = False
        self._user_key = lru_cache(_SPELLINGS_REMEMBERED)(_user_spelling)
        self._ip_key = lru_cache(_SPELLINGS_REMEMBERED)(_ip_spelling)

        self._pid = os.getpid()
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._closing = threading.Event()
        self._response: urllib3.BaseHTTPResponse | None = None

        # Written by the thread alone.
        self._version: str | None = None
        self._list_status: ListStatus = "stale"
        self._reachable = False
        self._first_delay_s = _FIRST_DELAY_S
        self._heard_at_s: float | None = None
        self._problem: str | None = None
        self._full_lists = self._changes = self._connections = self._malformed = 0

    def start(self) -> Self:
        """Begins to follow the list; returns at once. A second call changes nothing.

        Raises RuntimeError once it was closed.
        """
        if self._closing.is_set():
            raise RuntimeError("this client was closed")
        self._own()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="blocked-client", daemon=True)
            self._thread.start()
        return self

    def close(self) -> None:
        """Stops following, for good. The copy still answers, ever older.

        In a fork that has not called `start` nothing is followed: the parent's connection, whose
        socket the two share, goes on.
        """
        self._own()
        self._closing.set()
        response, thread = self._response, self._thread
        if response is not None:
            with suppress(OSError, RuntimeError, ValueError):  # it may have ended by itself
                response.shutdown()
        if thread is not None:
            thread.join(_CLOSED_WITHIN_S)  # one that is still connecting ends by itself

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Whether the first list is there within that time."""
        return self._ready.wait(timeout_s)

    @property
    def is_ready(self) -> bool:
        """Whether answers come from the list: it was taken, and is no older than `max_age_s`."""
        return self._known and not self._is_too_old()

    def is_blocked(self, user: str | None = None, ip: str | None = None) -> bool:
        """Whether the user or the address is blocked now, in any spelling.

        What cannot be a name or an address is not blocked: it is nobody's. What is no text at all
        is: the caller mistook what it was sent. Costs one look into a dictionary each, takes no
        lock, raises nothing.
        """
        if not self._known or (self._max_age_s is not None and self._is_too_old()):
            return self._blocked_when_unknown
        # Spelled as block_of does, without its calls: this is the hot path.
        try:
            if user is not None:
                short = len(user) <= _LONGEST_REMEMBERED
                held = self._copy.users.get(self._user_key(user) if short else _user_spelling(user))
                if held is not None and held[0] > self._clock_s():
                    return True
            if ip is not None:
                short = len(ip) <= _LONGEST_REMEMBERED
                held = self._copy.ips.get(self._ip_key(ip) if short else _ip_spelling(ip))
                if held is not None and held[0] > self._clock_s():
                    return True
        except TypeError:
            return True
        return False

    def block_of(self, user: str | None = None, ip: str | None = None) -> Block | None:
        """The block of the user or the address, the one that ends last; None: not blocked.

        From the copy, whatever `when_unknown` and `max_age_s` say: see `is_ready`.
        """
        found: list[tuple[SubjectType, str, Held]] = []
        if isinstance(user, str):
            key = self._spelled_user(user)
            if (held := self._copy.users.get(key)) is not None:
                found.append(("user", key, held))
        if isinstance(ip, str):
            key = self._spelled_ip(ip)
            if (held := self._copy.ips.get(key)) is not None:
                found.append(("ip", key, held))
        now_s = self._clock_s()
        live = [it for it in found if it[2].ends_at_s > now_s]
        return block_of(*max(live, key=lambda it: it[2].ends_at_s)) if live else None

    def blocked(self, subject_type: SubjectType) -> list[str]:
        """All users (or addresses) that are blocked now, sorted, in normal form."""
        return self._copy.blocked(subject_type)

    @property
    def status(self) -> Status:
        """How far the copy can be trusted now."""
        heard_at_s, thread = self._heard_at_s, self._thread
        # In a fork the thread is none.
        heard = self._reachable and thread is not None and thread.is_alive()
        return Status(
            state=self._list_status if heard else "unreachable",
            age_s=None if heard_at_s is None else time.monotonic() - heard_at_s,
            version=self._version,
            users=len(self._copy.users),
            ips=len(self._copy.ips),
            problem=self._problem,
            full_lists=self._full_lists,
            changes=self._changes,
            connections=self._connections,
            malformed=self._malformed,
        )

    def _spelled_user(self, name: str) -> str:
        return self._user_key(name) if len(name) <= _LONGEST_REMEMBERED else _user_spelling(name)

    def _spelled_ip(self, address: str) -> str:
        cached = len(address) <= _LONGEST_REMEMBERED
        return self._ip_key(address) if cached else _ip_spelling(address)

    def _is_too_old(self) -> bool:
        if self._max_age_s is None:
            return False
        heard_at_s = self._heard_at_s
        return heard_at_s is None or time.monotonic() - heard_at_s > self._max_age_s

    def _own(self) -> None:
        """In a fork, lets go of what is the parent's: its thread, its connection, its locks."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._thread = self._response = None
        self._reachable = False
        self._ready, self._closing = _copied(self._ready), _copied(self._closing)

    def _run(self) -> None:
        failures = 0
        while not self._closing.is_set():
            if self._version is None and self._known:
                # Due for all clients at once, and the copy answers meanwhile.
                self._closing.wait(_SPREAD_S * self._random_fraction())
                if self._closing.is_set():
                    break
            began_s = time.monotonic()
            problem, retry_after_s = self._follow_once()
            if self._closing.is_set():
                break
            if time.monotonic() - began_s >= _HEALTHY_AFTER_S:
                failures = 0
            if problem is not None:
                self._reachable = False
                if problem != self._problem:
                    _log.warning("the block list is not followed: %s", problem)
                self._problem = problem
            if problem is not None or failures:
                fraction = self._random_fraction()
                self._closing.wait(
                    reconnect_delay_s(failures, self._first_delay_s, fraction, retry_after_s)
                )
            failures += 1
        self._reachable = False

    def _follow_once(self) -> tuple[str | None, float]:
        """Until the connection ends: why, None if the full list is due; how long to stay away."""
        try:
            if self._version is None:
                self._version = self._take_full_list()
            self._follow(self._version)
        except _RefusedError as error:
            if error.status in _OTHER_VERSION:
                self._version = None
            return str(error), error.retry_after_s
        except _EndedError as error:
            return str(error), 0.0
        except (HTTPError, OSError) as error:
            return type(error).__name__, 0.0  # the message would name the URL
        except (MalformedAnswerError, MalformedStreamError) as error:
            problem = f"malformed answer: {error}"
        except Exception as error:  # noqa: BLE001 - the list must be followed, come what may
            problem = f"unexpected {type(error).__name__}"
            if not self._closing.is_set():  # whose shutdown may look like anything
                # Without the message, which could quote a name; the lines of code do not.
                where = "".join(traceback.format_tb(error.__traceback__))
                _log.error("%s\n%s", problem, where)
        else:
            return None, 0.0
        self._malformed += 1
        self._version = None
        return problem, 0.0

    def _take_full_list(self) -> str:
        """Returns the version from which the stream goes on."""
        with self._opened("/blocked/changes", {"Accept-Encoding": "gzip"}) as response:
            pieces, size = [], 0
            while piece := response.read(_READ_BYTES):
                pieces.append(piece)
                size += len(piece)
                if size > _LARGEST_ANSWER_BYTES:
                    raise MalformedAnswerError("a list that is too long")
            status = list_status(response.headers.get("Block-List-Status"))
        changes = read_changes(b"".join(pieces))
        if not changes.full:
            raise MalformedAnswerError("not the full list")
        self._copy.take_full(changes.blocked, status)
        self._list_status = status
        self._reachable = True
        self._heard_at_s = time.monotonic()
        self._full_lists += 1
        self._known = True
        self._ready.set()
        return changes.version

    def _follow(self, version: str) -> None:
        """Applies changes; returns when the full list is due, then `_version` is None."""
        headers = {"Accept": "text/event-stream", "Last-Event-ID": version}
        with self._opened("/blocked/stream", headers) as response:
            if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
                raise MalformedAnswerError("not a stream of events")
            self._connections += 1
            parser = EventStreamParser(_LARGEST_ANSWER_BYTES)
            while chunk := response.read1(_READ_BYTES):
                for event in parser.feed(chunk):
                    if not self._take(event):
                        self._version = None
                        return
                if parser.last_id:  # comments carry one too, so that a quiet list does not age
                    self._version = read_version(parser.last_id)
                self._heard_at_s = time.monotonic()
                if parser.retry_ms is not None:
                    self._first_delay_s = parser.retry_ms / 1_000
        raise _EndedError("the stream ended")

    def _take(self, event: Event) -> bool:
        """Whether the stream can be followed on: else the full list is due."""
        if event.type == "reset":
            return False
        if event.type == "status":
            self._list_status = read_status(event.data)
            self._reachable, self._problem = True, None
            return not (self._list_status == "complete" and self._copy.owes_drops)
        if event.type == "change":
            changes = read_changes(event.data)
            if changes.full:
                self._copy.take_full(changes.blocked, self._list_status)
            else:
                self._copy.apply(changes, self._list_status)
            self._version = changes.version
            self._changes += 1
        return True

    @contextmanager
    def _opened(self, call: str, headers: dict[str, str]) -> Iterator[urllib3.BaseHTTPResponse]:
        """An answer with status 200, whose connection ends with the block."""
        with urllib3.PoolManager(num_pools=1, retries=False, timeout=self._timeout) as pool:
            response = pool.request(
                "GET",
                self._url + call,
                headers={**self._headers, **headers},
                preload_content=False,
                redirect=False,  # the token is for this server alone
            )
            self._response = response
            try:
                if response.status != HTTPStatus.OK:
                    raise _RefusedError(response.status, _retry_after_s(response))
                if self._closing.is_set():
                    raise _EndedError("closing")
                yield response
            finally:
                self._response = None
                response.close()


def reconnect_delay_s(
    failures: int, first_s: float, fraction: float, retry_after_s: float = 0.0
) -> float:
    """How long to wait after so many failures in a row: doubled each time, by half at random.

    Longer if the server said `retry_after_s`: that, and at random up to half of it, or 2 s if that
    is more. `fraction` from 0 to 1 is the random part: it keeps the clients of a server that went
    away from coming back all at once.
    """
    longest_s = min(_LONGEST_DELAY_S, max(first_s, 0.05) * 2.0 ** min(failures, 16))
    delay_s = longest_s * (0.5 + fraction / 2)
    if not retry_after_s:
        return delay_s
    return max(delay_s, retry_after_s + fraction * max(_SPREAD_S, retry_after_s / 2))


def _retry_after_s(response: urllib3.BaseHTTPResponse) -> float:
    told = response.headers.get("Retry-After", "")
    known = told.isascii() and told.isdigit()
    return float(min(int(told[:9]), _LONGEST_RETRY_AFTER_S)) if known else 0.0


def _copied(event: threading.Event) -> threading.Event:
    """Set if that one is, with a lock that no thread can have held when the process forked."""
    copied = threading.Event()
    if event.is_set():
        copied.set()
    return copied


def _spelling(key_of: Callable[[str], str]) -> Callable[[object], str]:
    """From what was asked about to its key, for users or for addresses.

    Empty, which no key is, for what cannot be one. The same object, if it is the key. Raises
    TypeError for what is no text.
    """

    def spelled(asked: object) -> str:
        if not isinstance(asked, str):
            raise TypeError("no text")
        try:
            key = key_of(asked)
        except ValueError:
            return ""
        return asked if key == asked else key

    return spelled


_user_spelling: Final = _spelling(user_key)
_ip_spelling: Final = _spelling(ip_key)
