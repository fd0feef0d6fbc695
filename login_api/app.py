"""The HTTP face of the Login API: what each call answers. Semantics: docs/semantics.md."""

import traceback
from typing import Any

import orjson
import structlog
from flask import Flask, Response, g, jsonify, request
from flask.json.provider import JSONProvider
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge

from login_api.admin import add_admin
from login_api.answers import Answer
from login_api.block_commands import BlockCommands
from login_api.calls import add_calls
from login_api.cross_origin import allow_dashboard
from login_api.documents import MalformedError
from login_api.errors import PartUnavailableError
from login_api.hammering import HammeringRefused
from login_api.logins import Logins
from login_api.metrics import Metrics
from login_api.openapi import document
from login_api.parts import Parts
from login_api.readiness import Readiness
from login_api.request_log import HEADERS, RequestLog

_log = structlog.get_logger("login_api")


class _Json(JSONProvider):
    """In the order in which answers are documented, and cheap: refusals come in thousands."""

    def dumps(self, obj: Any, **_: Any) -> str:  # noqa: ANN401 — the interface's own
        return orjson.dumps(obj).decode()

    def response(self, *args: Any, **kwargs: Any) -> Response:  # noqa: ANN401 — the interface's own
        document = orjson.dumps(
            self._prepare_response_obj(args, kwargs), option=orjson.OPT_APPEND_NEWLINE
        )
        return Response(document, content_type="application/json")

    def loads(self, s: str | bytes, **_: Any) -> Any:  # noqa: ANN401 — the interface's own
        return orjson.loads(s)


def create_app(parts: Parts, *, max_body_bytes: int) -> Flask:
    """The WSGI application around its parts."""
    app = Flask("login_api", static_folder=None)
    # One more, so that a body without a declared length, which is cut there, shows as too long.
    app.config["MAX_CONTENT_LENGTH"] = max_body_bytes + 1
    app.json = _Json(app)
    metrics, log = parts.metrics, RequestLog(parts.metrics)
    _add_request_log(app, log)
    logins = Logins(
        accounts=parts.accounts,
        guard=parts.guard,
        places=parts.places,
        publisher=parts.publisher,
        hasher=parts.hasher,
        clock=parts.clock,
        metrics=metrics,
        open_without_guard=parts.open_without_guard,
    )
    app.wsgi_app = HammeringRefused(  # type: ignore[method-assign]
        app.wsgi_app, logins, parts.client_address, log, max_body_bytes
    )
    commands = BlockCommands(parts.publisher, parts.guard, parts.clock)
    add_calls(app, parts, logins, commands, max_body_bytes)
    allow_dashboard(app, parts.dashboard_origins)  # before the gate: browsers ask without a token
    add_admin(app, parts, commands, max_body_bytes)
    _add_health(app, parts, metrics)
    _add_errors(app, metrics, max_body_bytes)
    return app


def _add_health(app: Flask, parts: Parts, metrics: Metrics) -> None:
    readiness = Readiness(
        {
            "redis": parts.guard.ping,
            "postgres": parts.accounts.ping,
            "kafka": parts.publisher.ping,
        },
        spared={"kafka"},  # the outbox stands in for it
    )

    @app.get("/healthz")
    def healthz() -> Response:
        return jsonify({"status": "ok"})

    @app.get("/readyz")
    def readyz() -> Answer:
        states = readiness.states()
        status = 503 if "down" in states.values() else 200
        return jsonify({**states, "outbox": parts.publisher.waiting()}), status

    @app.get("/openapi.json")
    def openapi() -> Response:
        return jsonify(document())

    @app.get("/metrics")
    def exposition() -> Response:
        return Response(metrics.exposition(), content_type="text/plain; version=0.0.4")


def _add_errors(app: Flask, metrics: Metrics, max_body_bytes: int) -> None:
    @app.errorhandler(MalformedError)
    def malformed(error: MalformedError) -> Answer:
        return jsonify({"error": str(error)}), 400

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Answer:
        response = jsonify({"error": error.description})
        if isinstance(error, MethodNotAllowed):
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
        return response, error.code or 500

    @app.errorhandler(RequestEntityTooLarge)
    def too_large(_: RequestEntityTooLarge) -> Answer:
        return jsonify({"error": f"body: at most {max_body_bytes} bytes"}), 413

    @app.errorhandler(PartUnavailableError)
    def unavailable(error: PartUnavailableError) -> Answer:
        metrics.part_failures.labels(error.part).inc()
        _log.warning(
            "part unavailable",
            part=error.part,
            cause=type(error.__cause__).__name__,
            request_id=g.get("request_id"),
        )
        response = jsonify({"error": "Logins cannot be checked now; try again"})
        response.headers["Retry-After"] = "1"
        return response, 503

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Answer:
        # Without the message, which could quote a password; the lines of code do not.
        _log.error(
            "unexpected",
            error=type(error).__name__,
            where=traceback.format_tb(error.__traceback__),
            request_id=g.get("request_id"),
        )
        return jsonify({"error": "Internal error"}), 500


def _add_request_log(app: Flask, log: RequestLog) -> None:
    @app.before_request
    def begin() -> None:
        g.begun = log.begin()
        g.request_id = g.begun.request_id

    @app.after_request
    def end(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else "unknown"
        response.headers.update(HEADERS)
        response.headers["X-Request-Id"] = g.request_id
        log.end(g.begun, request.method, route, response.status_code)
        return response
