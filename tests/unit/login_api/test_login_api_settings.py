"""Settings that are refused, and that a refusal does not write a secret down."""

import pytest
from pydantic import ValidationError

from login_api.__main__ import main
from login_api.settings import Settings

SECRETS = {
    "LOGIN_API_DATABASE_URL": "postgresql://app:hunter2@127.0.0.1/app",
    "LOGIN_API_REDIS_URL": "redis://login_api:hunter2@127.0.0.1:6379",
    "LOGIN_API_KAFKA_BOOTSTRAP": "127.0.0.1:9092",
}


@pytest.fixture(autouse=True)
def _complete(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def test_defaults_bind_to_this_host_only_and_meet_owasp() -> None:
    settings = Settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 3000)
    hashing = (settings.argon2_memory_kib, settings.argon2_time_cost, settings.argon2_parallelism)
    assert hashing == (19_456, 2, 1)


def test_secrets_have_no_repr() -> None:
    assert "hunter2" not in repr(Settings())


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("value", [None, "", " "])
def test_a_missing_or_empty_address_is_one_line_that_names_it(
    name: str,
    value: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    assert main() == 2
    written = capsys.readouterr().err
    assert written.startswith(f"{name}: ")
    assert written.count("\n") == 1
    assert "hunter2" not in written


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "0"), ("PORT", "65536"), ("WORKERS", "0"), ("PUBLISH_TIMEOUT_MS", "soon")],
)
def test_a_setting_out_of_range_is_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"LOGIN_API_{name}", value)
    with pytest.raises(ValidationError):
        Settings()


def test_a_database_address_of_another_form_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOGIN_API_DATABASE_URL", "hunter2")
    assert main() == 2
    written = capsys.readouterr().err
    assert written.startswith("LOGIN_API_DATABASE_URL: ")
    assert "hunter2" not in written
