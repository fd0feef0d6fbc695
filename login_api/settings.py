"""Settings of the Login API, from environment variables `LOGIN_API_…`."""

import os
from typing import Annotated, Final

from pydantic import AfterValidator, Field, PositiveInt, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

METRICS_FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's own: set before its import, it lets several workers add up their figures."""


def _given(secret: SecretStr) -> SecretStr:
    if not secret.get_secret_value().strip():
        raise ValueError("may not be empty")
    return secret


Secret = Annotated[SecretStr, AfterValidator(_given)]


class Settings(BaseSettings):
    """Where to listen, what to lean on, how dear a hash is. README's table explains each."""

    model_config = SettingsConfigDict(env_prefix="LOGIN_API_", env_file=None)

    host: str = "127.0.0.1"
    port: int = Field(default=3000, ge=1, le=65_535)
    workers: PositiveInt = 1
    threads: PositiveInt = 32
    max_body_bytes: PositiveInt = 16_384

    database_url: Secret
    database_connections: PositiveInt = 8
    database_timeout_ms: PositiveInt = 2_000
    redis_url: Secret
    redis_timeout_ms: PositiveInt = 250
    kafka_bootstrap: str = Field(pattern=r"^[^\s,]+:\d+(,[^\s,]+:\d+)*$")
    publish_timeout_ms: PositiveInt = 2_000

    # OWASP's minimum for argon2id: 31 ms of one core.
    argon2_memory_kib: PositiveInt = 19_456
    argon2_time_cost: PositiveInt = 2
    argon2_parallelism: PositiveInt = 1
    hash_concurrency: PositiveInt = Field(default_factory=lambda: os.cpu_count() or 1)
    hash_wait_ms: PositiveInt = 1_000
