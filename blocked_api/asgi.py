"""Wires the Blocked API from its environment; the server loads `app` from here."""

import gc
import logging
import sys

import orjson
import structlog

from blocked_api.access import Access, Clients, ListRate
from blocked_api.app import CALLS, create_app
from blocked_api.block_feed import RedisFeed, RedisQuestions
from blocked_api.follower import WAIT_MS, Follower
from blocked_api.metrics import Metrics
from blocked_api.present import Present
from blocked_api.serving import Served
from blocked_api.settings import Settings
from blocked_api.shared_questions import SharedState
from blocked_api.stream import Stream
from login_blocking.client_address import ClientAddress

structlog.configure(
    processors=[
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.add_log_level,
        structlog.processors.JSONRenderer(serializer=orjson.dumps),
    ],
    logger_factory=structlog.BytesLoggerFactory(),
    wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    cache_logger_on_first_use=True,
)


def _leave_blocks_alone() -> None:
    """A full pass of the garbage collector over 100,000 blocks held up all threads for 0.3 s.

    They hold no cycles and go by themselves, so it need not look at them.
    """
    gc.collect()
    gc.freeze()


# A call's thread waits so long for the loop that serves the streams; Python's own 5 ms are many.
sys.setswitchinterval(0.0002)
_settings = Settings()
_redis_url = _settings.redis_url.get_secret_value()
_metrics = Metrics()
_access = Access(None if _settings.token is None else _settings.token.get_secret_value())
# A question for changes waits that long at Redis itself, and Redis looks only ten times a second.
_follower = Follower(
    RedisFeed(_redis_url, WAIT_MS + _settings.redis_timeout_ms),
    settle=_leave_blocks_alone,
    on_reload=_metrics.list_reads.inc,
)
_questions = RedisQuestions(_redis_url, _settings.redis_timeout_ms)
_present = Present(_questions, _follower)
_rate = ListRate(_settings.lists_a_minute)
_clients = Clients(ClientAddress(_settings.trusted_proxies, _settings.forwarded_header))
_application = create_app(
    _present,
    access=_access,
    rate=_rate,
    clients=_clients,
    metrics=_metrics,
    login_api_url=_settings.login_api_url,
)
_stream = Stream(
    _present,
    _follower,
    most=_settings.stream_clients,
    most_each=_settings.stream_clients_each,
    share=_rate.admits,
)
app = Served(
    _application,
    stream=_stream,
    state=SharedState(_questions.state),
    access=_access,
    clients=_clients,
    metrics=_metrics,
    threads=_settings.threads,
    quick=_application.extensions[CALLS].is_quick,
)
_follower.start()
