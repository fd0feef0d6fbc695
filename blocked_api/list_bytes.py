"""Whole lists as the bytes that go out, made once for all who ask."""

import gzip
import hashlib
import threading
import time
from dataclasses import dataclass
from typing import Final

import orjson

from blocked_api.block_feed import ListState
from blocked_api.block_list import BlockList, newest_first
from blocked_api.blocks import Blocks, BlocksUnavailableError
from blocked_api.changes import Delta, Version
from blocked_api.present import Reading
from login_blocking.subjects import Subject, SubjectType

FIELDS: Final[dict[SubjectType, str]] = {"user": "users-blocked", "ip": "ips-blocked"}

_FULL_LASTS_S: Final = 1.0
"""So long a full list is given again: it tells its version, from which its reader goes on."""
_LARGE: Final = 10_000
"""Subjects from which on a full list costs enough to be given again."""


def gzip_bytes(plain: bytes) -> bytes:
    """Gzipped, quickly rather than small; the same bytes each time."""
    return gzip.compress(plain, compresslevel=1, mtime=0)


class Packed:
    """A document as bytes, with its tag; gzipped at the first wish."""

    def __init__(self, plain: bytes) -> None:
        self.plain = plain
        self.tag = hashlib.blake2b(plain, digest_size=12).hexdigest()
        self._zipping = threading.Lock()
        self._gzipped: bytes | None = None

    @property
    def is_zipped(self) -> bool:
        """Whether somebody has wished for it."""
        return self._gzipped is not None

    @property
    def gzipped(self) -> bytes:
        """The same, for those who take it."""
        with self._zipping:  # once for all who wait
            if self._gzipped is None:
                self._gzipped = gzip_bytes(self.plain)
            return self._gzipped


@dataclass(frozen=True, slots=True)
class _Made:
    """Bytes, and what they were made of: `serial` is the list's; `at_s` monotonic."""

    serial: int
    revision: int
    version: Version
    at_s: float
    packed: Packed


class ListBytes:
    """The names of a type, and all blocks, each made again only when it has changed.

    Who comes while bytes are made waits for them: a hundred clients must not make a hundred lists.
    """

    def __init__(self, present: Reading) -> None:
        self._present = present
        self._names: dict[SubjectType, _Made] = {}
        self._full: _Made | None = None
        self._making = {"user": threading.Lock(), "ip": threading.Lock(), "full": threading.Lock()}

    def names(self, subject_type: SubjectType) -> tuple[ListState, Version, Packed]:
        """The sorted names of a type; raises BlocksUnavailableError."""

        def look(blocks: BlockList) -> tuple[int, int, Version, list[str] | None]:
            known = self.is_made(subject_type, blocks, zipped=False)
            names = None if known else blocks.names(subject_type)
            return blocks.serial, blocks.revisions[subject_type], blocks.version, names

        state, (serial, revision, version, names) = self._present.read(look)
        made = self._names.get(subject_type)
        if names is None and made is not None and made.serial == serial:
            return state, version, made.packed
        with self._making[subject_type]:
            state, (serial, revision, version, names) = self._present.read(look)
            made = self._names.get(subject_type)
            if names is not None or made is None:
                packed = _packed({FIELDS[subject_type]: names or []})
                made = _Made(serial, revision, version, time.monotonic(), packed)
                self._names[subject_type] = made
        return state, version, made.packed

    def is_made(self, subject_type: SubjectType, blocks: BlockList, *, zipped: bool) -> bool:
        """Whether the names are there as bytes already. Takes no lock, so it may err."""
        made = self._names.get(subject_type)
        return (
            made is not None
            and (made.serial, made.revision) == (blocks.serial, blocks.revisions[subject_type])
            and (not zipped or made.packed.is_zipped)
        )

    def full(self) -> tuple[ListState, Version, Packed]:
        """All blocks, as the calls tell changes; a large one may be a second old."""

        def look(blocks: BlockList) -> tuple[int, int, Version, Delta | None]:
            made = self._full
            if made is not None and made.serial == blocks.serial:
                young = time.monotonic() - made.at_s < _FULL_LASTS_S and len(blocks) > _LARGE
                if young or made.revision == blocks.edits:
                    return made.serial, made.revision, made.version, None
            delta = Delta(added=dict(blocks.items()))
            return blocks.serial, blocks.edits, blocks.version, delta

        with self._making["full"]:
            state, (serial, revision, version, delta) = self._present.read(look)
            made = self._full
            if delta is not None or made is None:
                document = (delta or Delta()).document(version, full=True)
                made = _Made(serial, revision, version, time.monotonic(), _packed(document))
                self._full = made
        return state, made.version, made.packed


class NewestFirst:
    """All blocked subjects, the newest block first, for people: sorted once for all who look.

    Of a large list what they see may be a second old.
    """

    def __init__(self, present: Reading) -> None:
        self._present = present
        self._sorting = threading.Lock()
        self._sorted: _Sorted | None = None

    def items(self) -> tuple[ListState, Version, list[tuple[Subject, Blocks]]]:
        """In the order of `newest_first`; nobody may change it. Raises BlocksUnavailableError."""

        def look(blocks: BlockList) -> _Sorted | None:
            known = self._sorted
            if known is not None and known.serial == blocks.serial:
                young = time.monotonic() - known.at_s < _FULL_LASTS_S and len(blocks) > _LARGE
                if young or known.revision == blocks.edits:
                    return None
            now_s, items = time.monotonic(), blocks.items()
            return _Sorted(blocks.serial, blocks.edits, blocks.version, now_s, items)

        with self._sorting:
            state, found = self._present.read(look)
            if found is not None:
                found.items.sort(key=newest_first)
                self._sorted = found
            known = self._sorted
        if known is None:  # for the type checker
            raise BlocksUnavailableError
        return state, known.version, known.items


@dataclass(frozen=True, slots=True)
class _Sorted:
    serial: int
    revision: int
    version: Version
    at_s: float
    items: list[tuple[Subject, Blocks]]


def _packed(document: object) -> Packed:
    return Packed(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))
