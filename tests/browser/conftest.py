"""The dashboard as people meet it: a browser, `python -m blocked_api`, a Redis that fills."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.stub_login_api import StubLoginApi, running_stub
from tests.support.detector import Detector, running_detector
from tests.support.running_blocked_api import running_api
from tests.support.services import RedisServer


@pytest.fixture
def detector(redis_server: RedisServer) -> Iterator[Detector]:
    with redis_server.admin() as admin:
        admin.flushall()
        with running_detector(redis_server) as running:
            yield running
        admin.flushall()


@pytest.fixture
def login_api() -> Iterator[StubLoginApi]:
    with running_stub() as stub:
        yield stub


@pytest.fixture
def dashboard(tmp_path: Path, redis_server: RedisServer, detector: Detector) -> Iterator[str]:
    """Its origin."""
    with running_api(tmp_path, redis_server.url("blocked_api")) as api:
        api.wait_until_healthy()
        api.wait_for("/blocked", 200)
        yield f"http://127.0.0.1:{api.port}"


@pytest.fixture
def dashboard_with_unblock(
    tmp_path: Path, redis_server: RedisServer, detector: Detector, login_api: StubLoginApi
) -> Iterator[str]:
    settings = {"BLOCKED_API_LOGIN_API_URL": login_api.origin}
    with running_api(tmp_path, redis_server.url("blocked_api"), settings) as api:
        api.wait_until_healthy()
        api.wait_for("/blocked", 200)
        login_api.allowed_origin = f"http://127.0.0.1:{api.port}"
        yield login_api.allowed_origin
