"""Lets the dashboard, a page of another origin, make operators' calls; no other page may."""

from typing import Final

from flask import Flask, Response, request

_PATHS: Final = "/admin/"
_PREFLIGHT_LASTS_S: Final = "600"


def allow_dashboard(app: Flask, origins: tuple[str, ...]) -> None:
    """Answers browsers that ask for pages from `origins`. Cookies play no part: tokens do."""

    @app.before_request
    def answer_preflight() -> Response | None:
        # A browser asks first, without the token, which the call itself then carries.
        if request.method == "OPTIONS" and request.path.startswith(_PATHS) and _is_allowed():
            return app.make_default_options_response()
        return None

    @app.after_request
    def tell_browsers(response: Response) -> Response:
        if not origins or not request.path.startswith(_PATHS):
            return response
        response.vary.add("Origin")
        if _is_allowed():
            response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
            response.headers["Access-Control-Expose-Headers"] = "X-Request-Id, Retry-After"
            if request.method == "OPTIONS":
                response.headers["Access-Control-Allow-Methods"] = "GET, POST"
                response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type"
                response.headers["Access-Control-Max-Age"] = _PREFLIGHT_LASTS_S
        return response

    def _is_allowed() -> bool:
        return request.headers.get("Origin") in origins
