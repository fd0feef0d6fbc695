"""What every test shares: who may open sockets, and the real services."""

import pytest
from hypothesis import HealthCheck, settings

from tests.support.browser import browser
from tests.support.services import kafka_server, postgres_server, redis_server

__all__ = ["browser", "kafka_server", "postgres_server", "redis_server"]

_TOUCH_SERVICES = ("service", "flink", "e2e", "browser")

# Hypothesis' own limits go by the wall clock, which tells how busy the machine is.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(item.get_closest_marker(name) for name in _TOUCH_SERVICES):
            item.add_marker(pytest.mark.enable_socket)
