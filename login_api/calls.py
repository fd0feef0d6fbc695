"""The calls of people with accounts: register, log in, change the password, leave."""

from flask import Flask, jsonify, request

from login_api.accounts import NameTakenError
from login_api.answers import Answer, done, json_body, refusal, refused
from login_api.block_commands import BlockCommands
from login_api.documents import name_refusal, read_credentials, read_password_change
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
        # Failures on a name that nobody owned must not hit its owner.
        commands.unblock(user, "registered")
        return jsonify({"success": True}), 201

    _add_logins(app, parts, logins, commands, max_body_bytes)


def _add_logins(
    app: Flask, parts: Parts, logins: Logins, commands: BlockCommands, max_body_bytes: int
) -> None:
    def address() -> str:
        return ip_key(parts.client_address(request.remote_addr or "", request.headers))

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
            return jsonify(
                {"error": "The password was changed by somebody else; log in again"}
            ), 409
        commands.unblock(credentials.user, "password changed")
        return done()

    @app.post("/unregister")
    def unregister() -> Answer:
        credentials = read_credentials(json_body(max_body_bytes))
        verdict = logins.attempt(credentials, address())
        if verdict.password_hash is None:
            return refusal(verdict) or done()
        # The places first: an account that is gone must not leave them behind.
        parts.guard.forget_places(credentials.user)
        parts.accounts.delete(credentials.user)
        return done()
