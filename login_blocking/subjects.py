"""Who a block is about: users and addresses, in the one spelling that all parts compare."""

import ipaddress
import unicodedata
from typing import Final, Literal, NamedTuple

SubjectType = Literal["user", "ip"]
SUBJECT_TYPES: Final[tuple[SubjectType, ...]] = ("user", "ip")

IPV6_PREFIX_LENGTH: Final = 64
"""One customer usually holds a whole /64 (RFC 6177), so its addresses count as one."""


LONGEST_RAW: Final = 1_024
"""In characters, before normalising: putting combining marks in order costs their square."""


class Subject(NamedTuple):
    """A user or an address; `key` is its normal form."""

    type: SubjectType
    key: str


def user_key(name: str) -> str:
    """The form in which user names are compared: trimmed, NFKC, case-folded.

    Idempotent. Raises ValueError for a name that is blank or is not text that UTF-8 can carry
    (a lone surrogate), or holds a control character: no such name can be registered. So for one
    longer than LONGEST_RAW, at once: whoever calls this need not fear what it was sent.
    """
    if len(name) > LONGEST_RAW:
        raise ValueError(f"a user name may have at most {LONGEST_RAW:,} characters")
    # NFKC_Casefold: folding can undo the normal form, and the other way round (U+0345).
    folded = unicodedata.normalize("NFKC", name).casefold()
    key = unicodedata.normalize("NFKC", folded).casefold().strip()
    if not key:
        raise ValueError("a user name may not be blank")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in key):
        raise ValueError("a user name may not hold control characters or lone surrogates")
    return key


def ip_key(address: str) -> str:
    """The form in which addresses are compared: an IPv4 address, or an IPv6 /64 network.

    An IPv4-mapped IPv6 address is the IPv4 address. Idempotent: a /64 network, as this function
    writes it, is taken too. Raises ValueError for anything else.
    """
    text = address.strip()
    prefix_text = f"/{IPV6_PREFIX_LENGTH}"
    if ":" in text and text.endswith(prefix_text):
        network = ipaddress.IPv6Network(text)
        return str(ipaddress.IPv6Network((int(network.network_address), IPV6_PREFIX_LENGTH)))
    parsed = ipaddress.ip_address(text)
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    without_zone = int(parsed)
    return str(ipaddress.IPv6Network((without_zone, IPV6_PREFIX_LENGTH), strict=False))


def subject_key(subject_type: SubjectType, text: str) -> str:
    """The normal form of a subject of either type; raises ValueError as the two functions do."""
    return user_key(text) if subject_type == "user" else ip_key(text)
