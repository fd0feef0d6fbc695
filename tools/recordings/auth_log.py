"""OpenSSH's log, from syslog or journalctl -o short-iso.

Only checked passwords are attempts: `Failed password` and `Accepted`. `Invalid user` and `maximum
authentication attempts exceeded` stand beside the same attempts' `Failed` lines, or where none
was made; a client may offer several keys before it asks for a password, so `Failed publickey` and
`Failed none` count against nobody.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from login_blocking.attempts import Outcome
from tools.recordings.found import (
    MONTHS,
    Found,
    Line,
    LineError,
    Note,
    Reading,
    address_or_none,
    iso_ms,
    milliseconds,
    text_lines,
    unescaped,
    user_or_none,
)

_STAMP: Final = (
    r"(?:<\d{1,3}>)?(?:(?P<month>[A-Z][a-z]{2}) (?P<day>[ \d]\d) (?P<clock>\d\d:\d\d:\d\d)"
    r"|(?P<iso>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S*))"
)
_LINE: Final = re.compile(
    _STAMP + r" +\S+ +(?:sshd(?:-session|-auth)?(?:\[\d+\])?: (?P<message>.*)|(?P<other>.*))"
)
# Whoever logs in chooses the name, so it may hold " from 1.2.3.4 port 22 ssh2": the last is true.
_FAILED: Final = re.compile(
    r"Failed (?:password|keyboard-interactive(?:/\w+)?) for (?:invalid user )?(?P<user>.*)"
    r" from (?P<ip>\S+) port \d+(?: ssh\d?)?"
)
# Such a name is nobody's, so it is never accepted; a certificate's text comes after the address.
_ACCEPTED: Final = re.compile(
    r"Accepted \S+ for (?P<user>.*?) from (?P<ip>\S+) port \d+(?: ssh\d?)?(?:: .*)?"
)
_MUST_BE_ATTEMPT: Final = re.compile(r"Failed (?:password|keyboard-interactive)|Accepted ")
_REPEATED: Final = re.compile(r"message repeated (?P<times>\d{1,9}) times: \[ ?(?P<message>.*)\]")
_LAST_REPEATED: Final = re.compile(r"last message repeated (?P<times>\d{1,9}) times?")
_MOST_TIMES: Final = 100_000
_HALF_A_YEAR_D: Final = 183
_TOLERANCE: Final = timedelta(days=1)
"""A server's clock, or its zone, may be ahead of ours."""


class _Login(NamedTuple):
    user: str | None
    ip: str | None
    outcome: Outcome
    times: int


class _Yearless(NamedTuple):
    """A classic stamp; `year` is counted from the file's first."""

    year: int
    month: int
    day: int
    clock: str

    def at(self, first_year: int, how: Reading) -> datetime:
        hour, minute, second = (int(part) for part in self.clock.split(":"))
        return datetime(
            first_year + self.year, self.month, self.day, hour, minute, min(second, 59),
            tzinfo=how.zone,
        )  # fmt: skip


class _Years:
    """Counts the New Years that a file's stamps go over."""

    def __init__(self) -> None:
        self._year = 0
        self._last: int | None = None

    def stamp(self, month: int, day: int, clock: str) -> _Yearless:
        in_year = datetime(2000, month, day).toordinal()  # noqa: DTZ001 — a leap year's calendar
        year = self._year
        if self._last is not None:
            if in_year - self._last > _HALF_A_YEAR_D:
                return _Yearless(year - 1, month, day, clock)  # a late line of the old year
            if self._last - in_year > _HALF_A_YEAR_D:
                self._year = year = year + 1
        self._last = in_year
        return _Yearless(year, month, day, clock)


def recognises(line: str) -> bool:
    """Whether a line looks like one of a syslog."""
    return _LINE.match(line) is not None


def found(lines: Iterable[Line], how: Reading) -> Iterator[Found | Note]:
    """The attempts of a log, and a note for each other line; LineError for an impossible year."""
    entries: list[tuple[int, _Yearless | int, _Login]] = []
    years, last = _Years(), None
    for number, line in text_lines(lines):
        match = _LINE.match(line)
        if match is None:
            yield Note.OTHER
            continue
        try:
            stamp = _stamp(match, years, how)
        except ValueError:
            yield Note.UNREADABLE
            continue
        last = _login(match, last)
        if isinstance(last, _Login):
            entries.append((number, stamp, last))
        else:
            yield last
    first_year = _first_year([(n, s) for n, s, _ in entries if isinstance(s, _Yearless)], how)
    for number, stamp, login in entries:
        ts = stamp if isinstance(stamp, int) else milliseconds(stamp.at(first_year, how))
        yield Found(number, ts, login.user, login.ip, login.outcome, login.times)


def _stamp(match: re.Match[str], years: _Years, how: Reading) -> _Yearless | int:
    if match["iso"]:
        return iso_ms(match["iso"], how.zone)
    if match["month"] not in MONTHS:
        raise ValueError("no month")
    stamp = years.stamp(MONTHS[match["month"]], int(match["day"]), match["clock"])
    stamp._replace(year=0).at(2000, how)  # refuses 25:61:00
    return stamp


def _login(match: re.Match[str], last: _Login | Note | None) -> _Login | Note:
    message = match["message"]
    if message is None:
        again = _LAST_REPEATED.fullmatch(match["other"])
        if again is None or not isinstance(last, _Login):
            return Note.OTHER
        return _times(last, int(again["times"]))
    repeated = _REPEATED.fullmatch(message)
    if repeated is None:
        return _one(message)
    inner = _one(repeated["message"])
    return _times(inner, int(repeated["times"])) if isinstance(inner, _Login) else inner


def _times(login: _Login, times: int) -> _Login | Note:
    return login._replace(times=times) if 1 <= times <= _MOST_TIMES else Note.UNREADABLE


def _one(message: str) -> _Login | Note:
    if (match := _FAILED.fullmatch(message)) is not None:
        outcome = Outcome.FAILURE
    elif (match := _ACCEPTED.fullmatch(message)) is not None:
        outcome = Outcome.SUCCESS
    else:
        return Note.UNREADABLE if _MUST_BE_ATTEMPT.match(message) else Note.OTHER
    user, ip = user_or_none(unescaped(match["user"])), address_or_none(match["ip"])
    return Note.UNREADABLE if user is None and ip is None else _Login(user, ip, outcome, 1)


def _first_year(stamps: list[tuple[int, _Yearless]], how: Reading) -> int:
    """The year of the file's first stamp: as told, or the latest that puts none in the future."""
    if how.year is not None:
        _check_calendar(stamps, how.year, how)
        return how.year
    latest = how.now + _TOLERANCE
    for year in range(how.now.year + 1, how.now.year - 41, -1):
        try:
            if all(stamp.at(year, how) <= latest for _, stamp in stamps):
                return year
        except ValueError:  # 29 February of another year
            continue
    raise LineError(stamps[0][0], "its stamps fit no year of the last 40; say --year")


def _check_calendar(stamps: list[tuple[int, _Yearless]], year: int, how: Reading) -> None:
    for number, stamp in stamps:
        try:
            stamp.at(year, how)
        except ValueError as error:
            raise LineError(number, f"no such day in the year {year + stamp.year}") from error
