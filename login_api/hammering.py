"""Refuses who hammers on before the framework begins: docs/decisions/0007-hammering.md."""

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import orjson
from werkzeug.datastructures import EnvironHeaders
from werkzeug.http import HTTP_STATUS_CODES

from login_api.answers import refusal_told
from login_api.documents import MalformedError, read_credentials
from login_api.logins import Logins, Verdict
from login_api.request_log import HEADERS, RequestLog
from login_blocking.client_address import ClientAddress
from login_blocking.subjects import ip_key

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_PATH: Final = "/login"


class HammeringRefused:
    """WSGI middleware: a login whose refusal is remembered gets the same answer again.

    It knows nothing that the application does not: any other request, odd or fresh, goes on to the
    application as it came.
    """

    def __init__(
        self,
        application: "WSGIApplication",
        logins: Logins,
        client_address: ClientAddress,
        log: RequestLog,
        max_body_bytes: int,
    ) -> None:
        self._application = application
        self._logins = logins
        self._client_address = client_address
        self._log = log
        self._max_body_bytes = max_body_bytes

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """See PEP 3333."""
        if environ["PATH_INFO"] != _PATH or environ["REQUEST_METHOD"] != "POST":
            return self._application(environ, start_response)
        begun = self._log.begin()
        verdict = self._recalled(environ)
        if verdict is None:
            return self._application(environ, start_response)
        status, document, more = refusal_told(verdict)
        body = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
        start_response(
            f"{status} {HTTP_STATUS_CODES[status].upper()}",
            [
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(body))),
                *more.items(),
                *HEADERS,
                ("X-Request-Id", begun.request_id),
            ],
        )
        self._log.end(begun, "POST", _PATH, status)
        return [body]

    def _recalled(self, environ: "WSGIEnvironment") -> Verdict | None:
        length = environ.get("CONTENT_LENGTH", "")
        if not (length.isascii() and length.isdigit() and int(length) <= self._max_body_bytes):
            return None
        if environ.get("CONTENT_TYPE") != "application/json":
            return None
        body = environ["wsgi.input"].read(int(length))
        environ["wsgi.input"] = io.BytesIO(body)
        try:
            credentials = read_credentials(body)
        except MalformedError:
            return None
        peer = environ.get("REMOTE_ADDR", "")
        address = ip_key(self._client_address(peer, EnvironHeaders(environ)))
        return self._logins.recall(credentials, address)
