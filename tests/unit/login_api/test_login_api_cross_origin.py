"""Which pages of other origins a browser lets make operators' calls."""

import pytest

from login_api.settings import Settings
from tests.support.login_api import TOKEN, LoginApi

PAGE = "http://127.0.0.1:5000"
UNBLOCK = {"subject_type": "user", "subject": "alice", "by": "eve", "reason": "called us"}


def test_the_dashboard_may_ask_and_then_call() -> None:
    client = LoginApi(dashboard_origins=(PAGE,)).client()
    asked = client.options("/admin/unblock", headers={"Origin": PAGE})
    assert asked.status_code == 200
    assert asked.headers["Access-Control-Allow-Origin"] == PAGE
    assert asked.headers["Access-Control-Allow-Headers"] == "Authorization, Content-Type"
    headers = {"Origin": PAGE, "Authorization": f"Bearer {TOKEN}"}
    answer = client.post("/admin/unblock", json=UNBLOCK, headers=headers)
    assert answer.status_code == 202
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert "Access-Control-Allow-Credentials" not in answer.headers


def test_a_refusal_can_be_read_there_too() -> None:
    client = LoginApi(dashboard_origins=(PAGE,)).client()
    answer = client.post("/admin/unblock", json=UNBLOCK, headers={"Origin": PAGE})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (401, PAGE)


@pytest.mark.parametrize("origin", ["http://evil.example", f"{PAGE}.evil.example", "null", PAGE])
def test_no_other_page_may(origin: str) -> None:
    allowed = () if origin == PAGE else (PAGE,)
    client = LoginApi(dashboard_origins=allowed).client()
    asked = client.options("/admin/unblock", headers={"Origin": origin})
    assert asked.status_code == 401
    for answer in (asked, client.post("/admin/unblock", json=UNBLOCK, headers={"Origin": origin})):
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_other_calls_are_nobodys_page() -> None:
    client = LoginApi(dashboard_origins=(PAGE,)).client()
    login = {"user": "alice", "pass": "guess"}
    for answer in (
        client.options("/login", headers={"Origin": PAGE}),
        client.post("/login", json=login, headers={"Origin": PAGE}),
    ):
        assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("value", ["*", "127.0.0.1:5000", "http://a/b", "http://a/", "ftp://a"])
def test_what_is_no_origin_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGIN_API_DASHBOARD_ORIGINS", f"{PAGE},{value}")
    with pytest.raises(ValueError, match="is no origin"):
        Settings()
