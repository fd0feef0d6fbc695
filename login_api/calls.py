"""The calls of people with accounts: register, log in, change the password, leave."""

from collections.abc import Callable
from contextlib import suppress

from flask import Flask, jsonify, request

from login_api.accounts import NameTakenError
from login_api.answers import Answer, done, json_body, refusal, refused
from login_api.block_commands import BlockCommands
from login_api.documents import name_refusal, read_credentials, read_password_change
from login_api.errors import PartUnavailableError
from login_api.logins import Logins
from login_api.parts import Parts
from login_api.passwords import refusal as password_refusal
from login_blocking.subjects import ip_key


def add_calls(
    app: Flask, parts: Parts, logins: Logins, commands: BlockCommands, max_body_bytes: int
) -> None:
    """Adds the calls to an application."""

    @app.post("/register")
    def register() -> Answer:
        credentials = read_credentials(json_body(max_body_bytes))
        user, password = credentials.user, credentials.password
        reason = name_refusal(user) or password_refusal(password, user)
        if reason is not None:
            return refused(reason)
        try:
            parts.accounts.create(user, parts.hasher.hash(password))
        except NameTakenError:
            return jsonify({"error": "User name is taken"}), 409
        # A login of the name's last owner may have been on its way when that account went.
        with suppress(PartUnavailableError):
            parts.guard.forget_places(user)
        # Failures on a name that nobody owned must not hit its owner.
        commands.unblock_surely(user, "registered")
        return jsonify({"success": True}), 201

    _add_logins(app, parts, logins, commands, max_body_bytes)


def _add_logins(
    app: Flask, parts: Parts, logins: Logins, commands: BlockCommands, max_body_bytes: int
) -> None:
    address = _address(parts)

    @app.post("/login")
    def login() -> Answer:
        verdict = logins.attempt(read_credentials(json_body(max_body_bytes)), address())
        return refusal(verdict) or done()

    @app.post("/password")
    def change_password() -> Answer:
        credentials, new = read_password_change(json_body(max_body_bytes))
        reason = password_refusal(new, credentials.user, "new")
        if reason is None and new == credentials.password:
            reason = "new: the same as the old one"
        if reason is not None:
            return refused(reason)
        verdict = logins.attempt(credentials, address())
        if verdict.password_hash is None:
            return refusal(verdict) or done()
        hashed = parts.hasher.hash(new)
        if not parts.accounts.replace_hash(credentials.user, verdict.password_hash, hashed):
            return _changed_meanwhile()
        commands.unblock_surely(credentials.user, "password changed")
        return done()

    _add_unregister(app, parts, logins, max_body_bytes)


def _add_unregister(app: Flask, parts: Parts, logins: Logins, max_body_bytes: int) -> None:
    address = _address(parts)

    @app.post("/unregister")
    def unregister() -> Answer:
        credentials = read_credentials(json_body(max_body_bytes))
        verdict = logins.attempt(credentials, address())
        if verdict.password_hash is None:
            return refusal(verdict) or done()
        # The places first: an account that is gone must not leave them behind.
        parts.guard.forget_places(credentials.user)
        if not parts.accounts.delete(credentials.user, verdict.password_hash):
            return _changed_meanwhile()
        return done()


def _address(parts: Parts) -> Callable[[], str]:
    """Whose address the request in hand counts for."""
    return lambda: ip_key(parts.client_address(request.remote_addr or "", request.headers))


def _changed_meanwhile() -> Answer:
    return jsonify({"error": "The password was changed by somebody else; log in again"}), 409
