"""Who may ask: an optional bearer token, and how often one client may ask for lists."""

import hmac
from typing import Final

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from login_blocking.client_address import ClientAddress, Headers
from login_blocking.subjects import ip_key

_SCHEME: Final = b"bearer "


class Access:
    """The token that calls must carry; without one all may ask."""

    def __init__(self, token: str | None) -> None:
        self._token = None if token is None else token.encode()

    def admits(self, authorization: bytes | None) -> bool:
        """Whether the header `Authorization` opens the door. Takes as long for any wrong token."""
        if self._token is None:
            return True
        if authorization is None or authorization[: len(_SCHEME)].lower() != _SCHEME:
            return False
        return hmac.compare_digest(authorization[len(_SCHEME) :], self._token)


class Clients:
    """Which client asks, for one process: its address, an IPv6 /64 is one."""

    def __init__(self, address_of: ClientAddress) -> None:
        self._address_of = address_of

    def name(self, peer: str, headers: Headers) -> str:
        """The same for all that one client asks."""
        try:
            return ip_key(self._address_of(peer, headers))
        except ValueError:  # a socket without an address
            return "unknown"


class SentHeaders:
    """Headers as ASGI gives them, for those who know werkzeug's."""

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        self._headers = headers

    def getlist(self, key: str, /) -> list[str]:
        """All values of a header."""
        wanted = key.lower().encode()
        return [value.decode("latin-1") for name, value in self._headers if name == wanted]


class ListRate:
    """At most `a_minute` lists for one client in one process; 0: no bound."""

    def __init__(self, a_minute: int) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._rate = RateLimitItemPerMinute(a_minute) if a_minute else None

    def admits(self, client: str) -> bool:
        """Counts a list for a client (see Clients), unless it has had its share."""
        return self._rate is None or self._limiter.hit(self._rate, client)
