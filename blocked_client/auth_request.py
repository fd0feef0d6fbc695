"""The target of nginx' `auth_request`: `python -m blocked_client.auth_request --url …`.

204: let pass; 403: refuse, with `X-Blocked-Until` and `Retry-After` if the block ends. Whom it is
about stands in headers that nginx sets, so it listens on the loopback address only: whoever else
could reach it would only learn who is blocked.
"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from blocked_client.client import BlockedClient
from blocked_client.wsgi import blocked_until, retry_after

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

TOKEN_VARIABLE: Final = "BLOCKED_API_TOKEN"  # noqa: S105 - its name, not the token
_LOOPBACK: Final = "127.0.0.1"
_FIRST_LIST_WITHIN_S: Final = 5.0


def create_app(client: BlockedClient) -> "WSGIApplication":
    """A WSGI application that answers for `X-Forwarded-User` and `X-Forwarded-For`.

    Of several addresses the last counts, which the nearest proxy has added.
    """

    def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        user = _header(environ, "HTTP_X_FORWARDED_USER")
        addresses = _header(environ, "HTTP_X_FORWARDED_FOR")
        address = None if addresses is None else addresses.rpartition(",")[2].strip()
        if not client.is_blocked(user, address):
            start_response(_line(HTTPStatus.NO_CONTENT), [])
            return []
        block = client.block_of(user, address)
        headers = [("Content-Type", "text/plain"), ("Content-Length", "0")]
        if block is not None:
            told = (("X-Blocked-Until", blocked_until(block)), ("Retry-After", retry_after(block)))
            headers += [(name, value) for name, value in told if value is not None]
        start_response(_line(HTTPStatus.FORBIDDEN), headers)
        return []

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
        default="allow",
        help="until the first list is there",
    )
    arguments = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    token = os.environ.get(TOKEN_VARIABLE) or None
    client = BlockedClient(arguments.url, token, when_unknown=arguments.when_unknown)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with client:
        client.wait_until_ready(_FIRST_LIST_WITHIN_S)
        app = create_app(client)
        with make_server(_LOOPBACK, arguments.port, app, _Server, _QuietHandler) as server:
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                return 0
    return 0


class _Server(ThreadingMixIn, WSGIServer):
    """One thread a connection: one that says nothing holds up no other."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Who goes away, or says nothing for too long, is no error to write down."""


class _QuietHandler(WSGIRequestHandler):
    """Writes no log: it would hold names. Does not wait for ever."""

    timeout = 10

    def log_message(self, *_: object) -> None:
        """Nothing is written."""


def _header(environ: "WSGIEnvironment", name: str) -> str | None:
    """A header's text, which WSGI gives as Latin-1; None if it is missing, blank or not UTF-8."""
    value: str = environ.get(name, "")
    try:
        return value.encode("latin-1").decode() or None
    except UnicodeError:
        return None


def _line(status: HTTPStatus) -> str:
    return f"{status.value} {status.phrase}"


if __name__ == "__main__":
    sys.exit(main())
