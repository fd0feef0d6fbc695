"""Refuses who is blocked before a WSGI application sees the request. Never asks the server."""

import io
import json
import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from blocked_client.block_copy import Block
from blocked_client.client import BlockedClient

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_MOST_BODY_BYTES: Final = 16_384

Of = Callable[["WSGIEnvironment"], str | None]
"""Whom a request is about, from its environment; None: nobody who could be blocked."""


def remote_address(environ: "WSGIEnvironment") -> str | None:
    """The address that the connection comes from: behind a proxy, the proxy's."""
    address = environ.get("REMOTE_ADDR")
    return address if isinstance(address, str) else None


def nobody(_: "WSGIEnvironment") -> None:
    """For a `user_of` or `client_address` that is not looked at."""


class _BodyTooLongError(Exception):
    """The user may stand where nobody has looked."""


class BlockedMiddleware:
    """Answers 403 in the application's place, as the Login API does, to who is blocked.

    `user_of` and `client_address` say whom a request is about. Both may raise: that is the
    caller's error and is passed on. While the list is not known yet, or is too old, and the client
    refuses then, the answer is 503.
    """

    def __init__(
        self,
        app: "WSGIApplication",
        client: BlockedClient,
        *,
        user_of: Of = nobody,
        client_address: Of = remote_address,
    ) -> None:
        self._app = app
        self._client = client
        self._user_of = user_of
        self._client_address = client_address

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """See PEP 3333."""
        try:
            user, address = self._user_of(environ), self._client_address(environ)
        except _BodyTooLongError:
            document: dict[str, str | None] = {"error": "The body is too long"}
            return _answer(start_response, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, document)
        if (user is None and address is None) or not self._client.is_blocked(user, address):
            return self._app(environ, start_response)
        block = self._client.block_of(user, address)
        if block is not None:
            document = {"error": "User blocked", "blocked_until": blocked_until(block)}
            return _answer(start_response, HTTPStatus.FORBIDDEN, document, retry_after(block))
        if not self._client.is_blocked(user, address):  # it ended between the two looks
            return self._app(environ, start_response)
        if self._client.is_ready:
            document = {"error": "User blocked", "blocked_until": None}
            return _answer(start_response, HTTPStatus.FORBIDDEN, document)
        document = {"error": "It is not known who is blocked; try again"}
        return _answer(start_response, HTTPStatus.SERVICE_UNAVAILABLE, document, "1")


def user_from_json(field: str, most_body_bytes: int = _MOST_BODY_BYTES) -> Of:
    """A `user_of` that reads a field of a JSON body, and puts the body back for the application.

    None for what is not such JSON. A longer body is answered 413: the application might read past
    what was looked at.
    """

    def user_of(environ: "WSGIEnvironment") -> str | None:
        body = _read(environ, most_body_bytes)
        environ["wsgi.input"] = io.BytesIO(body)
        try:
            user = json.loads(body)[field]
        except (ValueError, LookupError, TypeError, RecursionError):
            return None
        return user if isinstance(user, str) else None

    return user_of


def _read(environ: "WSGIEnvironment", most_bytes: int) -> bytes:
    if environ.get("wsgi.input_terminated"):  # the server knows where a chunked body ends
        wanted = most_bytes + 1
    else:
        length = environ.get("CONTENT_LENGTH") or ""
        wanted = int(length[:9]) if length.isascii() and length.isdigit() else 0
        if wanted > most_bytes:
            raise _BodyTooLongError
    body: bytes = environ["wsgi.input"].read(wanted)
    if len(body) > most_bytes:
        raise _BodyTooLongError
    return body


def blocked_until(block: Block) -> str | None:
    """The end as the APIs write it, None for ever."""
    if block.until is None:
        return None
    return block.until.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def retry_after(block: Block) -> str | None:
    """Whole seconds until the end, at least one; None for ever."""
    if block.until is None:
        return None
    left = block.until - datetime.now(UTC)
    return str(max(1, math.ceil(left.total_seconds())))


def _answer(
    start_response: "StartResponse",
    status: HTTPStatus,
    document: dict[str, str | None],
    retry_after_s: str | None = None,
) -> list[bytes]:
    body = json.dumps(document, separators=(",", ":")).encode() + b"\n"
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    ]
    if retry_after_s is not None:
        headers.append(("Retry-After", retry_after_s))
    start_response(f"{status.value} {status.phrase}", headers)
    return [body]
