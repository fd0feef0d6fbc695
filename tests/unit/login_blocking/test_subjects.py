import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from login_blocking.subjects import LONGEST_RAW, ip_key, subject_key, user_key


@given(st.text())
def test_user_key_is_idempotent(name: str) -> None:
    try:
        key = user_key(name)
    except ValueError:
        return

    assert user_key(key) == key


@given(st.ip_addresses())
def test_ip_key_is_idempotent(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    key = ip_key(str(address))

    assert ip_key(key) == key


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Alice", "alice"),
        (" \talice\u00a0\n", "alice"),
        ("\uff21lice", "alice"),
        ("STRASSE", "strasse"),
        ("straße", "strasse"),
        ("e\u0301", "\u00e9"),
        ("\u00c9", "\u00e9"),
    ],
)
def test_spellings_of_one_user_are_one_user(name: str, key: str) -> None:
    assert user_key(name) == key


@pytest.mark.parametrize("name", ["", "  ", "\u3000", "a\x00b", "a\nb", "a\ud800", "a\x7f"])
def test_blank_control_and_surrogate_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="user name"):
        user_key(name)


def test_a_name_is_normalised_up_to_a_length_and_refused_beyond() -> None:
    assert user_key("A" * LONGEST_RAW) == "a" * LONGEST_RAW
    with pytest.raises(ValueError, match=r"at most 1,024 characters"):
        user_key("A" * (LONGEST_RAW + 1))


@pytest.mark.parametrize(
    ("address", "key"),
    [
        (" 198.51.100.7 ", "198.51.100.7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("::FFFF:c633:6407", "198.51.100.7"),
        ("2001:DB8:0:0::1", "2001:db8::/64"),
        ("2001:db8::ffff:ffff:ffff:ffff", "2001:db8::/64"),
        ("2001:db8:0:1::", "2001:db8:0:1::/64"),
        ("2001:0db8::/64", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("fe80::%eth0/64", "fe80::/64"),
    ],
)
def test_spellings_of_one_address_are_one_address(address: str, key: str) -> None:
    assert ip_key(address) == key


@pytest.mark.parametrize(
    "address", ["", "x", "198.51.100.0/24", "1.2.3.4/64", "198.51.100.07", "2001:db8::1/64"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        ip_key(address)


def test_subject_key_follows_the_type() -> None:
    assert subject_key("user", "A") == "a"
    assert subject_key("ip", "::ffff:1.2.3.4") == "1.2.3.4"
