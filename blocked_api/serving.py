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
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

import structlog

from blocked_api.access import Access
from blocked_api.metrics import Metrics
from blocked_api.settings import LET_GO
from blocked_api.stream import Headers, Receive, Refusal, Scope, Send, Stream, refuse

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

STREAM_PATH: Final = "/blocked/stream"

_BODY_AT_MOST: Final = 512 * 1024
_WAITING_AT_MOST: Final = 256
"""Requests that wait for a thread; more are refused, for they would only wait longer."""
_CGI_NAMES: Final = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}

_log = structlog.get_logger("blocked_api")


class Served:
    """The ASGI application."""

    def __init__(
        self,
        application: "WSGIApplication",
        stream: Stream,
        access: Access,
        metrics: Metrics,
        threads: int,
    ) -> None:
        self._application = application
        self._stream = stream
        self._access = access
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="call")
        # Streams begin beside the calls: a thousand that come at once must not hold these up.
        self._begins = ThreadPoolExecutor(2, thread_name_prefix="stream")
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification, version 3."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["path"] == STREAM_PATH and scope["method"] == "GET":
            await self._answer_stream(scope, receive, send)
        else:
            await self._answer_call(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        alive = None
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                loop = asyncio.get_running_loop()
                with contextlib.suppress(NotImplementedError, RuntimeError):
                    loop.add_signal_handler(LET_GO, self._stream.let_go)
                alive = asyncio.ensure_future(self._stream.keep_alive())
                await send({"type": "lifespan.startup.complete"})
            else:
                self._stream.let_go()
                if alive is not None:
                    alive.cancel()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _answer_stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id, began_s = uuid.uuid4().hex, time.perf_counter()
        with self._metrics.stream_clients.track_inprogress():
            authorization = _first(scope["headers"], b"authorization")
            if self._access.admits(authorization):
                status = await self._stream.answer(
                    scope, receive, _with_header(send, request_id), self._begins
                )
            else:
                status = 401
                await refuse(
                    _with_header(send, request_id),
                    Refusal(401, "Not authorised", [(b"www-authenticate", b"Bearer")]),
                )
        seconds = time.perf_counter() - began_s
        _log.info(
            "stream", request_id=request_id, route=STREAM_PATH, status=status, s=round(seconds, 1)
        )

    async def _answer_call(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._waiting >= _WAITING_AT_MOST:
            self._metrics.turned_away.inc()
            await refuse(send, Refusal(503, "Too many requests wait", [(b"retry-after", b"1")]))
            return
        self._waiting += 1
        try:
            body = await _read(scope, receive)
            status, headers, chunks = await asyncio.get_running_loop().run_in_executor(
                self._pool, self._call, _environ(scope, body)
            )
        finally:
            self._waiting -= 1
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": chunks})

    def _call(self, environ: dict[str, Any]) -> tuple[int, Headers, bytes]:
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


async def _read(scope: Scope, receive: Receive) -> bytes | None:
    """The body; None if it is larger than any call takes, whose rest is not waited for."""
    if scope["method"] in ("GET", "HEAD"):
        return b""
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


def _first(headers: Headers, name: bytes) -> bytes | None:
    return next((value for found, value in headers if found == name), None)


def _with_header(send: Send, request_id: str) -> Send:
    async def told(message: Any) -> None:  # noqa: ANN401 — ASGI's own
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
        await send(message)

    return told
