"""Whole lists as the bytes that go out, made once for all who ask."""

import gzip
import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import orjson

from blocked_api.block_feed import ListState
from blocked_api.block_list import BlockList, Delta, Version
from blocked_api.follower import Reading
from login_blocking.subjects import SubjectType

FIELDS: Final[dict[SubjectType, str]] = {"user": "users-blocked", "ip": "ips-blocked"}

_FULL_LASTS_S: Final = 1.0
"""So long a full list is given again: it tells its version, from which its reader goes on."""
_LARGE: Final = 10_000
"""Subjects from which on a full list costs enough to be given again."""


class Packed:
    """A document as bytes, with its tag; gzipped at the first wish."""

    def __init__(self, plain: bytes) -> None:
        self.plain = plain
        self.tag = hashlib.blake2b(plain, digest_size=12).hexdigest()

    @cached_property
    def gzipped(self) -> bytes:
        """The same, for those who take it."""
        return gzip.compress(self.plain, compresslevel=1, mtime=0)


@dataclass(frozen=True, slots=True)
class _Made:
    """Bytes, and what they were made of; `at_s` monotonic."""

    blocks: BlockList
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

        def look(blocks: BlockList) -> tuple[BlockList, int, Version, list[str] | None]:
            made, revision = self._names.get(subject_type), blocks.revisions[subject_type]
            same = made is not None and made.blocks is blocks and made.revision == revision
            names = None if same else blocks.names(subject_type)
            return blocks, revision, blocks.version, names

        state, (blocks, revision, version, names) = self._present.read(look)
        made = self._names.get(subject_type)
        if names is None and made is not None and made.blocks is blocks:
            return state, version, made.packed
        with self._making[subject_type]:
            state, (blocks, revision, version, names) = self._present.read(look)
            made = self._names.get(subject_type)
            if names is not None or made is None:
                packed = _packed({FIELDS[subject_type]: names or []})
                made = _Made(blocks, revision, version, time.monotonic(), packed)
                self._names[subject_type] = made
        return state, version, made.packed

    def full(self) -> tuple[ListState, Version, Packed]:
        """All blocks, as the calls tell changes; a large one may be a second old."""

        def look(blocks: BlockList) -> tuple[BlockList, Version, Callable[[], Delta] | None]:
            made = self._full
            if made is not None and made.blocks is blocks:
                young = time.monotonic() - made.at_s < _FULL_LASTS_S and len(blocks) > _LARGE
                if young or made.version == blocks.version:
                    return blocks, made.version, None
            items = blocks.items()
            return blocks, blocks.version, lambda: Delta(added=dict(items))

        with self._making["full"]:
            state, (blocks, version, delta) = self._present.read(look)
            made = self._full
            if delta is not None or made is None:
                document = (delta or Delta)().document(version, full=True)
                made = _Made(blocks, 0, version, time.monotonic(), _packed(document))
                self._full = made
        return state, made.version, made.packed


def _packed(document: object) -> Packed:
    return Packed(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))
