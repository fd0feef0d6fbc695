"""This project's own recordings, one JSON object a line: the recorded and the wire form."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from login_blocking.attempts import Outcome, decode
from tools.recordings.found import (
    Found,
    Line,
    LineError,
    Reading,
    address,
    checked_ts,
    user_or_none,
)


def recognises(line: str) -> bool:
    """Whether a line looks like one of this form."""
    return line.lstrip().startswith("{")


def found(lines: Iterable[Line], _how: Reading) -> Iterator[Found]:
    """The attempt of every line but blank ones; LineError for a line that holds none."""
    for number, line in lines:
        if line.strip():
            try:
                yield _found(number, line)
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
                raise LineError(number, f"no attempt ({reason})") from error


def _found(number: int, line: bytes) -> Found:
    row: Any = json.loads(line)
    if not isinstance(row, dict):
        raise TypeError("not a JSON object")
    if "v" in row:
        attempt = decode(line)
        ts, user, ip, outcome = attempt.ts, attempt.user, attempt.ip, attempt.outcome
        identity = attempt.id
    else:
        identity = None
        ts, user, ip = row["ts"], row["user"], row["ip"]
        if not isinstance(row["success"], bool):
            raise TypeError("success: neither true nor false")
        outcome = Outcome.SUCCESS if row["success"] else Outcome.FAILURE
        if isinstance(ts, bool) or not isinstance(ts, int):
            raise TypeError("ts: not a whole number of milliseconds")
        if not isinstance(user, str | None) or not isinstance(ip, str | None):
            raise TypeError("user, ip: neither text nor null")
    user = None if user is None else user_or_none(user)
    ip = None if ip is None else address(ip)
    if user is None and ip is None:
        raise ValueError("neither a user nor an address")
    return Found(number, checked_ts(ts), user, ip, outcome, id=identity)
