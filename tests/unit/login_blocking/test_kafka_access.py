"""Settings for Kafka go together, or are refused by the names of those to change."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from login_blocking.complaints import complaints
from login_blocking.kafka_access import KafkaAccess, KafkaSettings

SECRET = "canary-hunter2"
USER = {"kafka_username": "detector", "kafka_password": SECRET}


class ThingSettings(KafkaSettings, BaseSettings):
    model_config = SettingsConfigDict(env_prefix="THING_", hide_input_in_errors=True)


def settings(**given: object) -> ThingSettings:
    return ThingSettings.model_validate({"kafka_bootstrap": "kafka:9092", **given})


def refused(**given: object) -> str:
    with pytest.raises(ValidationError) as error:
        settings(**given)
    (line,) = complaints(error.value, "THING_")
    assert SECRET not in line
    assert SECRET not in str(error.value)
    return line


def test_plaintext_is_the_default() -> None:
    assert settings().kafka() == KafkaAccess("kafka:9092", "plaintext", None, None, None)


@pytest.mark.parametrize(
    ("security", "protocol", "tls", "sasl"),
    [
        ("plaintext", "PLAINTEXT", False, False),
        ("tls", "SSL", True, False),
        ("sasl-plaintext", "SASL_PLAINTEXT", False, True),
        ("sasl-tls", "SASL_SSL", True, True),
    ],
)
def test_each_way_has_kafkas_own_word(
    security: str, protocol: str, *, tls: bool, sasl: bool
) -> None:
    access = settings(kafka_security=security, **(USER if sasl else {})).kafka()

    assert (access.protocol, access.tls, access.sasl) == (protocol, tls, sasl)


def test_all_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.crt"
    ca_file.touch()
    for name, value in {
        "BOOTSTRAP": "a:1,b:2", "SECURITY": "sasl-tls", "CA_FILE": str(ca_file),
        "USERNAME": "detector", "PASSWORD": SECRET,
    }.items():  # fmt: skip
        monkeypatch.setenv(f"THING_KAFKA_{name}", value)

    access = ThingSettings().kafka()

    assert access == KafkaAccess("a:1,b:2", "sasl-tls", str(ca_file), "detector", SECRET)
    assert access.servers == ["a:1", "b:2"]


def test_what_is_empty_was_not_given() -> None:
    nothing = {"kafka_ca_file": "", "kafka_username": "", "kafka_password": ""}

    assert settings(**nothing).kafka() == settings().kafka()


SASL = {"kafka_security": "sasl-tls"}
PLAIN_SASL = {"kafka_security": "sasl-plaintext"}


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (SASL | {"kafka_username": "a"}, "PASSWORD is missing: THING_KAFKA_SECURITY is sasl-tls"),
        (SASL | {"kafka_password": SECRET}, "USERNAME is missing: THING_KAFKA_SECURITY is sasl"),
        (SASL | USER | {"kafka_password": ""}, "PASSWORD is missing"),
        ({"kafka_security": "tls"} | USER, "USERNAME: only with sasl-tls or sasl-plaintext"),
        ({"kafka_password": SECRET}, "PASSWORD: only with sasl-tls or sasl-plaintext"),
        ({"kafka_ca_file": "/etc/hostname"}, "CA_FILE: only with tls or sasl-tls"),
        (PLAIN_SASL | USER | {"kafka_ca_file": "/etc/hostname"}, "CA_FILE: only with tls or sasl"),
        ({"kafka_security": "tls", "kafka_ca_file": "/nowhere"}, "CA_FILE: Path does not point to"),
        ({"kafka_security": "ssl"}, "SECURITY: Input should be 'plaintext', 'tls', 'sasl-plain"),
        ({"kafka_bootstrap": ""}, "BOOTSTRAP: host:port is wanted"),
        ({"kafka_bootstrap": "kafka"}, "BOOTSTRAP: host:port is wanted"),
        ({"kafka_bootstrap": "kafka:9092, other:9092"}, "BOOTSTRAP: host:port is wanted"),
        ({"kafka_bootstrap": "kafka:9092' , 'x"}, "BOOTSTRAP: host:port is wanted"),
    ],
)
def test_what_does_not_fit_is_a_line_that_names_the_setting(
    given: dict[str, str], line: str
) -> None:
    assert refused(**given).startswith(f"THING_KAFKA_{line}")


@pytest.mark.parametrize("username", ["a b", "a,b", "a=b", "käfer", "a\nb"])
def test_names_that_scram_would_spell_otherwise_are_refused(username: str) -> None:
    line = refused(kafka_security="sasl-tls", kafka_username=username, kafka_password=SECRET)

    assert line.startswith("THING_KAFKA_USERNAME: ")


@pytest.mark.parametrize("password", [f"{SECRET}\n", f"\0{SECRET}", f"{SECRET}ß"])
def test_passwords_that_clients_would_spell_otherwise_are_refused(password: str) -> None:
    line = refused(kafka_security="sasl-tls", kafka_username="detector", kafka_password=password)

    assert line.startswith("THING_KAFKA_PASSWORD: ")


def test_password_has_no_repr() -> None:
    given = settings(kafka_security="sasl-tls", **USER)

    assert SECRET not in repr(given)
    assert SECRET not in repr(given.kafka())
