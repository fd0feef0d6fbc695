"""Opens a recording, plain or gzipped, finds out its format and reads its attempts."""

import gzip
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, islice
from pathlib import Path
from typing import Final

from login_blocking.attempts import Attempt
from tools.recordings import access_log, auth_log, csv_file, ndjson
from tools.recordings.found import Found, Line, LineError, Note, Reading, RecordingError

_NAMESPACE: Final = uuid.UUID("0d8d3c64-7c0e-4a5e-9d52-6f4f6a1f6b0e")
_GZIP_MAGIC: Final = b"\x1f\x8b"
_LOOKED_AT_LINES: Final = 200
_UTF8_MARK: Final = b"\xef\xbb\xbf"


class Format(StrEnum):
    """The forms of files that can be read."""

    NDJSON = "ndjson"
    AUTH_LOG = "auth-log"
    ACCESS_LOG = "access-log"
    CSV = "csv"


_READERS: Final[dict[Format, Callable[[Iterable[Line], Reading], Iterator[Found | Note]]]] = {
    Format.NDJSON: ndjson.found,
    Format.AUTH_LOG: auth_log.found,
    Format.ACCESS_LOG: access_log.found,
    Format.CSV: csv_file.found,
}


@dataclass(frozen=True, slots=True)
class Recording:
    """What a file held.

    `other_lines` are lines of a log that are no attempts, `unreadable_lines` look like some but
    could not be read.
    """

    format: Format
    attempts: list[Attempt]
    other_lines: int
    unreadable_lines: int


def read_recording(path: Path) -> list[Attempt]:
    """The attempts of a file in file order, its format found out; raises RecordingError."""
    return read(path).attempts


def read(path: Path, form: Format | None = None, how: Reading | None = None) -> Recording:
    """Reads a file in file order; form None finds out its format. Raises RecordingError.

    An attempt's id is a function of its place in the file, so a second replay writes it again;
    attempts in the wire form keep their own.
    """
    how = how or Reading()
    attempts: list[Attempt] = []
    notes = {Note.OTHER: 0, Note.UNREADABLE: 0}
    try:
        with path.open("rb") as file:
            packed = file.peek(2)[:2] == _GZIP_MAGIC
            content = gzip.GzipFile(fileobj=file) if packed else file
            lines: Iterator[Line] = enumerate(_marked(content), start=1)
            first = list(islice(lines, _LOOKED_AT_LINES))
            form = form or _format(path, first)
            for item in _READERS[form](chain(first, lines), how):
                if isinstance(item, Note):
                    notes[item] += 1
                else:
                    attempts.extend(_attempts(item))
    except LineError as error:
        raise RecordingError(f"{path}, line {error.line}: {error}") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise RecordingError(f"{path}: not a whole gzip file") from error
    except FileNotFoundError as error:
        raise RecordingError(f"there is no file {path}") from error
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}") from error
    return Recording(form, attempts, notes[Note.OTHER], notes[Note.UNREADABLE])


def _marked(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines without the mark that some programs put before UTF-8."""
    rest = iter(lines)
    yield from (line.removeprefix(_UTF8_MARK) for line in islice(rest, 1))
    yield from rest


def _format(path: Path, first: list[Line]) -> Format:
    lines = [line.decode("utf-8", "replace").rstrip("\r\n") for _, line in first]
    lines = [line for line in lines if line.strip()]
    if lines and ndjson.recognises(lines[0]):
        return Format.NDJSON
    if any(map(auth_log.recognises, lines)):
        return Format.AUTH_LOG
    if any(map(access_log.recognises, lines)):
        return Format.ACCESS_LOG
    if lines and csv_file.recognises(lines[0]):
        return Format.CSV
    forms = ", ".join(Format)
    raise RecordingError(
        f"{path}: none of the known formats by its first lines; say --format ({forms})"
        if lines
        else f"{path}: empty"
    )


def _attempts(item: Found) -> Iterator[Attempt]:
    for time in range(item.times):
        place = f"{item.line}-{time}" if time else f"{item.line}"
        identity = item.id or str(uuid.uuid5(_NAMESPACE, place))
        yield Attempt(identity, item.ts, item.user, item.ip, item.outcome)
