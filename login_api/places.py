"""From where a user has logged in before, kept as keyed hashes: nobody can read an address back."""

import base64
import hashlib
from typing import Final

_HASH_BYTES: Final = 16


class Places:
    """Names the places of a user; without a key no place is ever known."""

    def __init__(self, key: bytes | None) -> None:
        # As long as BLAKE2's own keys, whatever the secret's length.
        self._key = None if key is None else hashlib.blake2b(key).digest()

    def name(self, user: str, address: str) -> str:
        """The hash of one user's place (both in normal form); empty if places are not kept.

        The user is part of it, so that equal hashes do not tell who shares an address.
        """
        if self._key is None:
            return ""
        # An address holds no blank, so no two pairs give the same text.
        told = f"{address} {user}".encode()
        digest = hashlib.blake2b(told, key=self._key, digest_size=_HASH_BYTES).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
