"""Whose address counts: what a client writes into a header never decides it."""

import ipaddress
import time
from dataclasses import dataclass
from ipaddress import ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.datastructures import Headers

from login_blocking.client_address import (
    LONGEST_HEADER,
    MOST_HOPS,
    ClientAddress,
    ForwardedHeader,
)
from login_blocking.subjects import ip_key
from tests.support.login_api import LoginApi, credentials

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"), ip_network("fe80::/10"))
PROXY = "10.0.0.1"
CLIENT = "203.0.113.9"
FORGED = "198.51.100.6"

X_FORWARDED_FOR = ClientAddress(TRUSTED, "x-forwarded-for")
FORWARDED = ClientAddress(TRUSTED, "forwarded")


def _x_forwarded_for(*lines: str, peer: str = PROXY) -> str:
    return X_FORWARDED_FOR(peer, Headers([("X-Forwarded-For", line) for line in lines]))


def _forwarded(*lines: str, peer: str = PROXY) -> str:
    return FORWARDED(peer, Headers([("Forwarded", line) for line in lines]))


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        ([], PROXY),
        ([CLIENT], CLIENT),
        ([f"{FORGED}, {CLIENT}"], CLIENT),
        ([f"{FORGED}, {CLIENT}, 10.9.9.9, fd00::2"], CLIENT),
        ([f"10.1.1.1, {CLIENT}"], CLIENT),
        ([f"10.1.1.1,{CLIENT}\t,10.2.2.2"], CLIENT),
        (["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
        ([FORGED, CLIENT], CLIENT),
        ([FORGED, f"{CLIENT}, 10.2.2.2", "10.3.3.3"], CLIENT),
    ],
)
def test_the_client_is_the_first_from_the_right_that_is_no_trusted_proxy(
    lines: list[str], client: str
) -> None:
    assert _x_forwarded_for(*lines) == client


@pytest.mark.parametrize("peer", [CLIENT, "2001:db8::1", "::ffff:203.0.113.9"])
def test_a_peer_that_is_no_trusted_proxy_is_the_client_whatever_it_says(peer: str) -> None:
    client = _x_forwarded_for(peer=peer)
    assert _x_forwarded_for(FORGED, "10.0.0.1", peer=peer) == client
    assert _forwarded(f"for={FORGED}", "for=10.0.0.1", peer=peer) == client
    assert client in (CLIENT, "2001:db8::1")


