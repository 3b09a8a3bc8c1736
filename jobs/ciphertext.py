"""Describes the layout of encrypted data in Redis, for code that has no `Cipher`.

    0xC1 | id of the encryption key, 4 bytes | nonce, 12 bytes | AES-256-GCM ciphertext and tag

Unencrypted data is MessagePack or zlib, which never begin with the byte 0xC1. This module is
separate from `cipher` so that a process without encryption keys does not import the package
cryptography.
"""

from __future__ import annotations

from typing import Final

from .errors import EncryptionKeyMissing, Undecodable

MAGIC: Final = b"\xc1"
KEY_ID_BYTES: Final = 4
NONCE_BYTES: Final = 12
MIN_BYTES: Final = len(MAGIC) + KEY_ID_BYTES + NONCE_BYTES + 16

# The kinds of encrypted data. A ciphertext of one kind is rejected where another kind is expected.
JOB: Final = b"job"
ENTRY: Final = b"entry"
BLOCK: Final = b"block"
TURN: Final = b"turn"
ITEM: Final = b"item"
METADATA: Final = b"metadata"
STEER: Final = b"steer"
SUMMARY: Final = b"summary"
SUBSCRIPTION: Final = b"subscription"
FEEDBACK: Final = b"feedback"


def key_id(data: bytes) -> str:
    """Returns the id of the key that encrypted a ciphertext, in hexadecimal digits."""
    return data[len(MAGIC) : len(MAGIC) + KEY_ID_BYTES].hex()


def unreadable(data: bytes, expected: str, error: Exception) -> Undecodable:
    """Returns the error for bytes that could not be decoded in the `expected` format.

    If the bytes are encrypted, returns EncryptionKeyMissing with the id of their key.
    """
    if data.startswith(MAGIC) and len(data) >= MIN_BYTES:
        return EncryptionKeyMissing(key_id(data))
    return Undecodable(f"invalid {expected}: {type(error).__name__}")
