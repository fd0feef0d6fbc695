"""Settings that are refused, and that a refusal does not write a secret down."""

import pytest
from pydantic import ValidationError

from blocked_api.__main__ import main
from blocked_api.settings import Settings

NAME = "BLOCKED_API_REDIS_URL"


@pytest.fixture(autouse=True)
def _complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "redis://blocked_api:hunter2@127.0.0.1:6379/0")


def test_defaults_bind_to_this_host_only() -> None:
    settings = Settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 5000)
    assert (settings.workers, settings.threads, settings.redis_timeout_ms) == (1, 6, 250)


def test_the_password_has_no_repr() -> None:
    assert "hunter2" not in repr(Settings())


@pytest.mark.parametrize("value", [None, "", " ", "hunter2", "http://hunter2@127.0.0.1"])
def test_a_missing_or_wrong_address_is_one_line_that_names_it(
    value: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if value is None:
        monkeypatch.delenv(NAME)
    else:
        monkeypatch.setenv(NAME, value)
    assert main() == 2
    written = capsys.readouterr().err
    assert written.startswith(f"{NAME}: ")
    assert written.count("\n") == 1
    assert "hunter2" not in written


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("WORKERS", "0"),
        ("THREADS", "0"),
        ("REDIS_TIMEOUT_MS", "0"),
        ("REDIS_TIMEOUT_MS", "451"),
        ("REDIS_TIMEOUT_MS", "soon"),
        ("TOKEN", "hunter2"),
        ("TOKEN", "a token with spaces in it"),
        ("LISTS_A_MINUTE", "-1"),
        ("STREAM_CLIENTS", "0"),
        ("LOGIN_API_URL", "login.example"),
        ("LOGIN_API_URL", "https://login.example/path"),
        ("LOGIN_API_URL", "https://login.example; script-src *"),
        ("LOGIN_API_URL", "https://eve@login.example"),
    ],
)
def test_a_setting_out_of_range_is_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"BLOCKED_API_{name}", value)
    with pytest.raises(ValidationError):
        Settings()
