"""Reads server-sent events (WHATWG HTML, 9.2.6) from bytes that are cut anywhere. Does no I/O."""

from dataclasses import dataclass
from typing import Final

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class MalformedStreamError(ValueError):
    """The stream cannot be read on: no UTF-8, or an event longer than allowed."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `id` is the last one told, by this event or an earlier one."""

    type: str
    data: str
    id: str


class EventStreamParser:
    """Fed with chunks, it gives the events that they complete.

    Stricter than browsers in one thing: bytes that are not UTF-8 are an error, for a replacement
    character would be another name. At most `largest_event_bytes` are held back for an event.
    """

    def __init__(self, largest_event_bytes: int) -> None:
        self.retry_ms: int | None = None
        self.last_id = ""
        """The id from which the stream is resumed: of the last event, with data or without."""
        self._largest_event_bytes = largest_event_bytes
        self._line_pieces: list[bytes] = []
        self._data: list[str] = []
        self._held_bytes = 0
        self._type = ""
        self._id = ""
        self._after_cr = False
        self._at_start = True

    def feed(self, chunk: bytes) -> list[Event]:
        """The events whose end is in this chunk. Raises MalformedStreamError."""
        if not chunk:
            return []
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]  # the other half of a CR LF that was cut
        self._after_cr = chunk.endswith(b"\r")
        events = []
        for piece in chunk.splitlines(keepends=True):
            self._line_pieces.append(piece)
            self._held_bytes += len(piece)
            if self._held_bytes > self._largest_event_bytes:
                raise MalformedStreamError("an event is too long")
            if piece.endswith((b"\n", b"\r")):
                line = b"".join(self._line_pieces).rstrip(b"\r\n")
                self._line_pieces.clear()
                event = self._take(line)
                if event is not None:
                    events.append(event)
        return events

    def _take(self, line: bytes) -> Event | None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            return self._dispatch()
        if line.startswith(b":"):
            if not self._data:
                self._held_bytes = 0
            return None
        try:
            field, _, value = line.decode().partition(":")
        except UnicodeDecodeError as error:
            raise MalformedStreamError("not UTF-8") from error
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._type = value
        elif field == "id" and "\0" not in value:
            self._id = value
        elif field == "retry" and value.isascii() and value.isdigit():
            self.retry_ms = int(value[:9])
        return None

    def _dispatch(self) -> Event | None:
        data, type_ = self._data, self._type
        self._data, self._type, self._held_bytes = [], "", 0
        self.last_id = self._id
        if not data:
            return None
        return Event(type_ or "message", "\n".join(data), self._id)
