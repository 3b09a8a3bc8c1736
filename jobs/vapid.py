"""The keys with which Holdline identifies itself to push services (VAPID, RFC 8292). Pure: no I/O.

The file of keys has one private key a line, in base64url. The first key is the one with which new
subscriptions are made. The others serve the subscriptions that were made with them.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

MAX_VAPID_KEYS: Final = 10
# The maximum length of the file, whose keys have 44 characters each.
MAX_VAPID_CHARACTERS: Final = 4096
PRIVATE_BYTES: Final = 32
PUBLIC_BYTES: Final = 65  # an uncompressed point of the curve P-256
CURVE: Final = ec.SECP256R1()


class InvalidVapidKeys(ValueError):
    """The file of VAPID keys is invalid. The message contains no key."""


@dataclass(frozen=True)
class VapidKey:
    """A key pair. `private` is the private key's 32 bytes."""

    private: bytes = field(repr=False)

    @cached_property
    def signer(self) -> ec.EllipticCurvePrivateKey:
        """The private key, for signatures."""
        return ec.derive_private_key(int.from_bytes(self.private, "big"), CURVE)

    @cached_property
    def public(self) -> bytes:
        """The public key, in the form that browsers expect."""
        return point_of(self.signer.public_key())

    @property
    def written(self) -> str:
        """The line of the file that contains the key."""
        return encode(self.private)


def new_vapid_key() -> VapidKey:
    """Returns a new key pair."""
    number = ec.generate_private_key(CURVE).private_numbers().private_value
    return VapidKey(number.to_bytes(PRIVATE_BYTES, "big"))


def parse_vapid_keys(text: str) -> dict[bytes, VapidKey]:
    """Returns the keys in a file by their public keys, in the order of the file.

    Raises: InvalidVapidKeys.
    """
    if len(text) > MAX_VAPID_CHARACTERS:
        raise InvalidVapidKeys(
            f"the file must have at most {MAX_VAPID_CHARACTERS} characters, not {len(text)}"
        )
    lines = text.split()
    if not 1 <= len(lines) <= MAX_VAPID_KEYS:
        raise InvalidVapidKeys(
            f"the file must contain 1 to {MAX_VAPID_KEYS} keys, not {len(lines)}"
        )
    found = {}
    for number, line in enumerate(lines, 1):
        try:
            key = _key(line)
            found[key.public] = key
        except ValueError:
            raise InvalidVapidKeys(
                f"key {number} is not a private key of P-256 in base64url; create one with "
                "`holdline vapid create`"
            ) from None
    if len(found) < len(lines):
        raise InvalidVapidKeys("the file contains the same key twice")
    return found


def _key(line: str) -> VapidKey:
    private = decode(line)
    if len(private) != PRIVATE_BYTES:
        raise ValueError("the key has another length")
    return VapidKey(private)


def point_of(key: ec.EllipticCurvePublicKey) -> bytes:
    """Returns the uncompressed point of a public key."""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def public_key(point: bytes) -> ec.EllipticCurvePublicKey:
    """Returns the public key with this uncompressed point.

    Raises: ValueError if the bytes are not an uncompressed point on the curve.
    """
    if len(point) != PUBLIC_BYTES:
        raise ValueError(f"the key must have {PUBLIC_BYTES} bytes, not {len(point)}")
    return ec.EllipticCurvePublicKey.from_encoded_point(CURVE, point)


def encode(data: bytes) -> str:
    """Returns the base64url encoding without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """Returns the bytes of a base64url text, with or without padding. Raises: ValueError."""
    bare = text.rstrip("=")
    if "+" in bare or "/" in bare:
        raise ValueError("the text is base64, not base64url")
    try:
        padded = bare + "=" * (-len(bare) % 4)
        return base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(str(error)) from None
