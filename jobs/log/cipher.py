"""What prompts and answers look like in Redis where they are encrypted there.

    0xC1 | id of the key, 4 bytes | nonce, 12 bytes | AES-256-GCM of the bytes, and its tag

Each response has keys of its own, derived from a key of the operator and the response's id. What a
piece is, a record, an entry or a block, and its index are authenticated with it, so nothing can be
moved to another response or place. Nothing that MessagePack or zlib makes begins with 0xC1.

The nonce is a keyed hash of the piece and its place. The same piece becomes the same bytes every
time, as an append wants that is repeated, and two different ones never share a nonce but by an
accident among 2 ** 96: nobody has to count, not even a worker that writes a lost tail anew.

Several keys may be listed: the first one writes, all of them read.
"""

from __future__ import annotations

import hmac
from base64 import b64decode
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from jobs.errors import KeyMissing, Undecodable

from .codec import ENCRYPTED, ENTRY, LEAST_ENCRYPTED

PLAIN: Final = "plain"
KEY_BYTES: Final = 32
MOST_KEYS: Final = 10
_ID: Final = 4
_NONCE: Final = 12
_HEAD: Final = len(ENCRYPTED) + _ID
# Deriving takes a few microseconds, and a response has hundreds of entries.
_REMEMBERED: Final = 4096


class WrongKeys(ValueError):
    """A list of keys that cannot be meant. The message repeats no key."""


class Cipher:
    """The keys of one process. `ids` names all of them, that of the one that writes first."""

    def __init__(self, listed: str) -> None:
        """`listed` are keys in base64 of 32 bytes, and `plain` for none, parted by white space.

        Raises: WrongKeys.
        """
        words = listed.split()
        if not 1 <= len(words) <= MOST_KEYS:
            raise WrongKeys(f"from 1 to {MOST_KEYS} keys, not {len(words)}")
        self._keys: dict[str, bytes | None] = {}
        for number, word in enumerate(words, 1):
            key = None if word == PLAIN else _key(word, number)
            self._keys[PLAIN if key is None else _expand(key, b"id", _ID).hex()] = key
        if len(self._keys) < len(words):
            raise WrongKeys("the same key, or two that have the same id, twice")
        self.ids = tuple(self._keys)
        self._derived = lru_cache(_REMEMBERED)(self._derive)

    def __str__(self) -> str:
        first, *others = self.ids
        written = "not encrypted" if first == PLAIN else f"encrypted with the key {first}"
        return f"{written}; {', '.join(others)} can be read" if others else written

    def encrypted(
        self, response_id: str, first: int, pieces: list[bytes], kind: bytes = ENTRY
    ) -> list[bytes]:
        """Pieces as they are kept, the first of them at index `first`."""
        id_ = self.ids[0]
        if id_ == PLAIN:
            return pieces
        box, secret = self._derived(id_, response_id)
        head = ENCRYPTED + bytes.fromhex(id_)
        kept = []
        for index, piece in enumerate(pieces, first):
            place = _place(kind, index)
            nonce = hmac.digest(secret, place + piece, "sha256")[:_NONCE]
            kept.append(head + nonce + box.encrypt(nonce, piece, head + place))
        return kept

    def decrypted(
        self, response_id: str, first: int, kept: list[bytes], kind: bytes = ENTRY
    ) -> list[bytes]:
        """The pieces of what was kept.

        Raises: KeyMissing; Undecodable for what was altered, or stood in another place.
        """
        return [
            self._decrypted(response_id, _place(kind, index), data)
            for index, data in enumerate(kept, first)
        ]

    def fingerprints(self, fingerprint: str) -> str:
        """What is kept of a request's fingerprint, and after it, with commas, what was kept of the
        same one under the other keys. Whoever reads it cannot find out whether a guess is right.
        """
        return ",".join(
            fingerprint
            if key is None
            else hmac.digest(_expand(key, b"fingerprints"), fingerprint.encode(), "sha256").hex()
            for key in self._keys.values()
        )

    def _decrypted(self, response_id: str, place: bytes, data: bytes) -> bytes:
        if not data.startswith(ENCRYPTED):
            if PLAIN in self._keys:
                return data
            raise KeyMissing(PLAIN)
        head, nonce, rest = data[:_HEAD], data[_HEAD : _HEAD + _NONCE], data[_HEAD + _NONCE :]
        id_ = head[len(ENCRYPTED) :].hex()
        if len(data) < LEAST_ENCRYPTED:
            raise Undecodable("encrypted bytes that are cut short")
        if id_ not in self._keys:
            raise KeyMissing(id_)
        try:
            return self._derived(id_, response_id)[0].decrypt(nonce, rest, head + place)
        except InvalidTag:
            raise Undecodable("bytes that were not encrypted for this place") from None

    def _derive(self, id_: str, response_id: str) -> tuple[AESGCM, bytes]:
        key = self._keys[id_]
        assert key is not None  # noqa: S101 - `plain` is no id that bytes can have
        derived = _expand(key, b"response " + response_id.encode(), 2 * KEY_BYTES)
        return AESGCM(derived[:KEY_BYTES]), derived[KEY_BYTES:]


def _place(kind: bytes, index: int) -> bytes:
    return kind + index.to_bytes(8, "big")


def _key(word: str, number: int) -> bytes:
    try:
        key = b64decode(word, validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise WrongKeys(f"key {number} is not base64 of {KEY_BYTES} bytes: openssl rand -base64 32")
    return key


def _expand(key: bytes, what: bytes, length: int = KEY_BYTES) -> bytes:
    # Keys are of chance already, so that HKDF's first half, the extraction, has nothing to do.
    return HKDFExpand(SHA256(), length, b"holdline " + what).derive(key)
