"""The name on Redis' certificate is checked unless the address says otherwise."""

import pytest

from login_blocking.redis_urls import with_verified_name


@pytest.mark.parametrize(
    ("url", "given"),
    [
        ("redis://u:p@h:1/0", "redis://u:p@h:1/0"),
        ("rediss://u:p@h:1/0", "rediss://u:p@h:1/0?ssl_check_hostname=true"),
        ("rediss://h?ssl_ca_certs=/ca", "rediss://h?ssl_ca_certs=/ca&ssl_check_hostname=true"),
        ("rediss://h?ssl_check_hostname=false", "rediss://h?ssl_check_hostname=false"),
        ("rediss://h?ssl_cert_reqs=none", "rediss://h?ssl_cert_reqs=none"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_address_asks_for_the_name(url: str, given: str) -> None:
    assert with_verified_name(url) == given
