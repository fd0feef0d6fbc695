"""What the readers find in lines, and the spelling of users, addresses and times."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

from login_blocking.attempts import Outcome
from login_blocking.moments import LATEST_MS
from login_blocking.subjects import ip_key, user_key

MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}
_ESCAPED: Final = re.compile(r"((?:\\[0-7]{3}|\\x[0-9A-Fa-f]{2})+)|\\([\\\"])")


class RecordingError(ValueError):
    """A recording that cannot be used; the message tells the file, the line and the reason."""


class LineError(ValueError):
    """A line that must be an attempt and is none."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


class Note(Enum):
    """What a line of a log is that is no attempt."""

    OTHER = "other"
    UNREADABLE = "unreadable"
    """It begins as an attempt does, and goes on as none."""


class Found(NamedTuple):
    """An attempt that a line tells of, `times` times."""

    line: int
    ts: int
    user: str | None
    ip: str | None
    outcome: Outcome
    times: int = 1
    id: str | None = None


Line = tuple[int, bytes]
"""A line's number, counted from 1, and its bytes."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file is read, where the file itself leaves it open.

    `year` is that of the first stamp without one, None takes the latest that puts no stamp after
    `now`; `zone` is that of stamps without one. `columns` maps ts, user, ip and success to a CSV
    file's names for them.
    """

    year: int | None = None
    zone: tzinfo = UTC
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    login_path: str = "/login"
    failure_status: frozenset[int] = frozenset({401, 403})
    success_status: frozenset[int] = frozenset({200, 204, 302})
    columns: Mapping[str, str] = field(default_factory=dict)


@lru_cache(maxsize=65_536)
def user_or_none(name: str) -> str | None:
    """The user's key; None for what nobody can be called: blank, or with control characters."""
    try:
        return user_key(name)
    except ValueError:
        return None


@lru_cache(maxsize=65_536)
def address(text: str) -> str:
    """The address's key; ValueError if it is none."""
    return ip_key(text)


def address_or_none(text: str) -> str | None:
    """The address's key; None for a host name, say."""
    try:
        return address(text)
    except ValueError:
        return None


def unescaped(text: str) -> str:
    r"""Text as it was before a server escaped it for its log: `\303\251`, `\xC3`, `\\`, `\"`."""
    return text if "\\" not in text else _ESCAPED.sub(_unescape, text)


def milliseconds(moment: datetime) -> int:
    """The epoch ms of a moment with a zone; exact, as float seconds would not be."""
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000 + since.microseconds // 1_000


def checked_ts(ts: int) -> int:
    """Epoch ms that a calendar can show; ValueError for others."""
    if not 0 <= ts <= LATEST_MS:
        raise ValueError(f"{ts} is no time in ms between the years 1970 and 9999")
    return ts


def iso_ms(text: str, zone: tzinfo) -> int:
    """Epoch ms of an ISO 8601 stamp, in `zone` if it names none; ValueError if it is none."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    return checked_ts(milliseconds(moment))


def text_lines(lines: Iterable[Line]) -> Iterable[tuple[int, str]]:
    """Lines of a log as text; bytes that are no UTF-8 stay apart, as escapes."""
    for number, line in lines:
        yield number, line.decode("utf-8", "backslashreplace").rstrip("\r\n")


def _unescape(match: re.Match[str]) -> str:
    if match[2]:
        return match[2]
    codes = re.findall(r"\\(?:x([0-9A-Fa-f]{2})|([0-7]{3}))", match[1])
    values = [
        int(hexadecimal, 16) if hexadecimal else int(octal, 8) for hexadecimal, octal in codes
    ]
    return bytes(value & 0xFF for value in values).decode("utf-8", "backslashreplace")
