"""The Blocked API as a WSGI application: its calls, and what every answer has in common."""

import time
import traceback
import uuid

import orjson
import structlog
from flask import Flask, Response, g, request
from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed, NotFound, Unauthorized
from werkzeug.routing import PathConverter

from blocked_api.access import Access, Clients, ListRate
from blocked_api.blocks import BlocksUnavailableError, ListMissingError
from blocked_api.calls import Calls, RateExceededError, add_calls
from blocked_api.dashboard import add_dashboard
from blocked_api.metrics import Metrics
from blocked_api.openapi import document
from blocked_api.present import Reading
from login_blocking.client_address import ClientAddress

_log = structlog.get_logger("blocked_api")

CALLS = "blocked_api.calls"
"""Where the application keeps its Calls."""

_OPEN_ENDPOINTS = frozenset({"dashboard", "static", "healthz", "readyz", "openapi"})
"""What needs no token: nothing there tells who is blocked."""


class _Rest(PathConverter):
    """The rest of the path, whatever it holds: a /64 and many a guessed name have slashes."""

    regex = r"[\s\S]+"
    part_isolating = False


def create_app(
    present: Reading,
    *,
    access: Access | None = None,
    rate: ListRate | None = None,
    clients: Clients | None = None,
    metrics: Metrics | None = None,
    login_api_url: str | None = None,
) -> Flask:
    """The application around whatever tells the present."""
    app = Flask("blocked_api", static_folder=None)
    app.url_map.converters["rest"] = _Rest
    app.url_map.merge_slashes = False  # "a//b" is another name than "a/b"
    metrics = metrics or Metrics()
    clients = clients or Clients(ClientAddress())
    calls = Calls(present, rate or ListRate(0), clients, metrics, login_api_url)
    app.extensions[CALLS] = calls
    _add_request_log(app, metrics)
    _add_gate(app, access or Access(None))
    add_calls(app, calls)
    _add_health(app, calls, metrics)
    add_dashboard(app, login_api_url)
    _add_errors(app, metrics)
    return app


def _add_gate(app: Flask, access: Access) -> None:
    @app.before_request
    def refuse_other_than_text() -> None:
        # Werkzeug would read such bytes as U+FFFD, and look up a name that nobody asked for.
        for part, name in (("PATH_INFO", "path"), ("QUERY_STRING", "query")):
            try:
                request.environ[part].encode("latin-1").decode()
            except UnicodeError:
                raise BadRequest(f"{name}: not UTF-8") from None

    @app.before_request
    def ask_for_the_token() -> None:
        if request.endpoint in _OPEN_ENDPOINTS:
            return
        header = request.headers.get("Authorization")
        if not access.admits(None if header is None else header.encode("latin-1", "replace")):
            raise Unauthorized("Not authorised")


def _add_health(app: Flask, calls: Calls, metrics: Metrics) -> None:
    @app.get("/healthz")
    def healthz() -> Response:
        return _json({"status": "ok"})

    @app.get("/readyz")
    def readyz() -> Response:
        try:
            return calls.readiness()
        except ListMissingError:
            return _json({"redis": "ok", "list": "missing"}, 503)
        except BlocksUnavailableError:
            return _json({"redis": "down", "list": "unknown"}, 503)

    @app.get("/metrics")
    def exposition() -> Response:
        try:
            calls.note_metrics()
        except BlocksUnavailableError:
            metrics.note_unknown()
        return Response(metrics.exposition(), content_type="text/plain; version=0.0.4")

    @app.get("/openapi.json")
    def openapi() -> Response:
        return _json(document())


def _add_errors(app: Flask, metrics: Metrics) -> None:
    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        told = "No such call" if isinstance(error, NotFound) else error.description
        response = _json({"error": told}, error.code or 500)
        if isinstance(error, MethodNotAllowed):
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
        if isinstance(error, Unauthorized):
            response.headers["WWW-Authenticate"] = "Bearer"
        return response

    @app.errorhandler(RateExceededError)
    def too_often(_: RateExceededError) -> Response:
        response = _json({"error": "Too many lists; follow /blocked/stream instead"}, 429)
        response.headers["Retry-After"] = "10"
        return response

    @app.errorhandler(BlocksUnavailableError)
    def unavailable(error: BlocksUnavailableError) -> Response:
        metrics.redis_failures.inc()
        _log.warning(
            "blocks unavailable",
            why=str(error),
            cause=type(error.__cause__).__name__,
            request_id=g.get("request_id"),
        )
        response = _json({"error": "The block list cannot be read now; try again"}, 503)
        response.headers["Retry-After"] = "1"
        return response

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Response:
        # Without the message, which could quote what a stranger sent; the lines of code do not.
        _log.error(
            "unexpected",
            error=type(error).__name__,
            where=traceback.format_tb(error.__traceback__),
            request_id=g.get("request_id"),
        )
        return _json({"error": "Internal error"}, 500)


def _add_request_log(app: Flask, metrics: Metrics) -> None:
    @app.before_request
    def begin() -> None:
        g.started = time.perf_counter()
        g.request_id = uuid.uuid4().hex

    @app.after_request
    def end(response: Response) -> Response:
        elapsed = time.perf_counter() - g.started
        route = request.url_rule.rule if request.url_rule else "unknown"
        metrics.seconds_of(route, response.status_code).observe(elapsed)
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["X-Request-Id"] = g.request_id
        _log.info(
            "request",
            request_id=g.request_id,
            method=request.method,
            route=route,
            status=response.status_code,
            ms=round(elapsed * 1_000, 2),
        )
        return response


def _json(told: object, status: int = 200) -> Response:
    body = orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)
    return Response(body, status=status, content_type="application/json")
