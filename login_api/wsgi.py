"""Wires the Login API from its environment; the WSGI server loads `app` from here."""

import time
from multiprocessing.util import Finalize

import orjson
import structlog
from argon2 import PasswordHasher

from login_api.accounts import PostgresAccounts
from login_api.app import create_app
from login_api.attempt_history import KafkaAttemptHistory
from login_api.database import Database
from login_api.durable_publisher import DurablePublisher
from login_api.guard import RedisGuard
from login_api.metrics import Metrics
from login_api.outbox import PostgresOutbox
from login_api.parts import Parts
from login_api.passwords import Argon2Hasher
from login_api.places import Places
from login_api.policy_in_force import PolicyInForce
from login_api.record_publisher import KafkaRecordPublisher
from login_api.refusals import RememberingGuard
from login_api.returns import ReturningGuard
from login_api.settings import Settings
from login_blocking.client_address import ClientAddress

structlog.configure(
    processors=[
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.add_log_level,
        structlog.processors.JSONRenderer(serializer=orjson.dumps),
    ],
    logger_factory=structlog.BytesLoggerFactory(),
    cache_logger_on_first_use=True,
)
_OUTBOX_CONNECTIONS = 3
"""The publisher, the watch and the drainer: a thread each."""

_settings = Settings()
_metrics = Metrics()
_database = Database(
    _settings.database_url.get_secret_value(),
    _settings.database_connections,
    _settings.database_timeout_ms,
)
_publisher = DurablePublisher(
    KafkaRecordPublisher(_settings.kafka(), _settings.publish_timeout_ms),
    # Connections of its own: logins that wait for Postgres must not keep it from the gate.
    PostgresOutbox(
        Database(
            _settings.database_url.get_secret_value(),
            _OUTBOX_CONNECTIONS,
            _settings.database_timeout_ms,
        )
    ),
    _metrics,
    settle_s=2 * _settings.publish_timeout_ms / 1_000,
)
# Runs when a worker has answered its last request; atexit would not: workers are forks.
Finalize(None, _publisher.close, exitpriority=0)
app = create_app(
    Parts(
        accounts=PostgresAccounts(_database),
        guard=RememberingGuard(
            ReturningGuard(
                RedisGuard(
                    _settings.redis_url.get_secret_value(),
                    _settings.redis_timeout_ms,
                    PolicyInForce(_settings.policy_file),
                ),
                _metrics,
                goes_on=_settings.redis_down == "open",
            )
        ),
        places=Places(_settings.places_secret()),
        publisher=_publisher,
        history=KafkaAttemptHistory(_settings.kafka()),
        metrics=_metrics,
        hasher=Argon2Hasher(
            PasswordHasher(
                memory_cost=_settings.argon2_memory_kib,
                time_cost=_settings.argon2_time_cost,
                parallelism=_settings.argon2_parallelism,
            ),
            _settings.hashes_a_worker(),
            _settings.hash_waiting,
            _settings.hash_wait_ms,
            _metrics.hashes_in_hand,
        ),
        clock=lambda: time.time_ns() // 1_000_000,
        admin_token=_settings.admin_token,
        dashboard_origins=_settings.dashboard_origins,
        open_without_guard=_settings.redis_down == "open",
        client_address=ClientAddress(_settings.trusted_proxies, _settings.forwarded_header),
    ),
    max_body_bytes=_settings.max_body_bytes,
)
