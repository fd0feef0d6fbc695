import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from login_blocking.attempts import Attempt, MalformedAttemptError, Outcome, decode

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
GOOD: dict[str, Any] = {
    "v": 1,
    "id": "a",
    "ts": 1,
    "user": "alice",
    "ip": "198.51.100.7",
    "outcome": "failure",
}


ATTEMPTS = st.builds(
    Attempt, TEXT, st.integers(0, 2**53), TEXT, st.none() | TEXT, st.sampled_from(Outcome),
    st.booleans(),
)  # fmt: skip


@given(ATTEMPTS)
def test_attempt_survives_its_wire_format(attempt: Attempt) -> None:
    assert decode(attempt.encode()) == attempt
    assert attempt.key() == str(attempt.user).encode()


def test_wire_format_is_compact_and_in_the_order_of_the_contract() -> None:
    expected = (
        b'{"v":1,"id":"a","ts":1,"user":"alice","ip":"198.51.100.7","outcome":"failure",'
        b'"known":true}'
    )

    assert decode(expected).encode() == expected


def test_attempt_that_does_not_say_is_from_an_unknown_place() -> None:
    assert decode(json.dumps(GOOD).encode()).known is False


def test_attempt_without_user_has_no_key() -> None:
    assert Attempt("a", 1, None, "198.51.100.7", Outcome.FAILURE).key() is None


@pytest.mark.parametrize(
    "value", [b"", b"{", b"\xff\xfe\xfd", b"[" * 100_000, b'{"ts":' + b"9" * 5_000 + b"}"]
)
def test_what_is_not_json_is_malformed(value: bytes) -> None:
    with pytest.raises(MalformedAttemptError, match=r"^not JSON$"):
        decode(value)


@pytest.mark.parametrize("value", [b"[]", b"1", b"null", b'"text"'])
def test_json_that_is_no_object_is_malformed(value: bytes) -> None:
    with pytest.raises(MalformedAttemptError, match=r"^not a JSON object$"):
        decode(value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"v": 2}, "v: not a known version"),
        ({"v": None}, "v: not a known version"),
        ({"id": 7}, "id: not a text"),
        ({"id": ""}, "id: not a text"),
        ({"ts": "1"}, "ts: not a whole"),
        ({"ts": 1.5}, "ts: not a whole"),
        ({"ts": True}, "ts: not a whole"),
        ({"user": 1}, "user, ip: neither"),
        ({"ip": []}, "user, ip: neither"),
        ({"user": None, "ip": None}, "user, ip: both missing"),
        ({"outcome": "FAILURE"}, "outcome: not a known one"),
        ({"outcome": None}, "outcome: not a known one"),
        ({"known": 1}, "known: neither"),
        ({"known": None}, "known: neither"),
    ],
)
def test_malformed_attempt_says_why(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(MalformedAttemptError, match=reason):
        decode(json.dumps({**GOOD, **change}).encode())
