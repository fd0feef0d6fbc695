"""What callers hear, and how a request's body is read."""

import math

from flask import Response, jsonify, request
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from login_api.logins import Verdict
from login_blocking.attempts import Outcome
from login_blocking.moments import iso

Answer = tuple[Response, int]


def json_body(max_body_bytes: int) -> bytes:
    """The body of a request that says it is JSON; raises werkzeug's 415 and 413."""
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("Send JSON, with the header Content-Type: application/json")
    body = request.get_data()
    if len(body) > max_body_bytes:
        raise RequestEntityTooLarge
    return body


def done() -> Answer:
    """It happened."""
    return jsonify({"success": True}), 200


def refused(reason: str) -> Answer:
    """The caller's own mistake."""
    return jsonify({"error": reason}), 400


def refusal(verdict: Verdict) -> Answer | None:
    """What a caller hears whose password was not found right; None for one that was."""
    if verdict.outcome is Outcome.SUCCESS:
        return None
    if verdict.outcome is Outcome.FAILURE:
        return jsonify({"error": "Wrong password"}), 401
    status, document, headers = refusal_told(verdict)
    response = jsonify(document)
    response.headers.update(headers)
    return response, status


def refusal_told(verdict: Verdict) -> tuple[int, dict[str, str | None], dict[str, str]]:
    """Status, document and headers for an attempt whose password was never looked at."""
    headers = {}
    if verdict.until is not None:
        seconds = math.ceil((verdict.until - verdict.now) / 1_000)
        headers["Retry-After"] = str(max(1, seconds))
    if verdict.outcome is Outcome.LIMITED:
        return 429, {"error": "Too many attempts"}, headers
    until = None if verdict.until is None else iso(verdict.until)
    return 403, {"error": "User blocked", "blocked_until": until}, headers
