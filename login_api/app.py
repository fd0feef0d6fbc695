"""The HTTP face of the Login API: what each call answers. Semantics: docs/semantics.md."""

import math
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException, UnsupportedMediaType

from login_api.accounts import Accounts, NameTakenError
from login_api.attempt_publisher import AttemptPublisher
from login_api.block_reader import Blocked, BlockReader
from login_api.documents import Credentials, MalformedError, name_refusal, read_credentials
from login_api.errors import PartUnavailableError
from login_api.metrics import Metrics
from login_api.passwords import Argon2Hasher, refusal
from login_blocking.attempts import Attempt, Outcome
from login_blocking.subjects import Subject, ip_key

_log = structlog.get_logger("login_api")

Answer = tuple[Response, int]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the application leans on; wsgi.py wires the real ones, tests their own."""

    accounts: Accounts
    blocks: BlockReader
    publisher: AttemptPublisher
    hasher: Argon2Hasher
    clock: Callable[[], int]
    """The wall clock in ms since the epoch."""


def create_app(parts: Parts, *, max_body_bytes: int) -> Flask:
    """The WSGI application around its parts."""
    app = Flask("login_api", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = max_body_bytes
    metrics = Metrics()
    _add_calls(app, parts, metrics)
    _add_health(app, parts, metrics)
    _add_errors(app, metrics)
    _add_request_log(app, metrics)
    return app


def _add_calls(app: Flask, parts: Parts, metrics: Metrics) -> None:
    @app.post("/register")
    def register() -> Answer:
        credentials = _credentials()
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
        credentials = _credentials()
        address = ip_key(request.remote_addr or "")
        now = parts.clock()
        subjects = [Subject("user", credentials.user), Subject("ip", address)]

        def publish(outcome: Outcome) -> None:
            with metrics.publish_seconds.time():
                parts.publisher.publish(
                    Attempt(str(uuid.uuid4()), now, credentials.user, address, outcome)
                )
            metrics.attempts.labels(outcome.value).inc()

        blocked = parts.blocks.blocked(subjects, now)
        if blocked is not None:
            publish(Outcome.BLOCKED)
            return _blocked(blocked, now)
        encoded = parts.accounts.password_hash(credentials.user)
        if parts.hasher.verify(encoded, credentials.password):
            publish(Outcome.SUCCESS)
            return jsonify({"success": True}), 200
        publish(Outcome.FAILURE)
        return jsonify({"error": "Wrong password"}), 401


def _credentials() -> Credentials:
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("Send JSON, with the header Content-Type: application/json")
    return read_credentials(request.get_data())


def _blocked(blocked: Blocked, now: int) -> Answer:
    if blocked.until is None:
        return jsonify({"error": "User blocked", "blocked_until": None}), 403
    moment = datetime.fromtimestamp(blocked.until / 1_000, UTC).isoformat(timespec="milliseconds")
    response = jsonify({"error": "User blocked", "blocked_until": moment.replace("+00:00", "Z")})
    response.headers["Retry-After"] = str(max(1, math.ceil((blocked.until - now) / 1_000)))
    return response, 403


def _add_health(app: Flask, parts: Parts, metrics: Metrics) -> None:
    pings = {
        "redis": parts.blocks.ping,
        "postgres": parts.accounts.ping,
        "kafka": parts.publisher.ping,
    }

    @app.get("/healthz")
    def healthz() -> Response:
        return jsonify({"status": "ok"})

    @app.get("/readyz")
    def readyz() -> Answer:
        states = {}
        for name, ping in pings.items():
            try:
                ping()
            except PartUnavailableError:
                states[name] = "down"
            else:
                states[name] = "ok"
        return jsonify(states), 503 if "down" in states.values() else 200

    @app.get("/metrics")
    def exposition() -> Response:
        return Response(metrics.exposition(), content_type="text/plain; version=0.0.4")


def _add_errors(app: Flask, metrics: Metrics) -> None:
    @app.errorhandler(MalformedError)
    def malformed(error: MalformedError) -> Answer:
        return jsonify({"error": str(error)}), 400

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Answer:
        return jsonify({"error": error.description}), error.code or 500

    @app.errorhandler(PartUnavailableError)
    def unavailable(error: PartUnavailableError) -> Answer:
        metrics.part_failures.labels(error.part).inc()
        _log.warning("part unavailable", part=error.part, request_id=g.get("request_id"))
        response = jsonify({"error": "Logins cannot be checked now; try again"})
        response.headers["Retry-After"] = "1"
        return response, 503

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Answer:
        # The type alone: a message or a traceback could quote a password.
        _log.error("unexpected", error=type(error).__name__, request_id=g.get("request_id"))
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
