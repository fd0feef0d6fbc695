"""Reads what the Blocked API tells (docs/blocked-api.md). Does no I/O.

Whatever is not of the documented form is a MalformedAnswerError, which quotes nothing of it: it
could hold names. Fields that are not known are let pass.
"""

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, NamedTuple, cast, get_args

from login_blocking.subjects import SUBJECT_TYPES, Subject, SubjectType

ListStatus = Literal["complete", "refilling", "stale"]
_LIST_STATUSES: Final = frozenset(get_args(ListStatus))
_LONGEST_VERSION: Final = 512
_NO_DATE_FROM_S: Final = 253_402_300_800.0
"""The year 10000: `datetime` has no such moment."""


class MalformedAnswerError(ValueError):
    """Not what the Blocked API promises to tell."""


class ToldBlock(NamedTuple):
    """A subject that is blocked, by the rule whose block ends last; `math.inf` is for ever."""

    subject_type: SubjectType
    subject: str
    ends_at_s: float
    rule: str


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs from an earlier version, or with `full` all there is."""

    version: str
    full: bool
    blocked: list[ToldBlock]
    removed: list[Subject]


def read_changes(document: str | bytes) -> Changes:
    """An answer to `/blocked/changes`, or the data of a `change` event.

    Entries are read one by one while the document is: so other threads come to run in between,
    which a whole list would else keep waiting for a tenth of a second.
    """
    told = _object(document, _entry)
    try:
        blocked = [*_blocks(told["added"]), *_blocks(told["changed"])]
        removed = _subjects(told["removed"])
        full = told["full"]
        version = read_version(told["version"])
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedAnswerError("changes of another form") from error
    if not isinstance(full, bool) or (full and removed):
        raise MalformedAnswerError("changes of another form")
    return Changes(version, full, blocked, removed)


def read_status(document: str | bytes) -> ListStatus:
    """The data of a `status` event. Without Redis nothing new is heard: `stale`."""
    told = _object(document)
    status = list_status(told.get("status"))
    return status if told.get("redis") == "ok" else "stale"


def list_status(text: object) -> ListStatus:
    """The value of the header `Block-List-Status`."""
    if not isinstance(text, str) or text not in _LIST_STATUSES:
        raise MalformedAnswerError("no status of the list")
    return cast("ListStatus", text)


def read_version(version: object) -> str:
    """A version travels back as a header, which not every text may."""
    if not isinstance(version, str) or not version.isascii() or not version.isprintable():
        raise MalformedAnswerError("no version")
    if not 0 < len(version) <= _LONGEST_VERSION:
        raise MalformedAnswerError("no version")
    return version


def _object(
    document: str | bytes, entry: Callable[[dict[str, object]], object] | None = None
) -> dict[str, object]:
    try:
        told = json.loads(document, object_hook=entry)
    except (ValueError, RecursionError) as error:
        raise MalformedAnswerError("not JSON") from error
    except TypeError as error:
        raise MalformedAnswerError("an entry of another form") from error
    if not isinstance(told, dict):
        raise MalformedAnswerError("not a JSON object")
    return told


def _entry(fields: dict[str, object]) -> object:
    """An entry of a list, as what it tells; anything else as it is."""
    if "subject" not in fields or "subject_type" not in fields:
        return fields
    subject_type, subject = fields["subject_type"], fields["subject"]
    if subject_type not in SUBJECT_TYPES or not isinstance(subject, str):
        raise TypeError("no subject")
    if "blocked_until" not in fields:
        return Subject(subject_type, subject)
    until, rule = fields["blocked_until"], fields.get("rule")
    if not isinstance(rule, str):
        raise TypeError("no rule")
    # One object for each rule and not for each block.
    return ToldBlock(subject_type, subject, _ends_at_s(until), sys.intern(rule))


def _blocks(entries: object) -> list[ToldBlock]:
    if not isinstance(entries, list) or not all(isinstance(it, ToldBlock) for it in entries):
        raise TypeError("not a list of blocks")
    return entries


def _subjects(entries: object) -> list[Subject]:
    if not isinstance(entries, list) or not all(
        isinstance(it, Subject | ToldBlock) for it in entries
    ):
        raise TypeError("not a list of subjects")
    return [Subject(it[0], it[1]) for it in entries]


def _ends_at_s(until: object) -> float:
    if until is None:
        return math.inf
    if not isinstance(until, str):
        raise TypeError("no moment")
    moment = datetime.fromisoformat(until)
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone")
    ends_at_s = moment.timestamp()
    return ends_at_s if ends_at_s < _NO_DATE_FROM_S else math.inf
