"""Commands of people (or of the Login API) about blocks: the value of topic `block-commands`."""

import json
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from login_blocking.subjects import SUBJECT_TYPES, Subject, subject_key

VERSION: Final = 1
_LONGEST_TEXT: Final = 500
_LATEST_MS: Final = 2**53


class Action(StrEnum):
    """What a command asks for."""

    BLOCK = "block"
    UNBLOCK = "unblock"


class MalformedCommandError(ValueError):
    """A record that is not a command; the message says why and never quotes the record."""


@dataclass(frozen=True, slots=True)
class Command:
    """Block or unblock one subject, from `ts` on (ms since the epoch).

    `until` ends a block, None is for ever; an unblock has none. `reset_levels` lets the next
    block of each rule be the first again. `by` and `reason` go into the audit trail.
    """

    id: str
    ts: int
    action: Action
    subject: Subject
    by: str
    reason: str
    until: int | None = None
    reset_levels: bool = False

    def encode(self) -> bytes:
        """The record's value: compact JSON in UTF-8."""
        document = {
            "v": VERSION,
            "id": self.id,
            "ts": self.ts,
            "action": self.action.value,
            "subject_type": self.subject.type,
            "subject": self.subject.key,
            "by": self.by,
            "reason": self.reason,
            "until": self.until,
            "reset_levels": self.reset_levels,
        }
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()

    def key(self) -> bytes:
        """The record's key: one subject's commands share a partition, so they keep their order."""
        return self.subject.key.encode()


def decode(value: bytes | str) -> Command:
    """The command that a record's value holds; raises MalformedCommandError."""
    try:
        document: Any = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise MalformedCommandError("not JSON") from error
    if not isinstance(document, dict):
        raise MalformedCommandError("not a JSON object")
    if document.get("v") is not VERSION:
        raise MalformedCommandError("v: not a known version")
    ts, until = _time(document, "ts"), None
    if document.get("until") is not None:
        until = _time(document, "until")
    try:
        action = Action(_text(document, "action"))
    except ValueError as error:
        raise MalformedCommandError("action: block or unblock") from error
    if until is not None and (action is Action.UNBLOCK or until <= ts):
        raise MalformedCommandError("until: of a block, and later than ts")
    reset_levels = document.get("reset_levels", False)
    if not isinstance(reset_levels, bool):
        raise MalformedCommandError("reset_levels: true or false")
    return Command(
        id=_text(document, "id"),
        ts=ts,
        action=action,
        subject=_subject(document),
        by=_words(document, "by"),
        reason=_words(document, "reason"),
        until=until,
        reset_levels=reset_levels,
    )


def _subject(document: dict[str, Any]) -> Subject:
    text = _text(document, "subject")
    for subject_type in SUBJECT_TYPES:
        if document.get("subject_type") == subject_type:
            try:
                key = subject_key(subject_type, text)
            except ValueError as error:
                # What user_key says quotes nothing; ipaddress quotes what it was given.
                why = str(error) if subject_type == "user" else "not an IPv4 or IPv6 address"
                raise MalformedCommandError(f"subject: {why}") from error
            # The normal form can be the longer one; the command must still be one when it is read.
            if len(key) > _LONGEST_TEXT:
                raise MalformedCommandError(f"subject: longer than {_LONGEST_TEXT} characters")
            return Subject(subject_type, key)
    raise MalformedCommandError("subject_type: user or ip")


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_TEXT:
        raise MalformedCommandError(f"{name}: not a text of 1 to {_LONGEST_TEXT} characters")
    return value


def _words(document: dict[str, Any], name: str) -> str:
    value = _text(document, name)
    # UTF-8 carries no lone surrogate, and a control character could forge a line of the audit log.
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise MalformedCommandError(f"{name}: may not hold control characters or lone surrogates")
    return value


def _time(document: dict[str, Any], name: str) -> int:
    value = document.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _LATEST_MS:
        raise MalformedCommandError(f"{name}: not a whole number of milliseconds")
    return value
