"""The server's side: an ASGI application around the WSGI one, and streams beside it.

Why an adapter of our own: docs/decisions/0009-changes.md.
"""

import asyncio
import contextlib
import io
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import unquote_to_bytes

import structlog

from blocked_api.access import Access, Clients, SentHeaders
from blocked_api.block_list import BlockList
from blocked_api.metrics import Metrics
from blocked_api.present import FRESH, Fresh
from blocked_api.settings import LET_GO
from blocked_api.shared_questions import SharedState
from blocked_api.stream import (
    PIECE_BYTES,
    Headers,
    Receive,
    Refusal,
    Scope,
    Send,
    Stream,
    refuse,
    send_piece,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

STREAM_PATH: Final = "/blocked/stream"
_TAKES_A_BODY: Final = "/blocked/check"
_LIVENESS: Final = "/healthz"

_BODY_AT_MOST: Final = 256 * 1024
_BODY_WITHIN_S: Final = 5.0
_WAITING_AT_MOST: Final = 256
"""Calls that wait for a thread, and bodies that are waited for; more are refused at once."""
_LARGE_AT_MOST: Final = 64
"""Answers of more than a piece that are on their way."""
_CGI_NAMES: Final = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}


class Quick(Protocol):
    """Whether a GET of that path is but a look into memory: see Calls.is_quick."""

    def __call__(self, path: str, blocks: BlockList, *, zipped: bool) -> bool:
        """Must be quick itself."""


_log = structlog.get_logger("blocked_api")


