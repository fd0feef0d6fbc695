"""The document is true: each call of the application stands in it, and each answer given here."""

import re
from typing import Any

import pytest

from login_api.openapi import document
from tests.support.login_api import FailingAccounts, InMemoryGuard, LoginApi, credentials

ALICE = credentials("alice", "correct horse 9")


def test_every_call_of_the_application_is_documented_and_no_other() -> None:
    served = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in LoginApi().client().application.url_map.iter_rules()
        for method in rule.methods or ()
        if method not in ("HEAD", "OPTIONS")
    }
    documented = {(path, method) for path, calls in document()["paths"].items() for method in calls}
    assert served == documented


def test_it_is_served_as_it_is() -> None:
    assert LoginApi().client().get("/openapi.json").json == document()


@pytest.mark.parametrize(
    ("api", "path", "body"),
    [
        (LoginApi(), "/register", ALICE),
        (LoginApi(), "/register", {}),
        (LoginApi(), "/login", ALICE),
        (LoginApi(accounts=FailingAccounts()), "/login", ALICE),
        (LoginApi(guard=InMemoryGuard(threshold=0)), "/password", {**ALICE, "new": "x" * 20}),
        (LoginApi(), "/unregister", ALICE),
        (LoginApi(), "/admin/block", {}),
        (LoginApi(admin_token=None), "/admin/unblock", {}),
    ],
)
def test_what_is_answered_is_documented(api: LoginApi, path: str, body: dict[str, Any]) -> None:
    answer = api.client().post(path, json=body)
    call = document()["paths"][path]["post"]["responses"][str(answer.status_code)]
    assert answer.content_type in call["content"]
    assert set(call["headers"]) >= {name for name in ("Retry-After",) if name in answer.headers}
    name = call["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    schema = document()["components"]["schemas"][name]
    assert answer.json is not None
    assert set(schema["required"]) <= set(answer.json) <= set(schema["properties"])
