"""Encrypts the pieces of data that Redis stores: jobs, log entries, compacted blocks and turns.

Each response has its own keys, which are derived from one of the operator's encryption keys and the
response's id. The kind and the index of a piece are authenticated with the piece, so a ciphertext
cannot be moved to another response or position. The module `ciphertext` describes its layout.

The nonce is a keyed hash of the piece, its kind and its index. So encrypting the same piece again
gives the same bytes, as the comparison in a repeated append requires. Two different pieces share a
nonce with a probability of 2 ** -96. So no counter is needed, even when a worker appends entries
again that Redis has lost.

Several encryption keys may be configured. The first key encrypts, and every key decrypts.
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

from .ciphertext import ENTRY, KEY_ID_BYTES, MAGIC, MIN_BYTES, NONCE_BYTES, key_id
from .errors import EncryptionKeyMissing, Undecodable

PLAIN: Final = "plain"
ENCRYPTION_KEY_BYTES: Final = 32
MAX_ENCRYPTION_KEYS: Final = 10
_HEAD_BYTES: Final = len(MAGIC) + KEY_ID_BYTES
# The number of derived keys in the cache. Deriving a key takes a few microseconds, and a response
# has hundreds of entries that need the same key.
_MAX_DERIVED: Final = 4096


class InvalidEncryptionKeys(ValueError):
    """The list of encryption keys is invalid. The message contains no key."""


class Cipher:
    """Encrypts and decrypts data with the encryption keys of one process.

    `ids` contains the id of each encryption key. The first key is the one that encrypts.
    """

    def __init__(self, listed: str) -> None:
        """Reads the encryption keys from `listed`, in which they are separated by white space.

        Each key is the base64 encoding of 32 bytes, or the word `plain` for no encryption.

        Raises: InvalidEncryptionKeys.
        """
        words = listed.split()
        if not 1 <= len(words) <= MAX_ENCRYPTION_KEYS:
            raise InvalidEncryptionKeys(
                f"the file must contain 1 to {MAX_ENCRYPTION_KEYS} keys, not {len(words)}"
            )
        self._encryption_keys: dict[str, bytes | None] = {}
        for number, word in enumerate(words, 1):
            key = None if word == PLAIN else _decode_key(word, number)
            id_ = PLAIN if key is None else _expand(key, b"id", KEY_ID_BYTES).hex()
            self._encryption_keys[id_] = key
        if len(self._encryption_keys) < len(words):
            raise InvalidEncryptionKeys(
                "the file contains the same key twice, or two keys with the same id"
            )
        self.ids = tuple(self._encryption_keys)
        self._derived = lru_cache(_MAX_DERIVED)(self._derive)

    def __str__(self) -> str:
        first, *others = self.ids
        written = "not encrypted" if first == PLAIN else f"encrypted with the key {first}"
        return f"{written}; also decrypted: {', '.join(others)}" if others else written

    def encrypted(
        self, response_id: str, first: int, pieces: list[bytes], kind: bytes = ENTRY
    ) -> list[bytes]:
        """Returns the ciphertexts of consecutive pieces, such as the entries of an append.

        `response_id` is the id of the response or conversation that the pieces belong to, or the
        owner of a summary. `first` is the index of the first piece.
        """
        id_ = self.ids[0]
        if id_ == PLAIN:
            return pieces
        aead, nonce_key = self._derived(id_, response_id)
        head = MAGIC + bytes.fromhex(id_)
        ciphertexts = []
        for index, piece in enumerate(pieces, first):
            position = _position(kind, index)
            nonce = hmac.digest(nonce_key, position + piece, "sha256")[:NONCE_BYTES]
            ciphertexts.append(head + nonce + aead.encrypt(nonce, piece, head + position))
        return ciphertexts

    def decrypted(
        self, response_id: str, first: int, ciphertexts: list[bytes], kind: bytes = ENTRY
    ) -> list[bytes]:
        """Decrypts consecutive ciphertexts, such as the entries of a log.

        `first` is the index of the first ciphertext.

        Raises: EncryptionKeyMissing; Undecodable for a ciphertext that was altered or moved.
        """
        return [
            self._decrypted(response_id, _position(kind, index), data)
            for index, data in enumerate(ciphertexts, first)
        ]

    def fingerprints(self, fingerprint: str) -> str:
        """Returns the keyed hashes of a request's fingerprint, one for each encryption key.

        The hashes are separated by commas; for the key `plain`, the list contains the fingerprint
        itself. The first hash is stored. The others recognize a request that was stored under
        another encryption key. Without the keys, nobody can test a guessed request against a stored
        hash.
        """
        return ",".join(
            fingerprint
            if key is None
            else hmac.digest(_expand(key, b"fingerprints"), fingerprint.encode(), "sha256").hex()
            for key in self._encryption_keys.values()
        )

    def _decrypted(self, response_id: str, position: bytes, data: bytes) -> bytes:
        if not data.startswith(MAGIC):
            if PLAIN in self._encryption_keys:
                return data
            raise EncryptionKeyMissing(PLAIN)
        if len(data) < MIN_BYTES:
            raise Undecodable("the ciphertext is truncated")
        id_ = key_id(data)
        if id_ not in self._encryption_keys:
            raise EncryptionKeyMissing(id_)
        head, rest = data[:_HEAD_BYTES], data[_HEAD_BYTES:]
        nonce, ciphertext = rest[:NONCE_BYTES], rest[NONCE_BYTES:]
        aead, _ = self._derived(id_, response_id)
        try:
            return aead.decrypt(nonce, ciphertext, head + position)
        except InvalidTag:
            raise Undecodable("the ciphertext was altered, or belongs to another record") from None

    def _derive(self, id_: str, response_id: str) -> tuple[AESGCM, bytes]:
        key = self._encryption_keys[id_]
        assert key is not None  # noqa: S101 - no ciphertext has the key id `plain`
        derived = _expand(key, b"response " + response_id.encode(), 2 * ENCRYPTION_KEY_BYTES)
        return AESGCM(derived[:ENCRYPTION_KEY_BYTES]), derived[ENCRYPTION_KEY_BYTES:]


def _position(kind: bytes, index: int) -> bytes:
    return kind + index.to_bytes(8, "big")


def _decode_key(word: str, number: int) -> bytes:
    try:
        key = b64decode(word, validate=True)
    except ValueError:
        key = b""
    if len(key) != ENCRYPTION_KEY_BYTES:
        raise InvalidEncryptionKeys(
            f"key {number} is not the base64 encoding of {ENCRYPTION_KEY_BYTES} bytes; "
            "create one with `openssl rand -base64 32`"
        )
    return key


def _expand(key: bytes, purpose: bytes, length: int = ENCRYPTION_KEY_BYTES) -> bytes:
    # HKDF-Extract is skipped: the encryption keys are uniformly random, so it would add nothing.
    return HKDFExpand(SHA256(), length, b"holdline " + purpose).derive(key)
