"""The HTTP face of the Login API: what each call answers. Semantics: docs/semantics.md."""

import math
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from flask import Flask, Response, g, jsonify, request
from flask.json.provider import DefaultJSONProvider
from werkzeug.datastructures import Headers
from werkzeug.exceptions import (
    HTTPException,
    MethodNotAllowed,
    RequestEntityTooLarge,
    UnsupportedMediaType,
)

from login_api.accounts import Accounts, NameTakenError
from login_api.documents import Credentials, MalformedError, name_refusal, read_credentials
from login_api.errors import PartUnavailableError
from login_api.guard import Guard
from login_api.logins import Logins, Verdict
from login_api.metrics import Metrics
from login_api.passwords import Argon2Hasher, refusal
from login_api.places import Places
from login_api.readiness import Readiness
from login_api.records import RecordPublisher
from login_blocking.attempts import Outcome
from login_blocking.subjects import ip_key

_log = structlog.get_logger("login_api")

Answer = tuple[Response, int]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the application leans on; wsgi.py wires the real ones, tests their own."""

    accounts: Accounts
    guard: Guard
    places: Places
    publisher: RecordPublisher
    metrics: Metrics
    hasher: Argon2Hasher
    clock: Callable[[], int]
    """The wall clock in ms since the epoch."""
    open_without_guard: bool
    client_address: Callable[[str, Headers], str]
    """From the socket's peer and the request's headers to an address that `ip_key` takes."""


class _Json(DefaultJSONProvider):
    sort_keys = False  # an answer reads in the order in which it is documented
    compact = True


def create_app(parts: Parts, *, max_body_bytes: int) -> Flask:
    """The WSGI application around its parts."""
    app = Flask("login_api", static_folder=None)
    # One more, so that a body without a declared length, which is cut there, shows as too long.
    app.config["MAX_CONTENT_LENGTH"] = max_body_bytes + 1
    app.json = _Json(app)
    metrics = parts.metrics
    _add_calls(app, parts, metrics, max_body_bytes)
    _add_health(app, parts, metrics)
    _add_errors(app, metrics, max_body_bytes)
    _add_request_log(app, metrics)
    return app


def _add_calls(app: Flask, parts: Parts, metrics: Metrics, max_body_bytes: int) -> None:
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

    @app.post("/register")
    def register() -> Answer:
        credentials = _credentials(max_body_bytes)
        reason = name_refusal(credentials.user) or refusal(credentials.password, credentials.user)
        if reason is not None:
            return jsonify({"error": reason}), 400
        try:
            parts.accounts.create(credentials.user, parts.hasher.hash(credentials.password))
        except NameTakenError:
            return jsonify({"error": "User name is taken"}), 409
        return jsonify({"success": True}), 201

    @app.post("/login")
    def login() -> Answer:
        verdict = logins.attempt(_credentials(max_body_bytes), _address(parts))
        return _refusal(verdict) or (jsonify({"success": True}), 200)


def _address(parts: Parts) -> str:
    return ip_key(parts.client_address(request.remote_addr or "", request.headers))


def _credentials(max_body_bytes: int) -> Credentials:
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("Send JSON, with the header Content-Type: application/json")
    body = request.get_data()
    if len(body) > max_body_bytes:
        raise RequestEntityTooLarge
    return read_credentials(body)


def _refusal(verdict: Verdict) -> Answer | None:
    """What a caller hears whose password was not found right; None for one that was."""
    if verdict.outcome is Outcome.SUCCESS:
        return None
    if verdict.outcome is Outcome.FAILURE:
        return jsonify({"error": "Wrong password"}), 401
    if verdict.outcome is Outcome.LIMITED:
        response, status = jsonify({"error": "Too many attempts"}), 429
    else:
        until = None if verdict.until is None else _moment(verdict.until)
        response, status = jsonify({"error": "User blocked", "blocked_until": until}), 403
    if verdict.until is not None:
        seconds = math.ceil((verdict.until - verdict.now) / 1_000)
        response.headers["Retry-After"] = str(max(1, seconds))
    return response, status


def _moment(ms: int) -> str:
    seconds, milliseconds = divmod(ms, 1_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()
    return f"{moment}.{milliseconds:03d}Z"


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


def _add_request_log(app: Flask, metrics: Metrics) -> None:
    @app.before_request
    def begin() -> None:
        g.started = time.perf_counter()
        g.request_id = uuid.uuid4().hex

    @app.after_request
    def end(response: Response) -> Response:
        elapsed = time.perf_counter() - g.started
        route = request.url_rule.rule if request.url_rule else "unknown"
        metrics.request_seconds.labels(route, response.status_code).observe(elapsed)
        response.headers["Cache-Control"] = "no-store"
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
