import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocked_client import BlockedClient
from blocked_client.answers import ToldBlock
from blocked_client.client import WhenUnknown, reconnect_delay_s
from tests.support.blocked_client import client_of

ALICE = ToldBlock("user", "alice", float("inf"), "operator")
HOST = ToldBlock("ip", "203.0.113.9", float("inf"), "operator")


@given(st.integers(0, 10_000), st.floats(0, 600), st.floats(0, 1))
def test_delays_are_bounded_and_never_none(failures: int, first_s: float, fraction: float) -> None:
    assert 0.02 < reconnect_delay_s(failures, first_s, fraction) <= 10


def test_delays_double_and_are_half_chance() -> None:
    assert [reconnect_delay_s(failures, 1, 1) for failures in range(6)] == [1, 2, 4, 8, 10, 10]
    assert [reconnect_delay_s(2, 1, fraction) for fraction in (0, 0.5, 1)] == [2, 3, 4]


@pytest.mark.parametrize(
    ("retry_after_s", "fraction", "delay_s"),
    [(5, 0, 5), (5, 1, 7.5), (1, 0.5, 2), (1, 1, 3), (60, 1, 90), (0, 1, 1), (0.1, 0, 0.5)],
)
def test_retry_after_is_obeyed_with_chance_on_top(
    retry_after_s: float, fraction: float, delay_s: float
) -> None:
    assert reconnect_delay_s(0, 1, fraction, retry_after_s) == delay_s


def test_the_full_list_is_awaited_at_random_except_at_the_first_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fractions = iter((0.25, 0.5, 0.75))
    client = BlockedClient("http://127.0.0.1:1", random_fraction=lambda: next(fractions))
    waits: list[float] = []
    told: list[tuple[str | None, float]] = [(None, 0.0), ("HTTP 410", 0.0), ("HTTP 410", 0.0)]

    def follow_once() -> tuple[str | None, float]:
        client._known = True
        if len(told) == 1:
            client._closing.set()
        return told.pop(0)

    monkeypatch.setattr(client, "_follow_once", follow_once)
    monkeypatch.setattr(client._closing, "wait", waits.append)
    client._run()
    after_reset_s, after_410_s, then_s = 2 * 0.25, 2 * (0.5 + 0.5 / 2), 2 * 0.75
    assert waits == [after_reset_s, after_410_s, then_s]


def test_a_client_that_is_closed_while_it_awaits_the_list_does_not_take_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = client_of(ALICE)
    monkeypatch.setattr(client._closing, "wait", lambda _: client._closing.set())
    monkeypatch.setattr(client, "_follow_once", pytest.fail)
    client._run()


def test_a_client_refuses_until_it_knows() -> None:
    client = BlockedClient("http://127.0.0.1:1")
    assert client.is_blocked("bob")
    assert client.block_of("bob") is None
    assert not client.is_ready


@pytest.mark.parametrize(("when_unknown", "blocked"), [("allow", False), ("refuse", True)])
def test_a_list_too_old_is_not_known(when_unknown: WhenUnknown, *, blocked: bool) -> None:
    for heard_s_ago, too_old in ((29.0, False), (30.1, True)):
        client = client_of(ALICE, when_unknown=when_unknown, max_age_s=30, heard_s_ago=heard_s_ago)
        assert client.is_ready is not too_old
        assert client.is_blocked("alice") is (blocked if too_old else True)
        assert client.is_blocked("bob") is (blocked if too_old else False)
    assert client.block_of("alice") is not None


def test_without_a_greatest_age_the_copy_answers_for_ever() -> None:
    client = client_of(ALICE, heard_s_ago=1e9)
    assert client.is_ready
    assert (client.is_blocked("alice"), client.is_blocked("bob")) == (True, False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)


@given(JSON, JSON)
def test_nothing_that_json_can_carry_makes_the_client_raise(user: object, ip: object) -> None:
    client: Any = client_of(ALICE, HOST)
    no_text = not all(it is None or isinstance(it, str) for it in (user, ip))
    assert client.is_blocked(user, ip) or not no_text
    client.block_of(user, ip)


@pytest.mark.parametrize(
    "value", [7, 0, True, 1.5, b"bob", [], ["bob"], ["b"] * 2_000, ("b",) * 2_000, {}, b"b" * 2_000]
)
def test_what_is_no_text_is_blocked(value: object) -> None:
    client: Any = client_of(ALICE, HOST)
    assert client.is_blocked(user=value)
    assert client.is_blocked(ip=value)
    assert client.is_blocked("bob", value)
    assert client.block_of(value, value) is None


LONG = 100_000
STRANGE = {
    "letters": "a" * LONG,
    "digits": "1" * LONG,
    "colons": ":" * LONG,
    "dots": "." * LONG,
    "groups": "1:" * (LONG // 2),
    "prefix": "0:" * (LONG // 2) + "/64",
    "zone": "::1%" + "a" * LONG,
    "slashes": "/" * LONG + "/64",
    "blanks": " " * LONG,
    "lone surrogates": "\ud800" * LONG,
    "one lone surrogate": "alice\udcff",
    "surrogates the wrong way round": "\udc00\ud800" * 500,
    "marks": "\u0301\u0323" * (LONG // 2),
    "as many marks as a name may have": "a" + "\u0301\u0323" * 511,
    "marks that fall apart": "\u0f73" * 1_024,
    "the letter that grows most": "\ufdfa" * 1_024,
    "from JSON": json.loads('"\\ud83d"'),
}


@pytest.mark.parametrize("strange", STRANGE.values(), ids=STRANGE)
def test_what_a_stranger_may_send_is_answered_at_once(strange: str) -> None:
    client = client_of(ALICE, HOST)
    began_s = time.thread_time()
    assert not client.is_blocked(strange, strange)
    assert client.block_of(strange, strange) is None
    assert time.thread_time() - began_s < 0.2
    assert client.is_blocked(strange, "203.0.113.9")
    assert client.is_blocked("alice", strange)


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "127.0.0.1:5000"},
        {"url": "ftp://127.0.0.1"},
        {"token": ""},
        {"token": "two\nlines"},
        {"token": "Schlüssel"},
        {"when_unknown": "perhaps"},
        {"max_age_s": 19.9},
        {"max_age_s": float("nan")},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        BlockedClient(**{"url": "http://127.0.0.1:5000", **settings})


def test_the_token_is_shown_nowhere() -> None:
    client = BlockedClient("http://127.0.0.1:5000", "secret-token")
    assert "secret-token" not in f"{client!r} {client.status!r}"
