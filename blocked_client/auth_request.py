"""The target of nginx' `auth_request`: `python -m blocked_client.auth_request --url …`.

204: let pass; 403: refuse, with `X-Refused-Reason`, and `X-Blocked-Until` and `Retry-After` if a
block ends. Whom it is about stands in headers that nginx sets, so it listens on the loopback
address only: whoever else could reach it would only learn who is blocked. What cannot be read is
refused: it could be anybody.
"""

import argparse
import itertools
import json
import logging
import os
import signal
import sys
from collections.abc import Iterable
from email.errors import MissingHeaderBodySeparatorDefect
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from blocked_client.client import BlockedClient
from blocked_client.wsgi import blocked_until, retry_after
from login_blocking.subjects import ip_key, user_key

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

TOKEN_VARIABLE: Final = "BLOCKED_API_TOKEN"  # noqa: S105 - its name, not the token
_USER_HEADER: Final = "X-Forwarded-User"
_ADDRESS_HEADER: Final = "X-Forwarded-For"
_LOOPBACK: Final = "127.0.0.1"
_FIRST_LIST_WITHIN_S: Final = 5.0

_log = logging.getLogger("blocked_client")

Reason = Literal["blocked", "list-unknown", "user-unreadable", "address-unreadable", "no-subject"]


class _Answer(NamedTuple):
    status: HTTPStatus
    headers: list[tuple[str, str]]
    body: bytes


def create_app(client: BlockedClient) -> "WSGIApplication":
    """A WSGI application that answers for `X-Forwarded-User` and `X-Forwarded-For`.

    Of several addresses the last counts, which the nearest proxy has added. `/healthz` and
    `/readyz` are answered as such only without those headers: a proxy that forwards a stranger's
    path lets nobody in by it.
    """

    def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        try:
            answer = _answer(client, environ)
        except Exception as error:  # noqa: BLE001 - wsgiref would print what may quote a name
            _log.error("a question was not answered: %s", type(error).__name__)
            answer = _Answer(HTTPStatus.INTERNAL_SERVER_ERROR, [_type("text/plain")], b"")
        headers = answer.headers
        if answer.status != HTTPStatus.NO_CONTENT:
            headers = [*headers, ("Content-Length", str(len(answer.body)))]
        start_response(f"{answer.status.value} {answer.status.phrase}", headers)
        return [answer.body] if answer.body else []

    return app


def main() -> int:
    """Serves until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m blocked_client.auth_request",
        description=f"Answers nginx' auth_request. The API's token is read from {TOKEN_VARIABLE}.",
    )
    parser.add_argument("--url", default="http://127.0.0.1:5000", help="of the Blocked API")
    parser.add_argument("--port", type=int, default=5001, help=f"on {_LOOPBACK}")
    parser.add_argument(
        "--when-unknown",
        choices=["allow", "refuse"],
        default="refuse",
        help="until the first list is there (default: refuse)",
    )
    parser.add_argument(
        "--max-age",
        type=float,
        metavar="SECONDS",
        help="when nothing was heard for longer, answer as --when-unknown says (default: never)",
    )
    arguments = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    try:
        client = BlockedClient(
            arguments.url,
            os.environ.get(TOKEN_VARIABLE) or None,
            when_unknown=arguments.when_unknown,
            max_age_s=arguments.max_age,
        )
    except ValueError as error:
        parser.error(str(error))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with client:
            if arguments.when_unknown == "allow":
                client.wait_until_ready(_FIRST_LIST_WITHIN_S)
            app = create_app(client)
            with make_server(_LOOPBACK, arguments.port, app, _Server, _Handler) as server:
                server.serve_forever()
    except KeyboardInterrupt:
        return 0
    return 0


class _Server(ThreadingMixIn, WSGIServer):
    """One thread a connection: one that says nothing holds up no other."""

    daemon_threads = True
    request_queue_size = 128
    failures = itertools.count(1)

    def handle_error(self, *_: object) -> None:
        """Tells what failed and how often, and not for whom: a message could quote a name."""
        error = sys.exception()
        _log.warning("connection failed: %s, number %d", type(error).__name__, next(self.failures))


class _Handler(WSGIRequestHandler):
    """Writes no access log: it would hold names. Does not wait for ever."""

    timeout = 10

    def parse_request(self) -> bool:
        """Refuses two users, and forgets headers that are told from ours by `_` alone.

        In WSGI both would be joined with what the proxy has set, to a name that nobody bears. After
        a line that is no header the rest would count as body.
        """
        if not super().parse_request():
            return False
        for name in {name for name in self.headers if "_" in name}:
            del self.headers[name]
        torn = any(isinstance(it, MissingHeaderBodySeparatorDefect) for it in self.headers.defects)
        if torn or len(self.headers.get_all(_USER_HEADER, [])) > 1:
            self.send_error(HTTPStatus.BAD_REQUEST)
            return False
        return True

    def get_environ(self) -> "WSGIEnvironment":
        """With the ends of UTF-8 names, some of whose bytes are blanks in Latin-1 (`à`)."""
        environ: WSGIEnvironment = super().get_environ()
        for name in (_USER_HEADER, _ADDRESS_HEADER):
            values = self.headers.get_all(name, [])
            if values:
                environ[_variable(name)] = ",".join(value.strip(" \t") for value in values)
        return environ

    def log_message(self, *_: object) -> None:
        """Nothing is written."""


def _answer(client: BlockedClient, environ: "WSGIEnvironment") -> _Answer:
    user_text: str = environ.get(_variable(_USER_HEADER), "")
    addresses: str = environ.get(_variable(_ADDRESS_HEADER), "")
    if not user_text and not addresses:
        return _health(client, environ.get("PATH_INFO")) or _refused("no-subject")
    user = address = None
    try:
        if user_text:
            user = user_key(_text(user_text))
    except ValueError:
        return _refused("user-unreadable")
    try:
        if addresses:
            address = ip_key(_text(addresses).rpartition(",")[2])
    except ValueError:
        return _refused("address-unreadable")
    if not client.is_blocked(user, address):
        return _Answer(HTTPStatus.NO_CONTENT, [], b"")
    block = client.block_of(user, address)
    if block is None:
        return _refused("blocked" if client.is_ready else "list-unknown")
    told = (("X-Blocked-Until", blocked_until(block)), ("Retry-After", retry_after(block)))
    return _refused("blocked", *((name, value) for name, value in told if value is not None))


def _refused(reason: Reason, *headers: tuple[str, str]) -> _Answer:
    headers = (_type("text/plain"), ("X-Refused-Reason", reason), *headers)
    return _Answer(HTTPStatus.FORBIDDEN, [*headers], f"{reason}\n".encode())


def _health(client: BlockedClient, path: str | None) -> _Answer | None:
    """None for another path."""
    document: dict[str, object]
    if path == "/healthz":
        ready, document = True, {"status": "ok"}
    elif path == "/readyz":
        status, ready = client.status, client.is_ready
        age_s = None if status.age_s is None else round(status.age_s, 3)
        document = {"list_known": ready, "state": status.state, "age_s": age_s}
    else:
        return None
    body = json.dumps(document, separators=(",", ":")).encode() + b"\n"
    status_code = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
    return _Answer(status_code, [_type("application/json")], body)


def _text(header: str) -> str:
    """A header's text, which WSGI gives as Latin-1. Raises ValueError if it is not UTF-8."""
    return header.encode("latin-1").decode()


def _variable(header: str) -> str:
    return "HTTP_" + header.upper().replace("-", "_")


def _type(content_type: str) -> tuple[str, str]:
    return ("Content-Type", content_type)


if __name__ == "__main__":
    sys.exit(main())
