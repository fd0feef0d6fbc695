"""Settings that are refused, and that a refusal does not write a secret down."""

from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from login_api.__main__ import main
from login_api.settings import Settings

SECRETS = {
    "LOGIN_API_DATABASE_URL": "postgresql://app:hunter2@127.0.0.1/app",
    "LOGIN_API_REDIS_URL": "redis://login_api:hunter2@127.0.0.1:6379",
    "LOGIN_API_KAFKA_BOOTSTRAP": "127.0.0.1:9092",
}
PLACES_KEY = "LOGIN_API_PLACES_KEY"


@pytest.fixture(autouse=True)
def _complete(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(PLACES_KEY, "hunter2")


def test_hashes_leave_threads_that_refuse_and_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGIN_API_THREADS", "18")
    monkeypatch.setenv("LOGIN_API_HASH_CONCURRENCY", "2")
    with pytest.raises(ValidationError, match="LOGIN_API_THREADS"):
        Settings()
    monkeypatch.setenv("LOGIN_API_THREADS", "19")
    Settings()


@pytest.mark.parametrize("cores", [None, 1, 15, 16, 256])
def test_with_however_many_cores_the_defaults_fit_together(
    cores: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert Settings().hash_concurrency == min(cores or 1, 15)


def test_hashes_are_shared_out_to_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGIN_API_HASH_CONCURRENCY", "64")
    with pytest.raises(ValidationError, match="LOGIN_API_THREADS"):
        Settings()
    monkeypatch.setenv("LOGIN_API_WORKERS", "8")
    assert Settings().hashes_a_worker() == 8


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


@pytest.mark.parametrize("key", [None, "", " "])
def test_known_places_need_a_key(
    key: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if key is None:
        monkeypatch.delenv(PLACES_KEY)
    else:
        monkeypatch.setenv(PLACES_KEY, key)
    assert main() == 2
    assert PLACES_KEY in capsys.readouterr().err


def test_without_known_places_no_key_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PLACES_KEY)
    monkeypatch.setenv("LOGIN_API_KNOWN_PLACES", "false")
    assert Settings().places_secret() is None


def test_a_policy_that_cannot_be_used_is_refused_with_its_reasons(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "policy.yaml").write_text("rules: []")
    monkeypatch.setenv("LOGIN_API_POLICY_FILE", str(tmp_path / "policy.yaml"))
    assert main() == 2
    assert "forget_level_after" in capsys.readouterr().err


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


def test_no_header_is_believed_by_default() -> None:
    settings = Settings()
    assert (settings.trusted_proxies, settings.forwarded_header) == ((), "none")


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded"])
def test_trusted_proxies_are_networks_between_commas(
    header: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGIN_API_TRUSTED_PROXIES", "10.0.0.0/8, 127.0.0.1 ,fd00::/8")
    monkeypatch.setenv("LOGIN_API_FORWARDED_HEADER", header)
    settings = Settings()
    networks = [ip_network(text) for text in ("10.0.0.0/8", "127.0.0.1/32", "fd00::/8")]
    assert list(settings.trusted_proxies) == networks
    assert settings.forwarded_header == header


@pytest.mark.parametrize(
    ("proxies", "header", "setting", "remedy"),
    [
        ("0.0.0.0/0", "forwarded", "TRUSTED_PROXIES", "trusts everyone"),
        ("10.0.0.0/8,::/0", "forwarded", "TRUSTED_PROXIES", "::/0 trusts everyone"),
        ("10.0.0.1/8", "forwarded", "TRUSTED_PROXIES", "write networks as 10.0.0.0/8"),
        ("proxy.example", "forwarded", "TRUSTED_PROXIES", "write networks as 10.0.0.0/8"),
        ("::ffff:10.0.0.0/104", "forwarded", "TRUSTED_PROXIES", "write IPv4 networks as IPv4"),
        ("10.0.0.0/8", None, "FORWARDED_HEADER", "say which header they write"),
        ("10.0.0.0/8", "none", "FORWARDED_HEADER", "say which header they write"),
        ("10.0.0.0/8", "x-real-ip", "FORWARDED_HEADER", "'x-forwarded-for' or 'forwarded'"),
        (None, "forwarded", "FORWARDED_HEADER", "set LOGIN_API_TRUSTED_PROXIES"),
        (" ", "x-forwarded-for", "FORWARDED_HEADER", "set LOGIN_API_TRUSTED_PROXIES"),
    ],
)
def test_wrong_proxies_are_one_line_with_the_remedy(
    proxies: str | None,
    header: str | None,
    setting: str,
    remedy: str,
    *,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in (("TRUSTED_PROXIES", proxies), ("FORWARDED_HEADER", header)):
        if value is not None:
            monkeypatch.setenv(f"LOGIN_API_{name}", value)
    assert main() == 2
    written = capsys.readouterr().err
    assert written.startswith(f"LOGIN_API_{setting}: ")
    assert written.count("\n") == 1
    assert remedy in written
