"""The OpenAPI document of the Login API, served at /openapi.json."""

from collections.abc import Collection
from typing import Any, Final

_JSON: Final = "application/json"
_ERROR: Final = {"$ref": "#/components/schemas/Error"}
_RETRY: Final = {
    "Retry-After": {
        "description": "Seconds after which another call makes sense",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    }
}
_REQUEST_ID: Final = {
    "X-Request-Id": {
        "description": "Names this answer in the log",
        "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    }
}
_NAME: Final = {"type": "string", "minLength": 1, "maxLength": 256}
_PASSWORD: Final = {
    "type": "string",
    "minLength": 1,
    "maxLength": 1_024,
    "format": "password",
    "writeOnly": True,
}
_TEXT: Final = {"type": "string", "minLength": 1, "maxLength": 500}
_LOGIN_ANSWERS: Final = ("200", "400", "401", "403", "413", "415", "429", "500", "503")


def document() -> dict[str, Any]:
    """The whole document; every call that the application has, and every answer to it."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Login API", "version": "1"},
        "paths": _paths(),
        "components": {
            "securitySchemes": {"operator": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(),
        },
    }


def _paths() -> dict[str, Any]:
    credentials, change = {"$ref": "#/components/schemas/Credentials"}, "PasswordChange"
    return {
        "/register": _post(
            "Make an account", credentials, ("201", "400", "409", "413", "415", "500", "503")
        ),
        "/login": _post("Log in", credentials, _LOGIN_ANSWERS),
        "/password": _post(
            "Change the password",
            {"$ref": f"#/components/schemas/{change}"},
            (*_LOGIN_ANSWERS, "409"),
        ),
        "/unregister": _post("Delete the account", credentials, (*_LOGIN_ANSWERS, "409")),
        "/admin/block": _command("Block a user or an address", "Block"),
        "/admin/unblock": _command("End all blocks of a user or an address", "Unblock"),
        "/admin/attempts/{user}": _attempts(),
        "/healthz": _get("Whether the process lives", {"200": _answer("Alive", "Health")}),
        "/readyz": _get(
            "Which parts answer",
            {"200": _answer("Ready", "Readiness"), "503": _answer("Not ready", "Readiness")},
        ),
        "/metrics": _get(
            "Figures for Prometheus",
            {"200": {"description": "Figures", "content": {"text/plain": {}}}},
        ),
        "/openapi.json": _get("This document", {"200": _answer("OpenAPI 3.1", "Document")}),
    }


def _post(summary: str, body: dict[str, Any], answers: tuple[str, ...]) -> dict[str, Any]:
    return {
        "post": {
            "summary": summary,
            "requestBody": {"required": True, "content": {_JSON: {"schema": body}}},
            "responses": {status: _ANSWERS[status] for status in answers},
        }
    }


def _command(summary: str, schema: str) -> dict[str, Any]:
    called = _post(
        summary, {"$ref": f"#/components/schemas/{schema}"}, ("400", "413", "415", "500", "503")
    )
    responses = {
        **called["post"]["responses"],
        "202": _answer("On its way to the detector", "Accepted"),
        **_OPERATORS_ONLY,
    }
    return {"post": {**called["post"], "responses": responses, "security": [{"operator": []}]}}


def _attempts() -> dict[str, Any]:
    called = _get(
        "The last attempts at a name, newest first",
        {
            "200": _answer("All there are down to searched_back_to", "Attempts"),
            "400": _ANSWERS["400"],
            "500": _ANSWERS["500"],
            "503": _ANSWERS["503"],
            # A name that holds no character at all is no path of this call.
            "404": _answer("No such call", "Error"),
            **_OPERATORS_ONLY,
        },
    )
    limit = {"type": "integer", "minimum": 1, "maximum": 1_000, "default": 50}
    parameters = [
        {"name": "user", "in": "path", "required": True, "schema": _NAME},
        {"name": "limit", "in": "query", "schema": limit},
    ]
    return {"get": {**called["get"], "parameters": parameters, "security": [{"operator": []}]}}


def _get(summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"get": {"summary": summary, "responses": responses}}


def _answer(description: str, schema: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "description": description,
        "headers": {**_REQUEST_ID, **(headers or {})},
        "content": {_JSON: {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }


_ANSWERS: Final = {
    "200": _answer("Done", "Success"),
    "201": _answer("Made", "Success"),
    "400": _answer("Malformed, or against a rule; says which field", "Error"),
    "401": _answer("Wrong password, or no such user", "Error"),
    "403": _answer("User or address blocked", "Blocked", _RETRY),
    "409": _answer("User name is taken, or the password changed meanwhile", "Error"),
    "413": _answer("Body too long", "Error"),
    "415": _answer("Not JSON by its Content-Type", "Error"),
    "429": _answer("Too many attempts at once", "Error", _RETRY),
    "500": _answer("Unexpected", "Error"),
    "503": _answer("A part is down, or too many hashes wait", "Error", _RETRY),
}
_OPERATORS_ONLY: Final = {
    "401": _answer(
        "No token, or a wrong one; says which",
        "Error",
        {"WWW-Authenticate": {"schema": {"const": "Bearer"}}},
    ),
    "403": _answer("No token is set", "Error"),
}


def _schemas() -> dict[str, Any]:
    about = {
        "subject_type": {"enum": ["user", "ip"]},
        "subject": _TEXT,
        "by": _TEXT,
        "reason": _TEXT,
    }
    moment = {"type": ["string", "null"], "format": "date-time"}
    until = {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]}
    part = {"enum": ["ok", "down", "degraded"]}
    outbox = {"type": ["integer", "null"]}
    return {
        "Credentials": _object({"user": _NAME, "pass": _PASSWORD}),
        "PasswordChange": _object({"user": _NAME, "pass": _PASSWORD, "new": _PASSWORD}),
        "Block": _object(
            {**about, "until": until, "for": {"type": "string"}}, optional={"until", "for"}
        ),
        "Unblock": _object(
            {**about, "reset_levels": {"type": "boolean"}}, optional={"reset_levels"}
        ),
        "Success": _object({"success": {"const": True}}),
        "Accepted": _object({"success": {"const": True}, "id": {"type": "string"}}),
        "Error": _object({"error": {"type": "string"}}),
        "Blocked": _object(
            {"error": {"type": "string"}, "blocked_until": moment},
        ),
        "Health": _object({"status": {"const": "ok"}}),
        "Readiness": _object({"redis": part, "postgres": part, "kafka": part, "outbox": outbox}),
        "Attempts": _object(
            {"attempts": {"type": "array", "items": {"type": "object"}}, "searched_back_to": moment}
        ),
        "Document": {"type": "object"},
    }


def _object(properties: dict[str, Any], optional: Collection[str] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }
