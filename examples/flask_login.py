"""A login of one's own that refuses whom the Blocked API shows as blocked.

Try it beside a running Blocked API:

    BLOCKED_API_URL=http://127.0.0.1:5000 flask --app examples/flask_login.py run --port 8000
    curl http://127.0.0.1:8000/login -H 'Content-Type: application/json' -d '{"user":"alice"}'
"""

import os
from typing import TYPE_CHECKING

from flask import Flask, Response, jsonify, request

from blocked_client import BlockedClient
from blocked_client.wsgi import BlockedMiddleware, remote_address, user_from_json

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

app = Flask("flask_login")
client = BlockedClient(
    os.environ.get("BLOCKED_API_URL", "http://127.0.0.1:5000"),
    os.environ.get("BLOCKED_API_TOKEN") or None,
).start()  # in each worker: a thread does not survive a fork
_user_in_body = user_from_json("user")


def _user_of_login(environ: "WSGIEnvironment") -> str | None:
    return _user_in_body(environ) if environ["PATH_INFO"] == "/login" else None


def _address_at_login(environ: "WSGIEnvironment") -> str | None:
    # Behind a proxy: of X-Forwarded-For what that proxy has added, see werkzeug's ProxyFix.
    return remote_address(environ) if environ["PATH_INFO"] == "/login" else None


app.wsgi_app = BlockedMiddleware(  # type: ignore[method-assign]
    app.wsgi_app, client, user_of=_user_of_login, client_address=_address_at_login
)


@app.post("/login")
def login() -> tuple[Response, int]:
    """Where the password would be checked."""
    name = request.get_json().get("user")
    return jsonify({"success": True, "user": name}), 200


@app.get("/status")
def status() -> Response:
    """How far the copy can be trusted."""
    return jsonify({"list": client.status.state, "age_s": client.status.age_s})
