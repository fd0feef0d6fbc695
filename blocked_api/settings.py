"""Settings of the Blocked API, from environment variables `BLOCKED_API_…`."""

import signal
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    SecretStr,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from login_blocking.client_address import ForwardedHeader, Networks, checked_header, networks

METRICS_FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's own: set before its import, it lets several workers add up their figures."""

LET_GO: Final = signal.SIGUSR1
"""Tells a worker to end its streams: Granian's would wait for them for ever."""

_SHORTEST_TOKEN: Final = 16


def _redis_url(secret: SecretStr) -> SecretStr:
    if not secret.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("not of the form redis://user:password@host:port/0")
    return secret


def _token(secret: SecretStr | None) -> SecretStr | None:
    if secret is None or not secret.get_secret_value():
        return None
    text = secret.get_secret_value()
    if len(text) < _SHORTEST_TOKEN or not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError(f"at least {_SHORTEST_TOKEN} printable ASCII characters without spaces")
    return secret


def _origin(text: str | None) -> str | None:
    if not text:
        return None
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError("not of the form https://host:port")
    if text != f"{parts.scheme}://{parts.netloc}{parts.path}" or "@" in parts.netloc:
        raise ValueError("not of the form https://host:port")
    if not all(c.isascii() and (c.isalnum() or c in ".-:[]") for c in parts.netloc):
        raise ValueError("not of the form https://host:port")  # it stands in a header
    return f"{parts.scheme}://{parts.netloc}"


# NoDecode: the environment holds the list as plain text, not as JSON.
Proxies = Annotated[Networks, NoDecode, BeforeValidator(networks)]


class Settings(BaseSettings):
    """Where to listen and which Redis to read. README's table explains each."""

    model_config = SettingsConfigDict(env_prefix="BLOCKED_API_", env_file=None)

    host: str = "127.0.0.1"
    port: int = Field(default=5000, ge=1, le=65_535)
    workers: PositiveInt = 1
    threads: PositiveInt = 6
    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)]
    # A question costs at most two such waits, and an answer is due within a second.
    redis_timeout_ms: int = Field(default=250, ge=1, le=450)
    token: Annotated[SecretStr | None, AfterValidator(_token)] = None
    lists_a_minute: NonNegativeInt = 600
    stream_clients: PositiveInt = 2_000
    stream_clients_each: PositiveInt = 200
    trusted_proxies: Proxies = Field(default=(), validate_default=False)
    forwarded_header: ForwardedHeader = "none"
    login_api_url: Annotated[str | None, AfterValidator(_origin)] = None

    @field_validator("forwarded_header")
    @classmethod
    def _goes_with_proxies(cls, header: ForwardedHeader, others: ValidationInfo) -> ForwardedHeader:
        proxies = others.data.get("trusted_proxies")
        return checked_header(proxies, header, "BLOCKED_API_TRUSTED_PROXIES")
