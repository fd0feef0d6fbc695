"""The OpenAPI document names every call and every answer."""

import re

from blocked_api.app import create_app
from blocked_api.openapi import document
from tests.support.blocked_api import InMemoryPresent

PAGES = {"/", "/static/<path:name>"}


def test_every_call_is_in_the_document_and_no_other() -> None:
    app = create_app(InMemoryPresent())
    routes = {
        (re.sub(r"<[^>]*>", "{}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        if rule.rule not in PAGES
        for method in rule.methods or ()
        if method not in ("HEAD", "OPTIONS")
    }
    documented = {
        (re.sub(r"{[^}]*}", "{}", path), method)
        for path, calls in document()["paths"].items()
        for method in calls
    }
    assert documented - routes == {("/blocked/stream", "get")}  # served beside the application
    assert routes <= documented


def test_the_document_is_served() -> None:
    answer = create_app(InMemoryPresent()).test_client().get("/openapi.json")
    assert answer.json == document()
