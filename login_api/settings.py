"""Settings of the Login API, from environment variables `LOGIN_API_…`."""

import os

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Where to listen, what to lean on, how dear a hash is. README's table explains each."""

    model_config = SettingsConfigDict(env_prefix="LOGIN_API_", env_file=None)

    host: str = "127.0.0.1"
    port: int = 3000
    workers: int = 1
    threads: int = 32
    max_body_bytes: int = 16_384

    database_url: SecretStr
    database_connections: int = 8
    redis_url: SecretStr
    redis_timeout_ms: int = 250
    kafka_bootstrap: str
    publish_timeout_ms: int = 2_000

    # OWASP's minimum for argon2id: 31 ms of one core.
    argon2_memory_kib: int = 19_456
    argon2_time_cost: int = 2
    argon2_parallelism: int = 1
    hash_concurrency: int = Field(default_factory=lambda: os.cpu_count() or 1)
    hash_wait_ms: int = 2_000
