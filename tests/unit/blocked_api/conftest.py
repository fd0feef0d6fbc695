"""The application around blocks in memory."""

import pytest
from flask.testing import FlaskClient

from blocked_api.app import create_app
from tests.support.blocked_api import InMemoryPresent


@pytest.fixture
def present() -> InMemoryPresent:
    return InMemoryPresent()


@pytest.fixture
def client(present: InMemoryPresent) -> FlaskClient:
    return create_app(present).test_client()
