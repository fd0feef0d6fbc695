"""Settings of the Login API, from environment variables `LOGIN_API_…`."""

import os
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FilePath,
    PositiveInt,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from login_blocking.client_address import ForwardedHeader, Networks, checked_header, networks
from login_blocking.kafka_access import KafkaSettings

METRICS_FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's own: set before its import, it lets several workers add up their figures."""


def _given(secret: SecretStr) -> SecretStr:
    if not secret.get_secret_value().strip():
        raise ValueError("may not be empty")
    return secret


def _origins(text: str) -> tuple[str, ...]:
    return tuple(_origin(entry) for part in text.split(",") if (entry := part.strip()))


def _origin(entry: str) -> str:
    parts = urlsplit(entry)
    if parts.scheme not in ("http", "https") or entry != f"{parts.scheme}://{parts.netloc}":
        raise ValueError(f"{entry!r} is no origin; write https://host:port, without a path")
    return entry.lower()


Secret = Annotated[SecretStr, AfterValidator(_given)]
# NoDecode: the environment holds the list as plain text, not as JSON.
Proxies = Annotated[Networks, NoDecode, BeforeValidator(networks)]
Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)]


class OnlyKafka(KafkaSettings, BaseSettings):
    """How to reach Kafka: all that the operator's commands and the topics need."""

    model_config = SettingsConfigDict(
        env_prefix="LOGIN_API_", env_file=None, hide_input_in_errors=True
    )


class Settings(OnlyKafka):
    """Where to listen, what to lean on, how dear a hash is. README's table explains each."""

    host: str = "127.0.0.1"
    port: int = Field(default=3000, ge=1, le=65_535)
    workers: PositiveInt = 1
    threads: PositiveInt = 32
    max_body_bytes: PositiveInt = 16_384
    trusted_proxies: Proxies = Field(default=(), validate_default=False)
    forwarded_header: ForwardedHeader = "none"

    database_url: Secret
    database_connections: PositiveInt = 8
    database_timeout_ms: PositiveInt = 2_000
    redis_url: Secret
    redis_timeout_ms: PositiveInt = 200
    redis_down: Literal["closed", "open"] = "closed"
    policy_file: FilePath = Path(__file__).parents[1] / "policies" / "default.yaml"
    known_places: bool = True
    places_key: Secret | None = None
    publish_timeout_ms: PositiveInt = 1_000

    # OWASP's minimum for argon2id: 31 ms of one core.
    argon2_memory_kib: PositiveInt = 19_456
    argon2_time_cost: PositiveInt = 2
    argon2_parallelism: PositiveInt = 1
    # Of all workers together. No more by itself than leaves threads with the other defaults.
    hash_concurrency: PositiveInt = Field(default_factory=lambda: min(os.cpu_count() or 1, 15))
    hash_wait_ms: PositiveInt = 1_000
    hash_waiting: PositiveInt = 16

    admin_token: Annotated[SecretStr, Field(min_length=16)] | None = None
    dashboard_origins: Origins = Field(default=(), validate_default=False)

    @model_validator(mode="after")
    def _with_threads_that_hash_nothing(self) -> Self:
        if self.hashes_a_worker() + self.hash_waiting >= self.threads:
            raise ValueError(
                "LOGIN_API_THREADS: more than a worker's LOGIN_API_HASH_CONCURRENCY and "
                "_HASH_WAITING together, or hashes take the threads that refuse and report"
            )
        return self

    def hashes_a_worker(self) -> int:
        """How many of the hashes at once are each worker's."""
        return max(1, self.hash_concurrency // self.workers)

    def places_secret(self) -> bytes | None:
        """The key under which known places are hashed, None to know none."""
        if not self.known_places or self.places_key is None:
            return None
        return self.places_key.get_secret_value().encode()

    @model_validator(mode="after")
    def _with_a_key_for_places(self) -> Self:
        if self.known_places and self.places_key is None:
            raise ValueError(
                "LOGIN_API_PLACES_KEY is missing: a long random text, kept secret; or set "
                "LOGIN_API_KNOWN_PLACES=false"
            )
        return self

    @field_validator("forwarded_header")
    @classmethod
    def _with_proxies_or_neither(
        cls, header: ForwardedHeader, others: ValidationInfo
    ) -> ForwardedHeader:
        proxies = others.data.get("trusted_proxies")
        return checked_header(proxies, header, "LOGIN_API_TRUSTED_PROXIES")
