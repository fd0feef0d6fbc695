"""The operator's calls, behind a token: block, unblock, and the last attempts at a name."""

import hmac
import json
import uuid
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from flask import Flask, g, jsonify, request

from login_api.answers import Answer, json_body, refused
from login_api.block_commands import BlockCommands
from login_api.documents import MalformedError, read_name, read_object
from login_api.parts import Parts
from login_blocking.commands import Action, Command, MalformedCommandError, decode
from login_blocking.moments import iso
from login_blocking.policy import LONGEST_BLOCK_MS, parse_duration_ms

_ABOUT: Final = {"subject_type", "subject", "by", "reason"}
_MOST_ATTEMPTS: Final = 1_000
_log = structlog.get_logger("login_api")


def add_admin(app: Flask, parts: Parts, commands: BlockCommands, max_body_bytes: int) -> None:
    """Adds the calls to an application."""

    @app.before_request
    def authorise() -> Answer | None:
        if not request.path.startswith("/admin/"):
            return None
        if parts.admin_token is None:
            error = "Operators' calls are off: set LOGIN_API_ADMIN_TOKEN"
            return jsonify({"error": error}), 403
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        expected = parts.admin_token.get_secret_value().encode()
        given = token.strip().encode(errors="replace")
        if scheme.lower() != "bearer" or not given:
            return _unauthorised("Send the header Authorization: Bearer <token>")
        if not hmac.compare_digest(given, expected):
            return _unauthorised("Wrong token")
        return None

    @app.post("/admin/unblock")
    def unblock() -> Answer:
        document = read_object(json_body(max_body_bytes), {*_ABOUT, "reset_levels"})
        asked = read_command(document, Action.UNBLOCK, commands.clock())
        commands.give(asked)
        return _accepted(asked)

    @app.post("/admin/block")
    def block() -> Answer:
        document = read_object(json_body(max_body_bytes), {*_ABOUT, "until", "for"})
        asked = read_command(document, Action.BLOCK, commands.clock())
        commands.give(asked)
        return _accepted(asked)

    @app.get("/admin/attempts/<path:user>")
    def attempts(user: str) -> Answer:
        key = read_name(user)
        given = request.args.get("limit", "50")
        # Its length first: Python refuses to read very long numbers.
        readable = len(given) <= len(str(_MOST_ATTEMPTS)) and given.isascii() and given.isdigit()
        limit = int(given) if readable else 0
        if not 0 < limit <= _MOST_ATTEMPTS:
            return refused(f"limit: a whole number from 1 to {_MOST_ATTEMPTS}")
        history = parts.history.of_user(key, limit)
        back_to = history.searched_back_to
        return jsonify(
            {
                "attempts": [json.loads(attempt.encode()) for attempt in history.attempts],
                "searched_back_to": None if back_to is None else iso(back_to),
            }
        ), 200


def read_command(document: dict[str, Any], action: Action, now: int) -> Command:
    """What a document asks for; raises MalformedError.

    A block ends at `until` (ISO 8601, or ms since the epoch), or after `for` (a duration as
    policies write it), or never.
    """
    given = {name: value for name, value in document.items() if name not in ("until", "for")}
    whole = {**given, "v": 1, "id": str(uuid.uuid4()), "ts": now, "action": action.value}
    whole["until"] = _until(document, now)
    try:
        return decode(json.dumps(whole))
    except MalformedCommandError as error:
        told = str(error).removesuffix(", and later than ts")
        raise MalformedError(f"{told}: a moment to come" if told != str(error) else told) from None


def _until(document: dict[str, Any], now: int) -> int | None:
    until, duration = document.get("until"), document.get("for")
    if until is not None and duration is not None:
        raise MalformedError("until, for: give one of them, or neither for ever")
    if duration is not None:
        return now + _duration(duration)
    if not isinstance(until, str):
        return until
    try:
        return int(_utc(datetime.fromisoformat(until)).timestamp() * 1_000)
    except (ValueError, OverflowError):
        raise MalformedError("until: neither ISO 8601 nor milliseconds") from None


def _duration(given: object) -> int:
    try:
        milliseconds = parse_duration_ms(str(given))
    except ValueError:
        raise MalformedError("for: not a duration such as 30m, 2h or 7d") from None
    if not 0 < milliseconds <= LONGEST_BLOCK_MS:
        raise MalformedError("for: more than nothing, at most 3650d")
    return milliseconds


def _utc(moment_given: datetime) -> datetime:
    return moment_given if moment_given.tzinfo else moment_given.replace(tzinfo=UTC)


def _unauthorised(why: str) -> Answer:
    response = jsonify({"error": why})
    response.headers["WWW-Authenticate"] = "Bearer"
    return response, 401


def _accepted(asked: Command) -> Answer:
    # The audit log: who did what to whom. Nothing else of the API's logs names a subject.
    _log.info(
        "command",
        action=asked.action.value,
        subject_type=asked.subject.type,
        subject=asked.subject.key,
        by=asked.by,
        reason=asked.reason,
        id=asked.id,
        request_id=g.get("request_id"),
    )
    return jsonify({"success": True, "id": asked.id}), 202
