"""Accounts in Postgres: a user key and a password hash."""

from typing import Final, Protocol

from sqlalchemy import text

from login_api.database import Database

_INSERT: Final = text(
    "INSERT INTO accounts (user_key, password_hash) VALUES (:user, :hash) ON CONFLICT DO NOTHING"
)
_SELECT: Final = text("SELECT password_hash FROM accounts WHERE user_key = :user")

_UPDATE: Final = text(
    "UPDATE accounts SET password_hash = :new WHERE user_key = :user AND password_hash = :old"
)
_DELETE: Final = text(
    "DELETE FROM accounts WHERE user_key = :user AND password_hash = :password_hash"
)


class NameTakenError(Exception):
    """There is an account of that name."""


class Accounts(Protocol):
    """What the routes need; all methods raise PartUnavailableError("postgres")."""

    def create(self, user: str, password_hash: str) -> None:
        """Raises NameTakenError if there is an account of that name."""

    def password_hash(self, user: str) -> str | None:
        """The hash of an account, None if there is no such account."""

    def replace_hash(self, user: str, old: str, new: str) -> bool:
        """Puts a new hash in the place of `old`; False, and nothing, if it stands there no more."""

    def delete(self, user: str, password_hash: str) -> bool:
        """There is no such account any more; False, and nothing, if the hash is another by now."""

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

    def replace_hash(self, user: str, old: str, new: str) -> bool:
        """See Accounts."""
        with self._database.connection() as connection:
            parameters = {"user": user, "old": old, "new": new}
            return connection.execute(_UPDATE, parameters).rowcount == 1

    def delete(self, user: str, password_hash: str) -> bool:
        """See Accounts."""
        with self._database.connection() as connection:
            parameters = {"user": user, "password_hash": password_hash}
            return connection.execute(_DELETE, parameters).rowcount == 1

    def ping(self) -> None:
        """See Accounts."""
        self._database.ping()