@pytest.mark.parametrize(
    ("node", "address"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("1.2.3.4:80", "1.2.3.4"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:db8::1]:_hidden", "2001:db8::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("2001:db8::1%eth0", "2001:db8::1"),
        ("[2001:db8::1%25eth0]:80", "2001:db8::1"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("[::ffff:1.2.3.4]:80", "1.2.3.4"),
    ],
)
def test_port_brackets_zone_and_mapping_are_taken_off(node: str, address: str) -> None:
    assert _x_forwarded_for(node) == address
    assert _forwarded(f'for="{node}"') == address
    assert ClientAddress()(node, Headers()) == address


UNREADABLE = [
    "",
    " ",
    "unknown",
    "_hidden",
    "localhost",
    "1.2.3",
    "1.2.3.4.5",
    "01.2.3.4",
    "256.1.1.1",
    "1.2.3.4/32",
    "1.2.3.4:",
    "1.2.3.4:800000",
    "1.2.3.4 5.6.7.8",
    "[1.2.3.4]",
    "[2001:db8::1",
    "2001:db8::1]",
    "[2001:db8::1]443",
    "16909060",
    "0x01020304",
    "१.२.३.४",
    "<script>",
    "'1.2.3.4'",
    '"1.2.3.4',
]


@pytest.mark.parametrize("node", UNREADABLE)
def test_an_unreadable_hop_ends_the_walk_at_the_proxy_that_wrote_it(node: str) -> None:
    assert _x_forwarded_for(f"{FORGED}, {node}") == PROXY
    assert _x_forwarded_for(f"{FORGED}, {node}, 10.2.2.2, 10.3.3.3") == "10.2.2.2"
    assert _forwarded(f"for={FORGED}, for={node}, for=10.2.2.2") == "10.2.2.2"


@pytest.mark.parametrize("header", [",", ",,", f"{FORGED},", f"{FORGED}, ,", f"{FORGED},,"])
def test_an_empty_element_is_an_unreadable_hop(header: str) -> None:
    assert _x_forwarded_for(header) == PROXY
    assert _forwarded(header.replace(FORGED, f"for={FORGED}")) == PROXY


@pytest.mark.parametrize(
    ("element", "client"),
    [
        (f"for={CLIENT}", CLIENT),
        (f"FoR={CLIENT}", CLIENT),
        (f'for="{CLIENT}:4711"', CLIENT),
        (f"for={CLIENT}:4711", CLIENT),
        ('for="[2001:db8::1]"', "2001:db8::1"),
        ('for="[2001:db8::1]:4711"', "2001:db8::1"),
        (r'for="\[2001\:db8::1\]"', "2001:db8::1"),
        (f"by=10.0.0.1;for={CLIENT};proto=https;host=a.example", CLIENT),
        (f"by=10.0.0.1; for={CLIENT} ; proto=https;", CLIENT),
        (f'for={CLIENT};host="a, for={FORGED}"', CLIENT),
        (f'for={CLIENT};host="a;for={FORGED};"', CLIENT),
        (f'for={CLIENT};host="a\\", for={FORGED}, \\""', CLIENT),
        (f'host="\\\\";for={CLIENT};by="\\\\\\""', CLIENT),
        ("for=unknown", PROXY),
        ('for="_gazonk"', PROXY),
        ('for=""', PROXY),
        ("for=", PROXY),
        ("for", PROXY),
        ("proto=https", PROXY),
        (CLIENT, PROXY),
        (f"for={CLIENT};for={FORGED}", PROXY),
        (f'for="{CLIENT}', PROXY),
        (f'for="{CLIENT}"x', PROXY),
        (f'for="{CLIENT}\\"', PROXY),
        (f"xfor={CLIENT}", PROXY),
        (f"for ={CLIENT}", PROXY),
    ],
)
def test_an_element_of_forwarded_is_for_one_node_or_unreadable(element: str, client: str) -> None:
    assert _forwarded(element) == client
    assert _forwarded(f"for={FORGED}, {element}") == client


@pytest.mark.parametrize(
    "junk", ['for="', 'for="\\', '"', f'for={FORGED};by="', 'for="a, b', "\\", "for=;;,=", '\\"']
)
def test_a_quote_left_open_by_the_client_does_not_swallow_what_proxies_append(junk: str) -> None:
    for appended in (f"for={CLIENT}", f'for="{CLIENT}"', f'for={CLIENT};by="_a, b"'):
        assert _forwarded(f"{junk}, {appended}") == CLIENT
        assert _forwarded(junk, appended, 'for="10.2.2.2";by="\\""') == CLIENT


def test_only_the_header_that_is_set_is_read() -> None:
    both = Headers([("X-Forwarded-For", "1.1.1.1"), ("Forwarded", "for=2.2.2.2")])
    assert X_FORWARDED_FOR(PROXY, both) == "1.1.1.1"
    assert FORWARDED(PROXY, both) == "2.2.2.2"
    assert ClientAddress(TRUSTED, "none")(PROXY, both) == PROXY
    assert ClientAddress()(PROXY, both) == PROXY


@pytest.mark.parametrize("peer", ["10.0.0.1", "10.0.0.1:5123", "::ffff:10.0.0.1", "[fd00::1]:80"])
def test_a_trusted_peer_is_known_with_and_without_port(peer: str) -> None:
    assert _x_forwarded_for(CLIENT, peer=peer) == CLIENT


def test_a_trusted_peer_is_known_whatever_its_zone() -> None:
    assert _x_forwarded_for(CLIENT, peer="fe80::1%eth0") == CLIENT


@pytest.mark.parametrize("peer", ["", " ", "/run/login.sock", "unix:", "@", "localhost"])
def test_a_peer_on_a_unix_socket_is_refused_not_trusted(peer: str) -> None:
    with pytest.raises(ValueError, match="no IP address"):
        _x_forwarded_for(CLIENT, peer=peer)


def test_hops_are_counted_up_to_the_most_that_are_walked() -> None:
    proxies = ", ".join(f"10.0.1.{number}" for number in range(MOST_HOPS - 1))
    assert _x_forwarded_for(f"{CLIENT}, {proxies}") == CLIENT
    assert _x_forwarded_for(f"{CLIENT}, 10.0.2.1, {proxies}") == "10.0.2.1"


def test_a_header_is_read_up_to_its_longest_and_never_from_the_middle_of_an_address() -> None:
    junk = "x" * 100_000
    assert _x_forwarded_for(f"{junk}, {CLIENT}") == CLIENT
    assert _forwarded(f"{junk}, for={CLIENT}") == CLIENT
    cut = f"1{FORGED}" + " " * (LONGEST_HEADER - len(FORGED))
    assert _x_forwarded_for(cut) == PROXY
    whole = FORGED + " " * (LONGEST_HEADER - len(FORGED))
    assert _x_forwarded_for(whole) == FORGED


@pytest.mark.parametrize("filler", ['"', "\\", '\\"', ",", ";", "for=", "for=10.0.0.1,", "["])
def test_no_header_is_slow_to_read(filler: str) -> None:
    header = filler * (1_000_000 // len(filler))
    began = time.process_time()
    _x_forwarded_for(header)
    _forwarded(header)
    assert time.process_time() - began < 1


_V4 = st.ip_addresses(v=4).filter(lambda address: address not in TRUSTED[0])
_V6 = st.ip_addresses(network="2001:db8::/32")
_PROXIES = st.lists(
    st.ip_addresses(network="10.0.0.0/8") | st.ip_addresses(network="fd00::/8"),
    min_size=1,
    max_size=5,
)
_JUNK = st.lists(
    st.lists(
        st.text(st.characters(min_codepoint=32, max_codepoint=255))
        | st.sampled_from(
            [*'",;=\\', "for=", f"for={FORGED}", FORGED, ", ", '="', "10.0.0.1", "unknown"]
        )
    ).map("".join),
    max_size=3,
)
_QUOTED_TEXT = st.text(st.sampled_from(f'ab,;= "\\{FORGED}')).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)


@dataclass(frozen=True)
class _Appending:
    """How one proxy writes: with a port or not, on a line of its own or not, with what beside."""

    port: bool
    own_line: bool
    beside: str
    before: bool

    def append(self, header: ForwardedHeader, lines: list[str], caller: str) -> list[str]:
        node = f"[{caller}]" if ":" in caller else caller
        node += ":4711" if self.port else ""
        if header == "forwarded":
            node = f'for="{node}"'
            extra = f"by={self.beside}"
            node = f"{extra};{node}" if self.before else f"{node};{extra}"
        if self.own_line or not lines:
            return [*lines, node]
        return [*lines[:-1], f"{lines[-1]}, {node}"]


_WAYS = st.builds(_Appending, st.booleans(), st.booleans(), _QUOTED_TEXT, st.booleans())


@given(
    header=st.sampled_from(["x-forwarded-for", "forwarded"]),
    client=_V4 | _V6,
    proxies=_PROXIES,
    junk=_JUNK,
    ways=st.lists(_WAYS, min_size=5, max_size=5),
)
@example(
    header="forwarded",
    client=ipaddress.ip_address(CLIENT),
    proxies=[ipaddress.ip_address(PROXY)],
    junk=['for="' * LONGEST_HEADER],
    ways=[_Appending(port=True, own_line=False, beside='"\\\\"', before=False)] * 5,
)
def test_behind_trusted_proxies_the_client_is_the_client_whatever_it_sent(
    header: ForwardedHeader,
    client: ipaddress.IPv4Address | ipaddress.IPv6Address,
    proxies: list[ipaddress.IPv4Address | ipaddress.IPv6Address],
    junk: list[str],
    ways: list[_Appending],
) -> None:
    lines, caller = junk, str(client)
    for proxy, way in zip(proxies, ways, strict=False):
        lines, caller = way.append(header, lines, caller), str(proxy)
    name = "X-Forwarded-For" if header == "x-forwarded-for" else "Forwarded"
    headers = Headers([(name, line) for line in lines])
    assert ClientAddress(TRUSTED, header)(caller, headers) == str(client)


@given(st.sampled_from([X_FORWARDED_FOR, FORWARDED]), _JUNK)
def test_whatever_a_trusted_peer_sends_the_answer_is_an_address(
    read: ClientAddress, junk: list[str]
) -> None:
    headers = Headers([(name, line) for line in junk for name in ("X-Forwarded-For", "Forwarded")])
    assert ip_key(read(PROXY, headers))


def test_a_login_counts_for_the_address_that_the_proxy_vouches_for() -> None:
    api = LoginApi(client_address=X_FORWARDED_FOR)
    api.client().post(
        "/login",
        json=credentials("alice", "wrong"),
        headers={"X-Forwarded-For": f"{FORGED}, 2001:db8:1:2::9"},
        environ_base={"REMOTE_ADDR": "10.0.0.1:5123"},
    )
    assert [attempt.ip for attempt in api.published()] == ["2001:db8:1:2::/64"]
