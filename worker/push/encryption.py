"""Encrypts a message for one browser (RFC 8291), and signs requests to push services (RFC 8292).

Only the browser has the private key that belongs to `p256dh`, so a push service cannot read the
message. Pure: no I/O.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from jobs.vapid import CURVE, encode, point_of, public_key

if TYPE_CHECKING:
    from jobs.vapid import VapidKey

# The only record of the content must have at most 4096 bytes (RFC 8030). It has a header of 86
# bytes, a tag of 16 bytes, and a byte that ends the message.
RECORD_BYTES: Final = 4096
MAX_MESSAGE_BYTES: Final = RECORD_BYTES - 86 - 16 - 1
SALT_BYTES: Final = 16
LAST_RECORD: Final = b"\x02"
# A push service may reject tokens that are valid for more than a day.
TOKEN_SECONDS: Final = 12 * 3600


def encrypted(
    message: bytes,
    p256dh: bytes,
    auth: bytes,
    *,
    sender: ec.EllipticCurvePrivateKey | None = None,
    salt: bytes | None = None,
) -> bytes:
    """Returns the encrypted body of a push, in the encoding `aes128gcm`.

    `sender` and `salt` are random unless a test passes them.

    Raises: ValueError if the message has more than `MAX_MESSAGE_BYTES`, or `p256dh` is no point.
    """
    if len(message) > MAX_MESSAGE_BYTES:
        raise ValueError(f"a push has at most {MAX_MESSAGE_BYTES} bytes, not {len(message)}")
    sender = sender or ec.generate_private_key(CURVE)
    salt = salt or secrets.token_bytes(SALT_BYTES)
    point = point_of(sender.public_key())
    shared = sender.exchange(ec.ECDH(), public_key(p256dh))
    secret = _derived(shared, auth, b"WebPush: info\0" + p256dh + point, 32)
    key = _derived(secret, salt, b"Content-Encoding: aes128gcm\0", 16)
    nonce = _derived(secret, salt, b"Content-Encoding: nonce\0", 12)
    header = salt + RECORD_BYTES.to_bytes(4, "big") + bytes([len(point)]) + point
    return header + AESGCM(key).encrypt(nonce, message + LAST_RECORD, None)


def authorization(endpoint: str, key: VapidKey, contact: str, now: int) -> str:
    """Returns the header `Authorization` of a push. `now` is a Unix time in seconds."""
    parts = urlsplit(endpoint)
    claims = {
        "aud": f"{parts.scheme}://{parts.netloc}",
        "exp": now + TOKEN_SECONDS,
        "sub": contact,
    }
    token = jwt.encode(claims, key.signer, algorithm="ES256")
    return f"vapid t={token}, k={encode(key.public)}"


def _derived(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length, salt, info).derive(secret)
