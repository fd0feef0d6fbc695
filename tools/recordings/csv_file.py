"""CSV with a line of column names; the columns are found by usual names, or told."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from datetime import tzinfo
from decimal import Decimal, InvalidOperation
from typing import Final

from login_blocking.attempts import Outcome
from tools.recordings.found import (
    Found,
    Line,
    LineError,
    Reading,
    address,
    checked_ts,
    iso_ms,
    user_or_none,
)

USUAL: Final[dict[str, tuple[str, ...]]] = {
    "ts": (
        "ts", "timestamp", "@timestamp", "time", "datetime", "date_time", "date", "event_time",
        "login_timestamp", "login_time", "created_at", "epoch",
    ),
    "user": (
        "user", "username", "user_name", "login", "login_name", "account", "user_id", "userid",
        "email", "name",
    ),
    "ip": (
        "ip", "ip_address", "ipaddress", "addr", "address", "source_ip", "src_ip", "client_ip",
        "remote_ip", "remote_addr", "remote_address", "source_address", "client", "src",
    ),
    "success": (
        "success", "successful", "login_successful", "login_success", "is_success", "succeeded",
        "ok", "outcome", "result", "status",
    ),
}  # fmt: skip
"""Names of columns, the likeliest first, after lower-casing and with `_` for blanks and `-`."""

_OUTCOMES: Final = {
    **dict.fromkeys(
        ("true", "t", "1", "yes", "y", "success", "successful", "succeeded", "ok", "accepted"),
        Outcome.SUCCESS,
    ),
    **dict.fromkeys(
        ("false", "f", "0", "no", "n", "failure", "failed", "fail", "rejected", "denied"),
        Outcome.FAILURE,
    ),
    "blocked": Outcome.BLOCKED,
    "limited": Outcome.LIMITED,
}
_NOTHING: Final = ("", "-", "null", "none", "nan", r"\n")
_DELIMITERS: Final = ",;\t|"
_FIRST_MS: Final = 10**11
"""Numbers from here on are ms: as seconds they would be after the year 5000."""
_FIRST_S: Final = 10**8
"""Smaller numbers are no times (19991231, say, is a day without dashes)."""


def recognises(line: str) -> bool:
    """Whether a line looks like one of column names."""
    try:
        header = _header(line)
    except csv.Error:
        return False
    return len(header) > 1 and _usual(header, "ts") is not None


def found(lines: Iterable[Line], how: Reading) -> Iterator[Found]:
    """The attempt of every row; LineError for a row that holds none."""
    rest = iter(lines)
    number, first = next(((n, line) for n, line in rest if line.strip()), (1, b""))
    header_text = _text(number, first)
    try:
        header = _header(header_text)
    except csv.Error as error:
        raise LineError(number, f"no column names ({error})") from error
    columns = _columns(number, header, how.columns)
    rows = csv.reader(
        (_text(n, line) for n, line in rest), delimiter=_delimiter(header_text), strict=True
    )
    while True:
        line = number + rows.line_num + 1
        try:
            row = next(rows, None)
            if row is None:
                return
            if row:
                yield _found(line, header, row, columns, how.zone)
        except LineError:
            raise
        except (csv.Error, ValueError) as error:
            raise LineError(line, f"no attempt ({error})") from error


def _text(number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise LineError(number, "not UTF-8") from error


def _delimiter(header: str) -> str:
    return max(_DELIMITERS, key=header.count)


def _header(line: str) -> list[str]:
    return [
        name.strip() for name in next(csv.reader([line.strip()], delimiter=_delimiter(line)), [])
    ]


def _usual(header: list[str], what: str) -> int | None:
    plain = [name.lower().replace(" ", "_").replace("-", "_") for name in header]
    return next((plain.index(name) for name in USUAL[what] if name in plain), None)


def _columns(number: int, header: list[str], told: Mapping[str, str]) -> dict[str, int]:
    columns = {}
    for what in USUAL:
        name = told.get(what)
        if name is not None and name not in header:
            raise LineError(number, f"no column {name!r}; there are {', '.join(map(repr, header))}")
        place = _usual(header, what) if name is None else header.index(name)
        if place is not None:
            columns[what] = place
    missing = [what for what in ("ts", "success") if what not in columns]
    if "user" not in columns and "ip" not in columns:
        missing.append("user or ip")
    if missing:
        raise LineError(
            number,
            f"no column for {', '.join(missing)} among {', '.join(map(repr, header))};"
            " say --columns ts=…,user=…,ip=…,success=…",
        )
    return columns


def _found(
    number: int, header: list[str], row: list[str], columns: Mapping[str, int], zone: tzinfo
) -> Found:
    if len(row) != len(header):
        raise ValueError(f"{len(row)} fields, {len(header)} columns")
    fields = {what: row[place].strip() for what, place in columns.items()}
    name, ip = fields.get("user", ""), fields.get("ip", "")
    user = None if name.lower() in _NOTHING else user_or_none(name)
    key = None if ip.lower() in _NOTHING else address(ip)
    if user is None and key is None:
        raise ValueError("neither a user nor an address")
    outcome = _OUTCOMES.get(fields["success"].lower())
    if outcome is None:
        raise ValueError(f"success: {fields['success']!r} is none of {', '.join(_OUTCOMES)}")
    return Found(number, _ts(fields["ts"], zone), user, key, outcome)


def _ts(text: str, zone: tzinfo) -> int:
    try:
        value = Decimal(text)
    except InvalidOperation:
        return iso_ms(text, zone)
    if not value.is_finite() or value < _FIRST_S:
        raise ValueError(f"ts: {text!r} is neither epoch seconds, epoch ms nor ISO 8601")
    return checked_ts(int(value if value >= _FIRST_MS else value * 1_000))
