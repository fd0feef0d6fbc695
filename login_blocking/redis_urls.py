"""Redis' address as its clients are given it."""

from urllib.parse import parse_qs, urlsplit

_CHECK: str = "ssl_check_hostname"


def with_verified_name(url: str) -> str:
    """With `rediss://` the server's certificate must be for the host of the address.

    redis-py 5 asks only that a trusted authority has signed it, for whomever. An address that says
    `ssl_check_hostname` itself stays as it is, and so does one that wants no certificate checked at
    all: there Python allows no look at the name.
    """
    parts = urlsplit(url)
    options = parse_qs(parts.query)
    if parts.scheme != "rediss" or _CHECK in options or options.get("ssl_cert_reqs") == ["none"]:
        return url
    return f"{url}{'&' if parts.query else '?'}{_CHECK}=true"
