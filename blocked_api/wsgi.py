"""Wires the Blocked API from its environment; the WSGI server loads `app` from here."""

import structlog

from blocked_api.app import create_app
from blocked_api.block_reader import RedisBlockReader
from blocked_api.settings import Settings

structlog.configure(
    processors=[
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.add_log_level,
        structlog.processors.JSONRenderer(),
    ],
    cache_logger_on_first_use=True,
)
_settings = Settings()
app = create_app(
    RedisBlockReader(_settings.redis_url.get_secret_value(), _settings.redis_timeout_ms)
)
