"""The OpenAPI document of the Blocked API, served at /openapi.json."""

from typing import Any, Final

from blocked_api.asked import MOST_CHECKED, MOST_ON_A_PAGE
from blocked_api.list_bytes import FIELDS

_JSON: Final = "application/json"
_TEXT_HEADER: Final = {"schema": {"type": "string"}}
_REQUEST_ID: Final = {
    "X-Request-Id": {
        "description": "Names this answer in the log",
        "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    }
}
_STATE: Final = {
    "Block-List-Version": {
        "description": "Where in the run of changes the answer stands",
        "schema": {"type": "string"},
    },
    "Block-List-Status": {"schema": {"enum": ["complete", "refilling", "stale"]}},
}
_RETRY: Final = {
    "Retry-After": {
        "description": "Seconds after which another call makes sense",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    }
}
_MOMENT: Final = {"type": "string", "format": "date-time"}
_MOMENT_OR_NULL: Final = {"type": ["string", "null"], "format": "date-time"}
_COUNTS: Final = {"type": "object", "additionalProperties": {"type": "integer"}}
_TYPE: Final = {"enum": ["user", "ip"]}
_VERSION: Final = {
    "type": "string",
    "pattern": r"^[0-9]{1,20}\.[0-9]{1,20}-[0-9]{1,20}\.[0-9]{1,20}$",
}
_CURSOR: Final = {"name": "cursor", "in": "query", "schema": {"type": "string"}}


def document() -> dict[str, Any]:
    """The whole document; every call that the application has, and every answer to it."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Blocked API",
            "version": "1",
            "description": "Who is blocked now. The bearer token is asked for only if one is set.",
        },
        "security": [{}, {"reader": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"reader": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(),
        },
    }


def _paths() -> dict[str, Any]:
    page = [_whole("limit", MOST_ON_A_PAGE), _CURSOR]
    return {
        "/blocked": _list("Blocked users, sorted", "Users", page),
        "/blocked/ips": _list("Blocked addresses, sorted", "Addresses", page),
        "/blocked/users/{user}": _one(
            "The blocks of a user", "user", {"type": "string", "minLength": 1}
        ),
        "/blocked/ips/{ip}": _one(
            "The blocks of an address, or of its IPv6 /64",
            "ip",
            {"anyOf": [{"type": "string", "format": kind} for kind in ("ipv4", "ipv6")]},
        ),
        "/blocked/check": {"post": _check()},
        "/blocked/changes": _get(
            "All blocks, or what differs since a version",
            {
                "200": _answer("The difference, or all", "Changes", _STATE),
                "304": _not_modified(),
                "410": _answer("The version is too old or of another list", "Error", _STATE),
                **_list_refusals(),
            },
            [{"name": "since", "in": "query", "schema": _VERSION}],
        ),
        "/blocked/stream": _get(
            "Changes as server-sent events",
            {
                "200": {
                    "description": "Events `change`, `reset`, `status`",
                    "headers": _REQUEST_ID,
                    "content": {"text/event-stream": {"schema": {"type": "string"}}},
                },
                **_refusals("400", "503"),
            },
            [
                {"name": "since", "in": "query", "schema": _VERSION},
                {"name": "Last-Event-ID", "in": "header", "schema": _VERSION},
            ],
        ),
        "/blocked/subjects": _get(
            "Blocked subjects, searched and filtered, the newest first",
            {"200": _answer("A page", "Subjects", _STATE), **_list_refusals()},
            [
                {"name": "subject_type", "in": "query", "schema": _TYPE},
                {"name": "q", "in": "query", "schema": {"type": "string"}},
                {"name": "rule", "in": "query", "schema": {"type": "string"}},
                _whole("level", 1_000_000),
                _whole("limit", 500),
                _CURSOR,
            ],
        ),
        "/blocked/history": _get(
            "What happened to a subject, the newest first",
            {"200": _answer("Its events", "History", _STATE), **_list_refusals()},
            [
                {"name": "subject_type", "in": "query", "required": True, "schema": _TYPE},
                {
                    "name": "subject",
                    "in": "query",
                    "required": True,
                    "schema": {"type": "string", "minLength": 1},
                },
            ],
        ),
        "/blocked/summary": _get(
            "How things stand",
            {
                "200": _answer("Counts, the last hour, health", "Summary", _STATE),
                **_list_refusals(),
            },
        ),
        "/healthz": _open("Whether the process lives", {"200": _answer("Alive", "Health")}),
        "/readyz": _open(
            "Whether the list can be read, and is whole",
            {
                "200": _answer("Ready", "Readiness", _STATE),
                "503": _answer("Not ready", "Readiness"),
            },
        ),
        "/metrics": _get(
            "Figures for Prometheus",
            {
                "200": {"description": "Figures", "content": {"text/plain": {}}},
                **_refusals(),
            },
        ),
        "/openapi.json": _open("This document", {"200": _answer("OpenAPI 3.1", "Document")}),
    }


def _get(
    summary: str, responses: dict[str, Any], parameters: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    called: dict[str, Any] = {"summary": summary, "responses": responses}
    if parameters:
        called["parameters"] = parameters
    return {"get": called}


def _open(summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    called = _get(summary, {**responses, "500": _answer("Unexpected", "Error")})
    called["get"]["security"] = []
    return called


def _list(summary: str, schema: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    tagged = {**_STATE, "ETag": _TEXT_HEADER, "Vary": _TEXT_HEADER}
    responses = {
        # A page is not tagged.
        "200": _answer("The names, and where the next page begins", schema, _STATE),
        "304": {"description": "As it was", "headers": {**_REQUEST_ID, **tagged}},
        **_list_refusals(),
    }
    return _get(summary, responses, parameters)


def _one(summary: str, name: str, schema: dict[str, Any]) -> dict[str, Any]:
    parameter = {
        "name": name,
        "in": "path",
        "required": True,
        "schema": schema,
    }
    responses = {
        "200": _answer("Blocked", "Subject", _STATE),
        # A name that holds no character at all is no path of this call.
        "404": _answer("Not blocked", "Error"),
        **_refusals("400", "503"),
    }
    return _get(summary, responses, [parameter])


def _check() -> dict[str, Any]:
    return {
        "summary": "Who of many is blocked",
        "requestBody": {
            "required": True,
            "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Check"}}},
        },
        "responses": {
            "200": _answer("Those that are, spelled as asked", "Checked", _STATE),
            **_refusals("400", "413", "415", "503"),
        },
    }


def _not_modified() -> dict[str, Any]:
    return {"description": "As it was", "headers": {**_REQUEST_ID, **_STATE, "ETag": _TEXT_HEADER}}


def _list_refusals() -> dict[str, Any]:
    return _refusals("400", "429", "503")


def _refusals(*statuses: str) -> dict[str, Any]:
    known = {
        "400": _answer("Malformed; says which parameter", "Error"),
        "413": _answer("Body too long", "Error"),
        "415": _answer("Not JSON by its Content-Type", "Error"),
        "429": _answer("Too many lists for one client", "Error", _RETRY),
        "503": _answer("The list cannot be read, or too many wait", "Error", _RETRY),
    }
    return {
        **{status: known[status] for status in statuses},
        "401": _answer(
            "No token, or another one",
            "Error",
            {"WWW-Authenticate": {"schema": {"const": "Bearer"}}},
        ),
        "500": _answer("Unexpected", "Error"),
    }


def _answer(description: str, schema: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "description": description,
        "headers": {**_REQUEST_ID, **(headers or {})},
        "content": {_JSON: {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }


def _whole(name: str, most: int) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": 1, "maximum": most}
    return {"name": name, "in": "query", "schema": schema}


def _schemas() -> dict[str, Any]:
    about = {"subject_type": _TYPE, "subject": {"type": "string"}}
    listed = {
        **about,
        "blocked_until": _MOMENT_OR_NULL,
        "rule": {"type": "string"},
        "since": _MOMENT,
        "level": {"type": "integer"},
    }
    block = {
        "rule": {"type": "string"},
        "reason": {"type": "string"},
        "since": _MOMENT,
        "until": _MOMENT_OR_NULL,
        "level": {"type": "integer"},
    }
    names = {"type": "array", "items": {"type": "string"}}
    following = {"type": ["string", "null"]}
    users, addresses = FIELDS["user"], FIELDS["ip"]
    milliseconds = {"type": ["integer", "null"], "minimum": 0}
    wanted = {**names, "maxItems": MOST_CHECKED}
    return {
        "Users": _object({users: names, "next": following}, optional={"next"}),
        "Addresses": _object({addresses: names, "next": following}, optional={"next"}),
        "Subject": _object(
            {**about, "blocked_until": _MOMENT_OR_NULL, **block, "blocks": _array(_object(block))}
        ),
        "Check": _object({"users": wanted, "ips": wanted}, optional={"users", "ips"}),
        "Checked": _object(
            {
                "blocked": _array(
                    _object(
                        {
                            **about,
                            "blocked_until": _MOMENT_OR_NULL,
                            "rule": {"type": "string"},
                        }
                    )
                )
            }
        ),
        "Changes": _object(
            {
                "version": {"type": "string"},
                "full": {"type": "boolean"},
                "added": _array(_object(listed)),
                "changed": _array(_object(listed)),
                "removed": _array(_object(about)),
            }
        ),
        "Subjects": _object({"subjects": _array(_object(listed)), "next": following}),
        "History": _object({**about, "events": _array(_event(about))}),
        "Summary": _object(
            {
                "status": {"enum": ["complete", "refilling", "stale"]},
                "users": {"type": "integer"},
                "ips": {"type": "integer"},
                "by_rule": _COUNTS,
                "begun": _array(_object({"minute": _MOMENT, "by_rule": _COUNTS})),
                "newest": _array(_event(about)),
                "detector": _object({"heartbeat_age_ms": milliseconds, "lag_ms": milliseconds}),
                "login_api": {"type": ["string", "null"]},
            }
        ),
        "Error": _object({"error": {"type": "string"}}),
        "Health": _object({"status": {"const": "ok"}}),
        "Readiness": _object(
            {
                "redis": {"enum": ["ok", "down"]},
                "list": {"enum": ["complete", "refilling", "stale", "missing", "unknown"]},
            }
        ),
        "Document": {"type": "object"},
    }


def _event(about: dict[str, Any]) -> dict[str, Any]:
    return _object(
        {
            "at": _MOMENT,
            "event": {"enum": ["blocked", "unblocked", "expired"]},
            **about,
            "rule": {"type": ["string", "null"]},
            "blocked_until": _MOMENT_OR_NULL,
            "level": {"type": ["integer", "null"]},
        }
    )


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _object(
    properties: dict[str, Any], optional: frozenset[str] | set[str] = frozenset()
) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }
