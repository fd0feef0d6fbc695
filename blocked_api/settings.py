"""Settings of the Blocked API, from environment variables `BLOCKED_API_…`."""

from typing import Annotated, Final

from pydantic import AfterValidator, Field, PositiveInt, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

METRICS_FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's own: set before its import, it lets several workers add up their figures."""


def _redis_url(secret: SecretStr) -> SecretStr:
    if not secret.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("not of the form redis://user:password@host:port/0")
    return secret


class Settings(BaseSettings):
    """Where to listen and which Redis to read. README's table explains each."""

    model_config = SettingsConfigDict(env_prefix="BLOCKED_API_", env_file=None)

    host: str = "127.0.0.1"
    port: int = Field(default=5000, ge=1, le=65_535)
    workers: PositiveInt = 1
    threads: PositiveInt = 16
    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)]
    # A question costs at most two such waits, and an answer is due within a second.
    redis_timeout_ms: int = Field(default=250, ge=1, le=450)
