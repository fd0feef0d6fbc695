"""The HTTP face of the Blocked API: routes, answers, errors."""

import time
import uuid
from datetime import UTC, datetime

import structlog
from flask import Flask, Response, g, jsonify, request
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from werkzeug.exceptions import HTTPException

from blocked_api.block_reader import BlockReader, BlocksUnavailableError, LiveBlock
from login_blocking.subjects import Subject, SubjectType, subject_key

_log = structlog.get_logger("blocked_api")


def create_app(reader: BlockReader) -> Flask:
    """The WSGI application around a block reader."""
    app = Flask("blocked_api", static_folder=None)
    app.url_map.strict_slashes = False
    registry = CollectorRegistry()
    _add_routes(app, reader)
    _add_health(app, reader, registry)
    _add_errors(app)
    _add_request_log(app, registry)
    return app


def _add_routes(app: Flask, reader: BlockReader) -> None:
    @app.get("/blocked")
    def blocked() -> Response:
        return jsonify({"users-blocked": reader.blocked("user")})

    # `path`: the key of an IPv6 network holds a slash, and a user name may.
    @app.get("/blocked/users/<path:name>")
    def blocked_user(name: str) -> tuple[Response, int]:
        return _subject(reader, "user", name)

    @app.get("/blocked/ips/<path:address>")
    def blocked_ip(address: str) -> tuple[Response, int]:
        return _subject(reader, "ip", address)


def _subject(reader: BlockReader, subject_type: SubjectType, text: str) -> tuple[Response, int]:
    try:
        subject = Subject(subject_type, subject_key(subject_type, text))
    except ValueError as error:
        return jsonify({"error": f"{subject_type}: {error}"}), 400
    blocks = reader.blocks(subject)
    if not blocks:
        return jsonify({"error": "Not blocked"}), 404
    return (
        jsonify(
            {
                "subject_type": subject.type,
                "subject": subject.key,
                **_document(blocks[0]),
                "blocks": [_document(block) for block in blocks],
            }
        ),
        200,
    )


def _document(block: LiveBlock) -> dict[str, object]:
    return {
        "rule": block.rule,
        "reason": block.reason,
        "since": _iso(block.since),
        "until": None if block.until is None else _iso(block.until),
        "level": block.level,
    }


def _iso(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1_000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _add_health(app: Flask, reader: BlockReader, registry: CollectorRegistry) -> None:
    @app.get("/healthz")
    def healthz() -> Response:
        return jsonify({"status": "ok"})

    @app.get("/readyz")
    def readyz() -> tuple[Response, int]:
        try:
            reader.ping()
        except BlocksUnavailableError:
            return jsonify({"redis": "down"}), 503
        return jsonify({"redis": "ok"}), 200

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), content_type="text/plain; version=0.0.4")


def _add_errors(app: Flask) -> None:
    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> tuple[Response, int]:
        return jsonify({"error": error.description}), error.code or 500

    @app.errorhandler(BlocksUnavailableError)
    def unavailable(_: BlocksUnavailableError) -> tuple[Response, int]:
        response = jsonify({"error": "The block list cannot be read now; try again"})
        response.headers["Retry-After"] = "1"
        return response, 503

    @app.errorhandler(Exception)
    def failed(error: Exception) -> tuple[Response, int]:
        # The type alone: a message could quote what a stranger sent.
        _log.error("unexpected", error=type(error).__name__, request_id=g.get("request_id"))
        return jsonify({"error": "Internal error"}), 500


def _add_request_log(app: Flask, registry: CollectorRegistry) -> None:
    requests = Counter("blocked_api_requests", "Answers", ["route", "status"], registry=registry)
    seconds = Histogram(
        "blocked_api_request_seconds", "Time to answer", ["route"], registry=registry
    )

    @app.before_request
    def begin() -> None:
        g.started = time.perf_counter()
        g.request_id = uuid.uuid4().hex

    @app.after_request
    def end(response: Response) -> Response:
        elapsed = time.perf_counter() - g.started
        route = request.url_rule.rule if request.url_rule else "unknown"
        requests.labels(route, response.status_code).inc()
        seconds.labels(route).observe(elapsed)
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
