"""The HTTP face of the Blocked API: what each call answers."""

import time
import traceback
import uuid

import structlog
from flask import Flask, Response, g, jsonify, request
from flask.json.provider import DefaultJSONProvider
from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed
from werkzeug.routing import PathConverter

from blocked_api.block_reader import BlockReader, BlocksUnavailableError, LiveBlock
from blocked_api.metrics import Metrics
from login_blocking.moments import iso
from login_blocking.subjects import Subject, ip_key, user_key

_log = structlog.get_logger("blocked_api")

Answer = tuple[Response, int]


class _Json(DefaultJSONProvider):
    sort_keys = False  # an answer reads in the order in which it is documented
    compact = True


class _Rest(PathConverter):
    """The rest of the path, whatever it holds: a /64 and many a guessed name have slashes."""

    regex = r"[\s\S]+"
    part_isolating = False


def create_app(reader: BlockReader) -> Flask:
    """The WSGI application around a block reader."""
    app = Flask("blocked_api", static_folder=None)
    app.json = _Json(app)
    app.url_map.converters["rest"] = _Rest
    app.url_map.merge_slashes = False  # "a//b" is another name than "a/b"
    metrics = Metrics()
    _add_request_log(app, metrics)
    _add_calls(app, reader)
    _add_health(app, reader, metrics)
    _add_errors(app, metrics)
    return app


def _add_calls(app: Flask, reader: BlockReader) -> None:
    @app.get("/blocked")
    def blocked() -> Response:
        return jsonify({"users-blocked": reader.blocked("user")})

    @app.get("/blocked/users/<rest:name>")
    def blocked_user(name: str) -> Answer:
        try:
            key = user_key(name)
        except ValueError as error:
            return jsonify({"error": f"user: {error}"}), 400
        return _subject(reader, Subject("user", key))

    @app.get("/blocked/ips/<rest:address>")
    def blocked_ip(address: str) -> Answer:
        try:
            key = ip_key(address)
        except ValueError:
            return jsonify({"error": "ip: not an IPv4 or IPv6 address"}), 400
        return _subject(reader, Subject("ip", key))


def _subject(reader: BlockReader, subject: Subject) -> Answer:
    blocks = reader.blocks(subject)
    if not blocks:
        return jsonify({"error": "Not blocked"}), 404
    ends_last = _document(blocks[0])
    document = {
        "subject_type": subject.type,
        "subject": subject.key,
        "blocked_until": ends_last["until"],
        **ends_last,
        "blocks": [_document(block) for block in blocks],
    }
    return jsonify(document), 200


def _document(block: LiveBlock) -> dict[str, object]:
    return {
        "rule": block.rule,
        "reason": block.reason,
        "since": iso(block.since),
        "until": None if block.until is None else iso(block.until),
        "level": block.level,
    }


def _add_health(app: Flask, reader: BlockReader, metrics: Metrics) -> None:
    @app.get("/healthz")
    def healthz() -> Response:
        return jsonify({"status": "ok"})

    @app.get("/readyz")
    def readyz() -> Answer:
        try:
            reader.ping()
        except BlocksUnavailableError:
            return jsonify({"redis": "down"}), 503
        return jsonify({"redis": "ok"}), 200

    @app.get("/metrics")
    def exposition() -> Response:
        return Response(metrics.exposition(), content_type="text/plain; version=0.0.4")


def _add_errors(app: Flask, metrics: Metrics) -> None:
    @app.before_request
    def refuse_other_than_text() -> None:
        # Werkzeug would read such bytes as U+FFFD, and look up a name that nobody asked for.
        try:
            request.environ["PATH_INFO"].encode("latin-1").decode()
        except UnicodeError:
            raise BadRequest("path: not UTF-8") from None

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Answer:
        response = jsonify({"error": error.description})
        if isinstance(error, MethodNotAllowed):
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
        return response, error.code or 500

    @app.errorhandler(BlocksUnavailableError)
    def unavailable(error: BlocksUnavailableError) -> Answer:
        metrics.redis_failures.inc()
        _log.warning(
            "blocks unavailable",
            why=str(error),
            cause=type(error.__cause__).__name__,
            request_id=g.get("request_id"),
        )
        response = jsonify({"error": "The block list cannot be read now; try again"})
        response.headers["Retry-After"] = "1"
        return response, 503

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Answer:
        # Without the message, which could quote what a stranger sent; the lines of code do not.
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
