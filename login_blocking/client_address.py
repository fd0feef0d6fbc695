"""Whose address a request counts for: the peer's, or the one that trusted proxies vouch for.

Pure: it neither asks the network nor logs.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import islice
from typing import Final, Literal, Protocol

ForwardedHeader = Literal["none", "x-forwarded-for", "forwarded"]

LONGEST_HEADER: Final = 8_192
"""In characters from the right; nothing further left is looked at."""

MOST_HOPS: Final = 64

Networks = tuple[IPv4Network | IPv6Network, ...]


class Headers(Protocol):
    """A request's headers, as werkzeug holds them."""

    def getlist(self, key: str, /) -> list[str]:
        """All values of a header, in the order in which they came."""


_PORT = r"(?::(?:[0-9]{1,5}|_[0-9A-Za-z._-]+))?"
_IPV4 = re.compile(rf"([0-9.]+){_PORT}")
_IPV6_IN_BRACKETS = re.compile(rf"\[([^\[\]]*:[^\[\]]*)\]{_PORT}")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class ClientAddress:
    """Reads one header, or none, and believes of it only what a trusted proxy has written.

    Each proxy appends the address that it was called from, so the header is read from the right:
    the first address that is no trusted proxy's is the client, and what stands left of it, the
    client could have made up. The client is the leftmost address if all are trusted. A hop that
    cannot be read (hidden, empty, garbage) ends the walk at the proxy that wrote it.

    A WSGI server does not tell `X_Forwarded_For` from `X-Forwarded-For`: the proxies must drop
    headers with underscores (nginx does by itself), or use `forwarded`, which has none to confuse.
    """

    trusted_proxies: Networks = ()
    header: ForwardedHeader = "none"

    def __call__(self, peer: str, headers: Headers) -> str:
        """The client's address without port and zone, for `ip_key`.

        Raises ValueError if the peer, with or without port, has no IP address: it is on a Unix
        socket, where nothing says whether it is to be trusted.
        """
        client = _address(peer)
        if client is None:
            raise ValueError("the peer has no IP address; serve on TCP")
        if self.header == "none":
            return str(client)
        for hop in islice(_hops_from_right(self.header, headers), MOST_HOPS):
            if not self._trusts(client):
                break
            address = _address(hop)
            if address is None:
                break
            client = address
        return str(client)

    def _trusts(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self.trusted_proxies)


def networks(text: str) -> Networks:
    """Networks between commas; raises ValueError for what is none, or would trust everybody."""
    return tuple(_network(entry) for part in text.split(",") if (entry := part.strip()))


def checked_header(
    proxies: Networks | None, header: ForwardedHeader, setting: str
) -> ForwardedHeader:
    """The header if it goes with the proxies; raises ValueError for one without the other.

    `proxies` is None if they were refused themselves; `setting` is their name.
    """
    if proxies and header == "none":
        raise ValueError(
            f"{setting} is set; say which header they write, x-forwarded-for or forwarded, or "
            "remove the proxies"
        )
    if proxies == () and header != "none":
        raise ValueError(
            f"nobody is trusted to write it; set {setting} to the proxies' networks, or choose none"
        )
    return header


def _network(entry: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(entry)
    except ValueError as error:
        raise ValueError(f"{error}; write networks as 10.0.0.0/8,127.0.0.1/32") from None
    if network.prefixlen == 0:
        raise ValueError(f"{entry} trusts everyone, who could then choose any address")
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ValueError(f"{entry}: write IPv4 networks as IPv4")
    return network


def _hops_from_right(header: ForwardedHeader, headers: Headers) -> Iterator[str]:
    text = ",".join(headers.getlist(header))
    if len(text) > LONGEST_HEADER:
        # The mark makes the element that is cut unreadable: of 11.2.3.4, 1.2.3.4 could be left.
        text = "?" + text[-LONGEST_HEADER:]
    for element in _parts_from_right(text, ","):
        yield element if header == "x-forwarded-for" else _forwarded_for(element)


def _forwarded_for(element: str) -> str:
    """The node that an element of Forwarded (RFC 7239) is for; empty unless it names just one."""
    pairs = [pair.partition("=") for pair in _parts_from_right(element, ";")]
    nodes = [value for name, _, value in pairs if name.lower() == "for"]
    if len(nodes) != 1:
        return ""
    quoted = _QUOTED.fullmatch(nodes[0])
    return _ESCAPED.sub(r"\1", quoted[1]) if quoted else nodes[0]


def _parts_from_right(text: str, separator: str) -> Iterator[str]:
    """The parts between separators outside quotes, last one first.

    Scanned from the right, for there the trusted proxies wrote: a quote that the client opened
    and left open must not swallow what they appended.
    """
    end, quoted = len(text), False
    for at in range(len(text) - 1, -1, -1):
        if text[at] == '"' and not (quoted and _is_escaped(text, at)):
            quoted = not quoted
        elif text[at] == separator and not quoted:
            yield text[at + 1 : end].strip(" \t")
            end = at
    yield text[:end].strip(" \t")


def _is_escaped(text: str, at: int) -> bool:
    start = at
    while start > 0 and text[start - 1] == "\\":
        start -= 1
    return (at - start) % 2 == 1


def _address(node: str) -> IPv4Address | IPv6Address | None:
    """The address of a node with or without port, brackets and zone; None if it has none."""
    bare = _IPV4.fullmatch(node) or _IPV6_IN_BRACKETS.fullmatch(node)
    try:
        address = ip_address(bare[1] if bare else node)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    # A socket for both families shows IPv4 peers as mapped ones; networks are written as IPv4.
    return address.ipv4_mapped or IPv6Address(int(address))
