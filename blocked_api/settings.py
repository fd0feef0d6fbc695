"""Settings of the Blocked API, from environment variables `BLOCKED_API_…`."""

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Where to listen and which Redis to read. README's table explains each."""

    model_config = SettingsConfigDict(env_prefix="BLOCKED_API_", env_file=None)

    host: str = "127.0.0.1"
    port: int = 5000
    workers: int = 1
    threads: int = 16
    redis_url: SecretStr
    redis_timeout_ms: int = 250
