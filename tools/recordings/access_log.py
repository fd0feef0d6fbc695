"""A web server's access log (common or combined), of which only POSTs to the login path count.

The user is the log's own remote user, who is known only under HTTP authentication; without one
the attempt counts for rules over addresses alone.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Final
from urllib.parse import unquote

from login_blocking.attempts import Outcome
from tools.recordings.found import (
    MONTHS,
    Found,
    Line,
    Note,
    Reading,
    address_or_none,
    milliseconds,
    text_lines,
    unescaped,
    user_or_none,
)

# Servers escape quotes in what clients send, so the first quote after a stamp is their own.
_LINE: Final = re.compile(
    r"(?P<ip>\S+) \S+ (?P<user>.*?) \[(?P<day>\d\d)/(?P<month>[A-Z][a-z]{2})/(?P<year>\d{4})"
    r":(?P<clock>\d\d:\d\d:\d\d) (?P<sign>[+-])(?P<zone>\d{4})\] "
    r'"(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}) (?:\d+|-)(?: .*)?'
)


def recognises(line: str) -> bool:
    """Whether a line looks like one of an access log."""
    return _LINE.fullmatch(line) is not None


def found(lines: Iterable[Line], how: Reading) -> Iterator[Found | Note]:
    """The attempts of a log, and a note for each other line."""
    wanted = _path(how.login_path)
    for number, line in text_lines(lines):
        match = _LINE.fullmatch(line)
        if match is None or not _is_login(match["request"], wanted):
            yield Note.OTHER
            continue
        outcome = _outcome(int(match["status"]), how)
        yield Note.OTHER if outcome is None else _found(number, match, outcome)


def _is_login(request: str, wanted: str) -> bool:
    method, _, rest = request.partition(" ")
    return method == "POST" and _path(rest.rpartition(" ")[0]) == wanted


def _outcome(status: int, how: Reading) -> Outcome | None:
    if status in how.failure_status:
        return Outcome.FAILURE
    return Outcome.SUCCESS if status in how.success_status else None


def _path(target: str) -> str:
    """A request's path without query, host, escapes and closing slash."""
    path = re.sub(r"^https?://[^/?#]*", "", target)
    return unquote(re.split(r"[?#]", path, maxsplit=1)[0]).rstrip("/") or "/"


def _found(number: int, match: re.Match[str], outcome: Outcome) -> Found | Note:
    name, ip = match["user"], address_or_none(match["ip"])
    user = None if name in ("-", '""') else user_or_none(unescaped(name))
    if user is None and ip is None:
        return Note.UNREADABLE
    try:
        return Found(number, _ts(match), user, ip, outcome)
    except (ValueError, KeyError):
        return Note.UNREADABLE


def _ts(match: re.Match[str]) -> int:
    hour, minute, second = (int(part) for part in match["clock"].split(":"))
    offset = timedelta(hours=int(match["zone"][:2]), minutes=int(match["zone"][2:]))
    zone = timezone(-offset if match["sign"] == "-" else offset)
    year, month, day = int(match["year"]), MONTHS[match["month"]], int(match["day"])
    return milliseconds(datetime(year, month, day, hour, minute, min(second, 59), tzinfo=zone))
