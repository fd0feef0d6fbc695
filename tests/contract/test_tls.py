"""Redis and Postgres by TLS: the parts work that way, and only with the right certificate."""

import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from blocked_api.block_feed import RedisFeed, RedisQuestions
from flink_jobs.heartbeat import HeartbeatError, RedisHeartbeat
from flink_jobs.redis_writer import BlockWriteError, RedisBlockWriter
from login_api.database import Database
from login_api.errors import PartUnavailableError
from login_api.guard import RedisGuard, Request
from login_api.migrations import migrate
from login_blocking.policy_file import parse_policy
from login_blocking.subjects import Subject
from tests.support.block_entries import block
from tests.support.detector import HOUR_MS, now_ms
from tests.support.secured_kafka import make_certificates
from tests.support.services import REPOSITORY, PostgresServer, RedisServer
from tests.support.tls_proxy import tls_before

pytestmark = pytest.mark.service

POLICY = parse_policy((REPOSITORY / "policies" / "default.yaml").read_text())


class Tls(NamedTuple):
    port: int
    ca_file: Path
    other_ca_file: Path

    def at(self, url: str, query: str, host: str = "127.0.0.1") -> str:
        """The address of a server, but by TLS; `query` has {ca} where the authority's file goes."""
        url = re.sub(r"@127\.0\.0\.1:\d+", f"@{host}:{self.port}", url)
        return f"{url.replace('redis://', 'rediss://')}?{query.format(ca=self.ca_file)}"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """An authority, a key with a certificate for 127.0.0.1 by it, and another authority."""
    ca_file, keys = make_certificates(tmp_path_factory.mktemp("tls"), "IP:127.0.0.1")
    other, _ = make_certificates(tmp_path_factory.mktemp("other"), "IP:127.0.0.1")
    return ca_file, keys, other


@pytest.fixture
def redis_tls(redis_server: RedisServer, keys: tuple[Path, Path, Path]) -> Iterator[Tls]:
    with tls_before(redis_server.port, keys[1]) as port:
        yield Tls(port, keys[0], keys[2])


@pytest.fixture
def postgres_tls(postgres_server: PostgresServer, keys: tuple[Path, Path, Path]) -> Iterator[Tls]:
    with tls_before(postgres_server.port, keys[1], postgres=True) as port:
        yield Tls(port, keys[0], keys[2])


def a_request() -> Request:
    return Request(str(uuid.uuid4()), f"user-{uuid.uuid4().hex[:8]}", "198.51.100.7", "there")


def ask_guard(url: str) -> None:
    guard = RedisGuard(url, 2_000, lambda: POLICY)
    try:
        assert guard.admit(a_request()).refused is None
    finally:
        guard.close()


def script(name: str) -> str:
    return (REPOSITORY / "redis" / name).read_text()


def write_block(url: str) -> None:
    writer = RedisBlockWriter(
        url, (REPOSITORY / "redis" / "apply_block.lua").read_text(), timeout_s=2
    )
    try:
        subject = Subject("user", f"user-{uuid.uuid4().hex[:8]}")
        assert writer.apply(subject, {"rule": block(now_ms(), now_ms() + HOUR_MS)})
    finally:
        writer.close()


def beat(url: str) -> None:
    heartbeat = RedisHeartbeat(
        url, (REPOSITORY / "redis" / "heartbeat.lua").read_text(), timeout_s=2
    )
    try:
        heartbeat.beat(40)
    finally:
        heartbeat.close()


def read_state(url: str) -> None:
    feed, questions = RedisFeed(url, 2_000), RedisQuestions(url, 2_000)
    try:
        feed.state()
        questions.state()
    finally:
        feed.close()
        questions.close()


PARTS = [
    pytest.param("login_api", ask_guard, PartUnavailableError, id="guard"),
    pytest.param("detector", write_block, BlockWriteError, id="block writer"),
    pytest.param("detector", beat, HeartbeatError, id="heartbeat"),
    pytest.param("blocked_api", read_state, RedisError, id="blocked api"),
]


@pytest.mark.parametrize(("user", "use", "_error"), PARTS)
def test_parts_reach_redis_by_tls(
    redis_server: RedisServer, redis_tls: Tls, user: str, use: Callable[[str], None], _error: object
) -> None:
    use(redis_tls.at(redis_server.url(user), "ssl_ca_certs={ca}"))


@pytest.mark.parametrize(("user", "use", "error"), PARTS)
def test_no_part_accepts_a_certificate_for_another_host(
    redis_server: RedisServer,
    redis_tls: Tls,
    user: str,
    use: Callable[[str], None],
    error: type[Exception],
) -> None:
    with pytest.raises(error):
        use(redis_tls.at(redis_server.url(user), "ssl_ca_certs={ca}", host="localhost"))
    use(
        redis_tls.at(
            redis_server.url(user), "ssl_ca_certs={ca}&ssl_check_hostname=false", host="localhost"
        )
    )


@pytest.mark.parametrize(("user", "use", "error"), PARTS)
def test_no_part_accepts_another_authoritys_certificate(
    redis_server: RedisServer,
    redis_tls: Tls,
    user: str,
    use: Callable[[str], None],
    error: type[Exception],
) -> None:
    other = redis_tls._replace(ca_file=redis_tls.other_ca_file)

    with pytest.raises(error):
        use(other.at(redis_server.url(user), "ssl_ca_certs={ca}"))


def read_postgres(url: str) -> None:
    migrate(url)
    database = Database(url, 2, timeout_ms=5_000)
    try:
        with database.connection() as connection:
            # Longer than a TLS record, and than what a socket takes at once.
            assert (
                len(connection.execute(text("SELECT repeat('x', 1000000)")).scalar_one()) == 10**6
            )
    finally:
        database.close()


VERIFIED = "sslmode=verify-full&sslrootcert={ca}"


def test_accounts_are_reached_by_tls(postgres_server: PostgresServer, postgres_tls: Tls) -> None:
    read_postgres(postgres_tls.at(postgres_server.new_database(), VERIFIED))


@pytest.mark.parametrize(("host", "other_authority"), [("localhost", False), ("127.0.0.1", True)])
def test_another_certificate_for_accounts_is_not_accepted(
    postgres_server: PostgresServer, postgres_tls: Tls, host: str, *, other_authority: bool
) -> None:
    if other_authority:
        postgres_tls = postgres_tls._replace(ca_file=postgres_tls.other_ca_file)
    url = postgres_tls.at(postgres_server.new_database(), VERIFIED, host=host)

    with pytest.raises(OperationalError, match="certificate"):
        read_postgres(url)
    database = Database(url, 2, timeout_ms=2_000)
    with pytest.raises(PartUnavailableError), database.connection():
        pass
    database.close()
