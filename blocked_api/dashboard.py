"""The dashboard's files: a page, its scripts and styles, all shipped, none from elsewhere."""

import mimetypes
from hashlib import blake2b
from pathlib import Path
from typing import Final

from flask import Flask, Response, request
from werkzeug.exceptions import NotFound

_FOLDER: Final = Path(__file__).parent / "static"
_SERVED: Final = {".html", ".css", ".js", ".mjs", ".svg", ".ico", ".png"}
"""Kinds of files; a browser gets no notes of ours, and nothing under a type that it may guess."""


def add_dashboard(app: Flask, login_api_url: str | None) -> None:
    """Routes `/` and `/static/…`. The page may talk to this server and to `login_api_url` only."""
    files = {
        path.relative_to(_FOLDER).as_posix(): _File(path)
        for path in _FOLDER.rglob("*")
        if path.suffix in _SERVED
    }
    policy = "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "font-src 'self'",
            "connect-src 'self'" + (f" {login_api_url}" if login_api_url else ""),
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )

    def answer(name: str) -> Response:
        file = files.get(name)
        if file is None:
            raise NotFound
        response = Response(file.content, content_type=file.content_type)
        response.set_etag(file.tag)
        response.headers["Cache-Control"] = "no-cache"  # kept, and asked for again
        response.headers["Content-Security-Policy"] = policy
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        response.make_conditional(request)
        return response

    app.add_url_rule("/", "dashboard", lambda: answer("index.html"), strict_slashes=False)
    app.add_url_rule("/static/<path:name>", "static", answer)


class _File:
    def __init__(self, path: Path) -> None:
        self.content = path.read_bytes()
        self.tag = blake2b(self.content, digest_size=12).hexdigest()
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        text = kind.startswith("text/") or kind.endswith("javascript")
        self.content_type = f"{kind}; charset=utf-8" if text else kind
