"""What a body must be, and that a refusal says which field and never quotes a value."""

import contextlib
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from login_api.documents import (
    LONGEST_NAME,
    MalformedError,
    read_credentials,
    read_password_change,
)

CANARY = "canary-Tr0ub4dor&3"

REFUSED = [
    (b"", "body: not JSON"),
    (b"{", "body: not JSON"),
    (b"user=alice&pass=x", "body: not JSON"),
    (b'{"user":"alice","pass":"\xff"}', "body: not UTF-8"),
    ('{"user":"alice","pass":"x"}'.encode("utf-16"), "body: not UTF-8"),
    (b"[" * 10_000, "body: not JSON"),
    (b'{"user":' * 3_000, "body: not JSON"),
    (b'{"user":"alice","pass":' + b"9" * 5_000 + b"}", "body: not JSON"),
    (b'{"user":"alice","pass":NaN}', "body: not JSON"),
    (b'{"user":"alice","pass":-Infinity}', "body: not JSON"),
    (b"null", "body: not a JSON object"),
    (b'"alice"', "body: not a JSON object"),
    (b'["alice","x"]', "body: not a JSON object"),
    (b"{}", "user: missing"),
    (b'{"user":"alice"}', "pass: missing"),
    (b'{"pass":"x"}', "user: missing"),
    (b'{"user":null,"pass":"x"}', "user: not a text"),
    (b'{"user":"alice","pass":1}', "pass: not a text"),
    (b'{"user":"alice","pass":1e400}', "pass: not a text"),
    (b'{"user":["alice"],"pass":"x"}', "user: not a text"),
    (b'{"user":"alice","pass":{"$ne":""}}', "pass: not a text"),
    (b'{"user":true,"pass":"x"}', "user: not a text"),
    (b'{"user":"","pass":"x"}', "user: empty"),
    (b'{"user":"alice","pass":""}', "pass: empty"),
    (b'{"user":"  \\t ","pass":"x"}', "user: "),
    (b'{"user":"a\\ud800","pass":"x"}', "user: "),
    (b'{"user":"a\\u0000b","pass":"x"}', "user: "),
    (b'{"user":"alice","pass":"x\\ud800"}', "pass: "),
    (b'{"user":"alice","pass":"x\\u0000"}', "pass: "),
    (b'{"user":"alice","user":"bob","pass":"x"}', "user: a field stands twice"),
    (b'{"user":"alice","pass":"x","pass":"y"}', "pass: a field stands twice"),
    (b'{"user":"alice","pass":"x","admin":true}', "body: 1 unknown field"),
]


@pytest.mark.parametrize(("body", "reason"), REFUSED)
def test_what_is_no_pair_of_credentials_is_refused_with_its_field(body: bytes, reason: str) -> None:
    with pytest.raises(MalformedError) as refused:
        read_credentials(body)
    assert str(refused.value).startswith(reason)


def test_credentials_hold_the_user_in_normal_form() -> None:
    body = json.dumps({"user": " ＡLICE ", "pass": "pass word"}).encode()  # noqa: RUF001
    credentials = read_credentials(body)
    assert (credentials.user, credentials.password) == ("alice", "pass word")


def test_one_password_typed_on_two_systems_is_one() -> None:
    composed, decomposed = (
        read_credentials(json.dumps({"user": "alice", "pass": text}).encode())
        for text in ("caf\u00e9", "cafe\u0301")
    )
    assert composed.password == decomposed.password


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("a" * LONGEST_NAME, True),
        ("a" * (LONGEST_NAME + 1), False),
        ("\ufdfa" * 20, False),  # one character whose normal form is 18
    ],
)
def test_a_name_has_at_most_256_characters_in_either_form(name: str, *, accepted: bool) -> None:
    body = json.dumps({"user": name, "pass": "x"}).encode()
    if accepted:
        assert read_credentials(body).user == name
    else:
        with pytest.raises(MalformedError, match="user: at most 256 characters"):
            read_credentials(body)


@pytest.mark.parametrize(
    ("field", "length", "reason"),
    [
        ("user", LONGEST_NAME + 1, "user: at most 256 characters"),
        ("pass", 1_025, "pass: at most 1,024 characters"),
        ("new", 1_025, "new: at most 1,024 characters"),
    ],
)
def test_what_is_too_long_is_refused_before_it_is_normalised(
    field: str, length: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    normalised: list[int] = []

    def normalize(form: str, text: str) -> str:
        normalised.append(len(text))
        return text

    monkeypatch.setattr(unicodedata, "normalize", normalize)
    document = {"user": "alice", "pass": "x", "new": "y", field: "\u0315" * length}
    with pytest.raises(MalformedError, match=f"^{reason}$"):
        read_password_change(json.dumps(document).encode())
    assert max(normalised, default=0) < length


@given(st.binary())
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(MalformedError):
        read_credentials(body)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["user", "pass", "other"]), _JSON))
def test_any_document_is_read_or_refused(document: dict[str, object]) -> None:
    try:
        read_credentials(json.dumps(document).encode())
    except MalformedError as refused:
        field = str(refused).partition(":")[0]
    else:
        field = "none"
    assert field in ("user", "pass", "body", "none")


@pytest.mark.parametrize(
    "body",
    [
        f'{{"user":"alice","pass":"{CANARY}"',
        f'{{"user":"alice","pass":["{CANARY}"]}}',
        f'{{"user":"alice","pass":"{CANARY}\\u0000"}}',
        f'{{"user":"alice","pass":"{CANARY}\\ud800"}}',
        f'{{"user":"alice","pass":"{CANARY}","{CANARY}":1}}',
        f'{{"user":1,"pass":"{CANARY}"}}',
    ],
)
def test_neither_a_refusal_nor_its_causes_hold_the_password(body: str) -> None:
    with pytest.raises(MalformedError) as refused:
        read_credentials(body.encode())
    assert CANARY not in str(refused.value)
    assert refused.value.__cause__ is None


def test_credentials_have_no_repr_of_the_password() -> None:
    body = json.dumps({"user": "alice", "pass": CANARY}).encode()
    assert CANARY not in repr(read_credentials(body))
