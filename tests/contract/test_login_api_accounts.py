"""One exam for accounts in memory and in Postgres."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest

from login_api.accounts import Accounts, NameTakenError, PostgresAccounts
from login_api.database import Database
from login_api.errors import PartUnavailableError
from login_api.migrations import migrate
from tests.support.login_api import InMemoryAccounts
from tests.support.services import PostgresServer

_CONNECTIONS = 2


@pytest.fixture
def database(postgres_server: PostgresServer) -> str:
    url = postgres_server.new_database()
    migrate(url)
    return url


@pytest.fixture
def postgres_accounts(database: str) -> Iterator[PostgresAccounts]:
    connected = Database(database, _CONNECTIONS, timeout_ms=2_000)
    yield PostgresAccounts(connected)
    connected.close()


@pytest.fixture(params=["in-memory", pytest.param("postgres", marks=pytest.mark.service)])
def accounts(request: pytest.FixtureRequest) -> Accounts:
    if request.param == "in-memory":
        return InMemoryAccounts()
    postgres: PostgresAccounts = request.getfixturevalue("postgres_accounts")
    return postgres


def test_there_is_no_account_at_first(accounts: Accounts) -> None:
    assert accounts.password_hash("admin") is None


def test_an_account_keeps_its_hash(accounts: Accounts) -> None:
    accounts.create("alice", "$argon2id$of-alice")
    accounts.create("李小龍", "$argon2id$of-bruce")
    assert accounts.password_hash("alice") == "$argon2id$of-alice"
    assert accounts.password_hash("李小龍") == "$argon2id$of-bruce"


def test_a_name_is_taken_once_and_keeps_its_first_hash(accounts: Accounts) -> None:
    accounts.create("alice", "first")
    with pytest.raises(NameTakenError):
        accounts.create("alice", "second")
    assert accounts.password_hash("alice") == "first"


@pytest.mark.parametrize("name", ["' OR '1'='1", "alice'; DROP TABLE accounts; --", "%s", ":user"])
def test_a_name_is_data_and_never_sql(accounts: Accounts, name: str) -> None:
    accounts.create("alice", "hash")
    assert accounts.password_hash(name) is None
    accounts.create(name, "other")
    assert accounts.password_hash(name) == "other"
    assert accounts.password_hash("alice") == "hash"


def test_of_many_who_want_a_name_at_once_one_gets_it(accounts: Accounts) -> None:
    together = threading.Barrier(8)

    def register(number: int) -> bool:
        together.wait(10)
        try:
            accounts.create("alice", str(number))
        except NameTakenError:
            return False
        return True

    with ThreadPoolExecutor(8) as clients:
        assert sorted(clients.map(register, range(8))) == [False] * 7 + [True]


def test_ping_answers(accounts: Accounts) -> None:
    accounts.ping()


@pytest.mark.service
def test_migrating_again_changes_nothing(database: str) -> None:
    migrate(database)


@pytest.mark.service
def test_connections_that_died_cost_no_answer(
    database: str, postgres_accounts: PostgresAccounts
) -> None:
    postgres_accounts.create("alice", "hash")
    administrator = psycopg2.connect(database)
    try:
        with administrator.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            assert cursor.rowcount >= 1
    finally:
        administrator.close()
    assert postgres_accounts.password_hash("alice") == "hash"
    postgres_accounts.create("bob", "hash")


@pytest.mark.service
def test_a_wrong_schema_is_an_unavailable_part_and_not_a_surprise(
    postgres_server: PostgresServer,
) -> None:
    connected = Database(postgres_server.new_database(), _CONNECTIONS, timeout_ms=2_000)
    try:
        with pytest.raises(PartUnavailableError, match="postgres"):
            PostgresAccounts(connected).password_hash("alice")
    finally:
        connected.close()


@pytest.mark.service
def test_a_password_of_the_database_is_not_in_the_error(postgres_server: PostgresServer) -> None:
    url = postgres_server.url().replace(postgres_server.password, "hunter2")
    accounts = PostgresAccounts(Database(url, _CONNECTIONS, timeout_ms=2_000))
    with pytest.raises(PartUnavailableError, match="postgres") as refused:
        accounts.ping()
    assert "hunter2" not in repr(refused.value) + repr(refused.value.__cause__)


def test_a_hash_is_replaced_only_where_the_old_one_stands(accounts: Accounts) -> None:
    accounts.create("alice", "old")
    accounts.replace_hash("alice", "other", "new")
    assert accounts.password_hash("alice") == "old"
    accounts.replace_hash("alice", "old", "new")
    assert accounts.password_hash("alice") == "new"
    accounts.replace_hash("nobody", "old", "new")
    assert accounts.password_hash("nobody") is None


def test_a_deleted_account_is_gone_and_its_name_free(accounts: Accounts) -> None:
    accounts.create("alice", "hash")
    assert not accounts.delete("alice", "an older hash")
    assert accounts.password_hash("alice") == "hash"
    assert accounts.delete("alice", "hash")
    assert not accounts.delete("nobody", "hash")
    assert accounts.password_hash("alice") is None
    accounts.create("alice", "another")
