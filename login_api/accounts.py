"""Accounts in Postgres: a user key and a password hash."""

from typing import Final, Protocol

from sqlalchemy import text

from login_api.database import Database

_INSERT: Final = text(
    "INSERT INTO accounts (user_key, password_hash) VALUES (:user, :hash) ON CONFLICT DO NOTHING"
)
_SELECT: Final = text("SELECT password_hash FROM accounts WHERE user_key = :user")


class NameTakenError(Exception):
    """There is an account of that name."""


class Accounts(Protocol):
    """What the routes need; all methods raise PartUnavailableError("postgres")."""

    def create(self, user: str, password_hash: str) -> None:
        """Raises NameTakenError if there is an account of that name."""

    def password_hash(self, user: str) -> str | None:
        """The hash of an account, None if there is no such account."""

    def ping(self) -> None:
        """Returns if accounts can be read."""


class PostgresAccounts:
    """Accounts in a table that `login_api.migrations` keeps."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, user: str, password_hash: str) -> None:
        """See Accounts."""
        with self._database.connection() as connection:
            inserted = connection.execute(_INSERT, {"user": user, "hash": password_hash})
            if inserted.rowcount == 0:
                raise NameTakenError

    def password_hash(self, user: str) -> str | None:
        """See Accounts."""
        with self._database.connection() as connection:
            found: str | None = connection.execute(_SELECT, {"user": user}).scalar()
            return found

    def ping(self) -> None:
        """See Accounts."""
        self._database.ping()
