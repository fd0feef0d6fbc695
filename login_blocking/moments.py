"""Moments as people read them: ISO 8601 in UTC with milliseconds."""

from datetime import UTC, datetime
from typing import Final

LATEST_MS: Final = 253_402_300_799_999
"""The end of the year 9999, in ms since the epoch; what comes later has no date."""


def iso(ms: int) -> str:
    """A moment in ms since the epoch, at most LATEST_MS."""
    seconds, milliseconds = divmod(ms, 1_000)
    written = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()
    return f"{written}.{milliseconds:03d}Z"
