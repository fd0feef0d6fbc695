from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocked_client import BlockedClient
from blocked_client.client import reconnect_delay_s


@given(st.integers(0, 10_000), st.floats(0, 600), st.floats(0, 1))
def test_delays_are_bounded_and_never_none(failures: int, first_s: float, fraction: float) -> None:
    assert 0.02 < reconnect_delay_s(failures, first_s, fraction) <= 10


def test_delays_double_and_are_half_chance() -> None:
    assert [reconnect_delay_s(failures, 1, 1) for failures in range(6)] == [1, 2, 4, 8, 10, 10]
    assert [reconnect_delay_s(2, 1, fraction) for fraction in (0, 0.5, 1)] == [2, 3, 4]


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "127.0.0.1:5000"},
        {"url": "ftp://127.0.0.1"},
        {"token": ""},
        {"token": "two\nlines"},
        {"token": "Schlüssel"},
        {"when_unknown": "perhaps"},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        BlockedClient(**{"url": "http://127.0.0.1:5000", **settings})


def test_the_token_is_shown_nowhere() -> None:
    client = BlockedClient("http://127.0.0.1:5000", "secret-token")
    assert "secret-token" not in f"{client!r} {client.status!r}"