class Served:
    """The ASGI application."""

    def __init__(
        self,
        application: "WSGIApplication",
        *,
        stream: Stream,
        state: SharedState,
        access: Access,
        clients: Clients,
        metrics: Metrics,
        threads: int,
        quick: Quick,
    ) -> None:
        self._quick = quick
        self._clients = clients
        self._application = application
        self._stream = stream
        self._state = state
        self._access = access
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="call")
        # Streams begin beside the calls: a thousand that come at once must not hold these up.
        self._begins = ThreadPoolExecutor(2, thread_name_prefix="stream")
        self._waiting = self._reading = self._large = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification, version 3."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["path"] == STREAM_PATH:
            await self._answer_stream(scope, receive, send)
        elif scope["path"] == _LIVENESS:
            # On the loop: it waits for nobody, and is no less alive while all threads are busy.
            await self._send(*self._call(_environ(scope, b""), None), send)
        else:
            await self._answer_call(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._stream.begin()
                with contextlib.suppress(NotImplementedError, RuntimeError):
                    asyncio.get_running_loop().add_signal_handler(LET_GO, self._stream.let_go)
                await send({"type": "lifespan.startup.complete"})
            else:
                self._stream.let_go()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _answer_stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id, began_s = uuid.uuid4().hex, time.perf_counter()
        told = _with_header(send, request_id)
        refusal = self._refusal_of_stream(scope)
        if refusal is not None:
            status = refusal.status
            await refuse(told, refusal)
        else:
            with self._metrics.stream_clients.track_inprogress():
                client = self._clients.name(scope["client"][0], SentHeaders(scope["headers"]))
                status = await self._stream.answer(scope, client, receive, told, self._begins)
        seconds = time.perf_counter() - began_s
        if status != 200:  # noqa: PLR2004 — how long a stream lasts is no time to answer
            self._metrics.seconds_of(STREAM_PATH, status).observe(seconds)
        _log.info(
            "stream", request_id=request_id, route=STREAM_PATH, status=status, s=round(seconds, 1)
        )

    def _refusal_of_stream(self, scope: Scope) -> Refusal | None:
        if scope["method"] != "GET":
            return Refusal(405, "Streams are read by GET", [(b"allow", b"GET")])
        if not self._admits(scope):
            return Refusal(401, "Not authorised", [(b"www-authenticate", b"Bearer")])
        return None

    async def _answer_call(self, scope: Scope, receive: Receive, send: Send) -> None:
        body: bytes | None = b""
        if scope["path"] == _TAKES_A_BODY and scope["method"] == "POST" and self._admits(scope):
            if self._reading >= _WAITING_AT_MOST:
                await self._turn_away(scope, send, Refusal(503, "Too many bodies wait", _SOON))
                return
            self._reading += 1
            try:
                body = await asyncio.wait_for(_read(receive), _BODY_WITHIN_S)
            except TimeoutError:
                await self._turn_away(scope, send, Refusal(408, "The body did not come", _CLOSE))
                return
            finally:
                self._reading -= 1
        if self._waiting >= _WAITING_AT_MOST:
            await self._turn_away(scope, send, Refusal(503, "Too many requests wait", _SOON))
            return
        self._waiting += 1
        try:
            fresh = await self._state.fresh() if _asks_for_blocks(scope["path"]) else None
            if self._is_quick(scope, fresh):
                # A look into memory takes less than to hand it to a thread and back.
                answer = self._call(_environ(scope, body), fresh)
            else:
                answer = await asyncio.get_running_loop().run_in_executor(
                    self._pool, self._call, _environ(scope, body), fresh
                )
        finally:
            self._waiting -= 1
        await self._send_bounded(scope, send, answer)

    def _is_quick(self, scope: Scope, fresh: Fresh | None) -> bool:
        if fresh is None or fresh.state is None or scope["method"] != "GET":
            return False
        blocks = self._stream.follower.reached(fresh.state)
        if blocks is None or scope["query_string"]:
            return False
        zipped = any(name == b"accept-encoding" for name, _ in scope["headers"])
        return self._quick(scope["path"], blocks, zipped=zipped)

    async def _send_bounded(
        self, scope: Scope, send: Send, answer: tuple[int, Headers, bytes]
    ) -> None:
        if len(answer[2]) <= PIECE_BYTES:
            await self._send(*answer, send)
            return
        if self._large >= _LARGE_AT_MOST:
            await self._turn_away(scope, send, Refusal(503, "Too many lists are sent", _SOON))
            return
        self._large += 1
        try:
            await self._send(*answer, send)
        finally:
            self._large -= 1

    async def _send(self, status: int, headers: Headers, body: bytes, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        sent = 0
        while len(body) - sent > PIECE_BYTES:
            await send_piece(send, body[sent : sent + PIECE_BYTES])
            sent += PIECE_BYTES
        await send({"type": "http.response.body", "body": body[sent:]})

    async def _turn_away(self, scope: Scope, send: Send, refusal: Refusal) -> None:
        self._metrics.turned_away.inc()
        self._metrics.seconds_of("turned away", refusal.status).observe(0)
        request_id = uuid.uuid4().hex
        _log.warning(
            "turned away", request_id=request_id, method=scope["method"], why=refusal.error
        )
        await refuse(_with_header(send, request_id), refusal)

    def _admits(self, scope: Scope) -> bool:
        authorization = (value for name, value in scope["headers"] if name == b"authorization")
        return self._access.admits(next(authorization, None))

    def _call(self, environ: dict[str, Any], fresh: Fresh | None) -> tuple[int, Headers, bytes]:
        FRESH.set(fresh)
        begun: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(
            status: str,
            headers: list[tuple[str, str]],
            _: object = None,
        ) -> Callable[[bytes], object]:
            begun.append((status, headers))
            return lambda _: None  # PEP 3333's old way to write, which Flask does not use

        chunks = self._application(environ, start_response)
        try:
            body = b"".join(chunks)
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
        status, headers = begun[-1]
        told = [(name.lower().encode("latin-1"), v.encode("latin-1")) for name, v in headers]
        return int(status[:3]), told, body


_SOON: Final[Headers] = [(b"retry-after", b"1")]
_CLOSE: Final[Headers] = [(b"connection", b"close")]


def _asks_for_blocks(path: str) -> bool:
    return path.startswith(("/blocked", "/readyz", "/metrics"))


async def _read(receive: Receive) -> bytes | None:
    """The body; None if it is larger than any call takes, whose rest is not waited for."""
    body: bytes = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > _BODY_AT_MOST:
            return None
        if not message.get("more_body", False):
            return body


def _environ(scope: Scope, body: bytes | None) -> dict[str, Any]:
    client = scope.get("client") or ("", 0)
    server = scope.get("server") or ("", 0)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        # Bytes as they came: what is not UTF-8 must be seen by the application.
        "PATH_INFO": _path_info(scope),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": str(server[0]),
        "SERVER_PORT": str(server[1]),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": str(client[0]),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": io.BytesIO(body or b""),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in scope["headers"]:
        key = _CGI_NAMES.get(name) or "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
        text = value.decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    # What was read is all there is; Werkzeug shall not wait for, or complain about, the rest.
    environ["CONTENT_LENGTH"] = str(_BODY_AT_MOST + 1 if body is None else len(body))
    return environ


def _path_info(scope: Scope) -> str:
    raw: bytes | None = scope.get("raw_path")
    if raw is None:
        return str(scope["path"]).encode().decode("latin-1")
    return unquote_to_bytes(raw.partition(b"?")[0]).decode("latin-1")


def _with_header(send: Send, request_id: str) -> Send:
    async def told(message: Any) -> None:  # noqa: ANN401 — ASGI's own
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
        await send(message)

    return told
