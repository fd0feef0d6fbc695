"""Reads request bodies. A refusal names the field and never quotes a value."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from precis_i18n import get_profile

from login_api import passwords
from login_blocking.subjects import user_key

LONGEST_NAME = 256
"""In characters; longer than any account's, so that every guess worth counting is counted."""

_USERNAME: Final = get_profile("UsernameCaseMapped")


class MalformedError(ValueError):
    """A body that is not what the call takes; the message says which field and why."""


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """A user in normal form and a password. Has no repr: the password must not reach a log."""

    user: str
    password: str


def read_credentials(body: bytes) -> Credentials:
    """The credentials of `{"user", "pass"}`; raises MalformedError."""
    return _credentials(read_object(body, {"user", "pass"}))


def read_password_change(body: bytes) -> tuple[Credentials, str]:
    """The credentials and the new password of `{"user", "pass", "new"}`; raises MalformedError."""
    document = read_object(body, {"user", "pass", "new"})
    return _credentials(document), _password(document, "new")


def read_object(body: bytes, fields: Collection[str]) -> dict[str, Any]:
    """The JSON object of a body that may hold these fields; raises MalformedError."""
    try:
        document: Any = json.loads(
            body.decode(), object_pairs_hook=_unique_keys, parse_constant=_no_constant
        )
    except MalformedError:
        raise
    except UnicodeDecodeError:
        raise MalformedError("body: not UTF-8") from None
    except (ValueError, RecursionError):
        # No cause: a JSONDecodeError holds the body, and so the password.
        raise MalformedError("body: not JSON") from None
    told = ", ".join(sorted(fields, reverse=True))
    if not isinstance(document, dict):
        raise MalformedError(f"body: not a JSON object of {told}")
    if unknown := set(document) - set(fields):
        raise MalformedError(f"body: {len(unknown)} unknown field(s); only {told} are taken")
    return document


def _credentials(document: dict[str, Any]) -> Credentials:
    user = read_name(_text(document, "user"))
    return Credentials(user, _password(document, "pass"))


def read_name(name: str) -> str:
    """The normal form of a name that somebody sent; raises MalformedError.

    Either form has at most LONGEST_NAME characters: the first, since normalising a long one costs
    all other requests their time; the second, since it can be the longer one.
    """
    too_long = MalformedError(f"user: at most {LONGEST_NAME} characters")
    if len(name) > LONGEST_NAME:
        raise too_long
    try:
        user = user_key(name)
    except ValueError as error:
        raise MalformedError(f"user: {error}") from None
    if len(user) > LONGEST_NAME:
        raise too_long
    return user


def _password(document: dict[str, Any], field: str) -> str:
    try:
        return passwords.normalise(_text(document, field))
    except MalformedError:
        raise
    except ValueError as error:
        raise MalformedError(f"{field}: {error}") from None


def name_refusal(user: str) -> str | None:
    """Why nobody may register under this name (in normal form), None if they may.

    Letters and digits are Unicode's, of any script, without combining marks (`str.isalnum`), as
    far as RFC 8265 takes them in user names: it keeps out directions and kinds of digits that mix,
    old and decorative letters, and those whose case is compared in two ways.
    """
    if not 3 <= len(user) <= 64:  # noqa: PLR2004 — the contract's own figures
        return "user: 3 to 64 characters"
    if not all(character.isalnum() or character in "._-@" for character in user):
        return "user: only letters, digits, '.', '_', '-' and '@'"
    try:
        comparable = _USERNAME.enforce(user) == user
    except UnicodeEncodeError:
        comparable = False
    if not comparable:
        return "user: holds characters that look like others or cannot be compared"
    return None


def _text(document: dict[str, Any], field: str) -> str:
    if field not in document:
        raise MalformedError(f"{field}: missing")
    value = document[field]
    if not isinstance(value, str):
        raise MalformedError(f"{field}: not a text")
    if not value:
        raise MalformedError(f"{field}: empty")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        names = [name for name, _ in pairs]
        twice = [name for name in ("user", "pass", "new") if names.count(name) > 1]
        raise MalformedError(f"{twice[0] if twice else 'body'}: a field stands twice")
    return document


def _no_constant(_: str) -> NoReturn:
    raise MalformedError("body: not JSON")
