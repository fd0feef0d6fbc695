"""Which names and passwords may be registered, at the edges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from login_api.documents import name_refusal
from login_api.passwords import normalise, refusal
from login_blocking.subjects import user_key


@pytest.mark.parametrize(
    "name", ["abc", "a" * 64, "a.b_c-d@e.org", "жанна", "李小龍", "ζωή", "שרה", "สมชย"]
)
def test_names_of_letters_digits_and_four_signs_may_be_registered(name: str) -> None:
    assert name_refusal(user_key(name)) is None


@pytest.mark.parametrize("name", ["ab", "a" * 65])
def test_names_too_short_or_too_long_may_not(name: str) -> None:
    assert name_refusal(name) == "user: 3 to 64 characters"


@pytest.mark.parametrize(
    "name", ["a b c", "a/b/c", "<script>", "abc\u0301e\u0332", "a:b:c", "😀😀😀"]
)
def test_names_with_any_other_character_may_not(name: str) -> None:
    assert name_refusal(user_key(name)) == "user: only letters, digits, '.', '_', '-' and '@'"


@pytest.mark.parametrize(
    "name",
    [
        "user\u0663",  # an Arabic digit after Latin letters: shown in two orders
        "abc\u05d0",  # a Hebrew letter after them
        "\u0628\u0660\u06f0",  # the two Arabic zeros, which look the same
        "\u0628\u0640\u0628",  # tatweel, which only stretches a word
        "user\u3007\u09f4",  # a currency numerator
        "abc\u1100",  # a conjoining jamo by itself
        "\u13a0\u13a1\u13a2",  # Cherokee: case-folding goes up, RFC 8265 goes down
    ],
)
def test_names_that_cannot_be_told_apart_or_compared_may_not(name: str) -> None:
    reason = "user: holds characters that look like others or cannot be compared"
    assert name_refusal(user_key(name)) == reason


@given(st.text(min_size=3, max_size=64))
def test_any_name_is_taken_or_refused(name: str) -> None:
    try:
        user = user_key(name)
    except ValueError:
        return
    reason = name_refusal(user)
    assert reason is None or reason.startswith("user: ")


@pytest.mark.parametrize("password", ["tr0ub4do", "correct horse battery", "x" * 128, "пароль-кот"])
def test_passwords_of_8_to_128_characters_may_be_chosen(password: str) -> None:
    assert refusal(password, "alice") is None


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("tr0ub4d", "pass: at least 8 characters"),
        ("x" * 129, "pass: at most 128 characters"),
        (" " * 8, "pass: may not be blank"),
        ("Alice.Smith", "pass: may not be the user name"),
        (" alice.smith ", "pass: may not be the user name"),
        ("password1", "pass: one of the most common passwords; choose another"),
        ("PassWord1", "pass: one of the most common passwords; choose another"),
    ],
)
def test_weak_passwords_are_refused_with_the_reason(password: str, reason: str) -> None:
    assert refusal(password, "alice.smith") == reason


@given(st.text(min_size=8, max_size=40))
def test_any_password_is_taken_or_refused(password: str) -> None:
    try:
        normal = normalise(password)
    except ValueError:
        return
    reason = refusal(normal, "alice")
    assert reason is None or reason.startswith("pass: ")
