"""Reads what the Blocked API tells (docs/blocked-api.md). Does no I/O.

Whatever is not of the documented form is a MalformedAnswerError, which quotes nothing of it: it
could hold names. Fields that are not known are let pass.
"""

import json
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, cast, get_args

from login_blocking.subjects import SUBJECT_TYPES, SubjectType

ListStatus = Literal["complete", "refilling", "stale"]
_LIST_STATUSES: Final = frozenset(get_args(ListStatus))
_LONGEST_VERSION: Final = 512
_NO_DATE_FROM_S: Final = 253_402_300_800.0
"""The year 10000: `datetime` has no such moment."""


class MalformedAnswerError(ValueError):
    """Not what the Blocked API promises to tell."""


@dataclass(frozen=True, slots=True)
class ToldBlock:
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
    removed: list[tuple[SubjectType, str]]


def read_changes(document: str | bytes) -> Changes:
    """An answer to `/blocked/changes`, or the data of a `change` event."""
    told = _object(document)
    try:
        blocked = [_block(entry) for entry in _entries(told["added"], told["changed"])]
        removed = [_subject(entry) for entry in _entries(told["removed"])]
        full = told["full"]
        version = _version(told["version"])
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


def _object(document: str | bytes) -> dict[str, object]:
    try:
        told = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise MalformedAnswerError("not JSON") from error
    if not isinstance(told, dict):
        raise MalformedAnswerError("not a JSON object")
    return told


def _entries(*lists: object) -> Iterable[dict[str, object]]:
    for entries in lists:
        if not isinstance(entries, list):
            raise TypeError("not a list")
        for entry in entries:
            if not isinstance(entry, dict):
                raise TypeError("not an object")
            yield entry


def _block(entry: dict[str, object]) -> ToldBlock:
    subject_type, subject = _subject(entry)
    until, rule = entry["blocked_until"], entry["rule"]
    if not isinstance(rule, str):
        raise TypeError("no rule")
    # One object for each rule and not for each block.
    return ToldBlock(subject_type, subject, _ends_at_s(until), sys.intern(rule))


def _subject(entry: dict[str, object]) -> tuple[SubjectType, str]:
    subject_type, subject = entry["subject_type"], entry["subject"]
    if subject_type not in SUBJECT_TYPES or not isinstance(subject, str):
        raise TypeError("no subject")
    return subject_type, subject


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


def _version(version: object) -> str:
    """A version travels back as a header, which not every text may."""
    if not isinstance(version, str) or not version.isascii() or not version.isprintable():
        raise TypeError("no version")
    if not 0 < len(version) <= _LONGEST_VERSION:
        raise ValueError("no version")
    return version
