"""Encodes and decodes the feedback of users on responses: a rating, a comment, or both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

from .ciphertext import FEEDBACK, unreadable

if TYPE_CHECKING:
    from .cipher import Cipher

MAX_COMMENT: Final = 2_000  # characters

Rating = Literal["up", "down"]


class Feedback(msgspec.Struct, frozen=True, array_like=True):
    """The feedback on a response. `rating` is None if the user gave none, or took it back."""

    rating: Rating | None = None
    comment: str = ""


_decode = msgspec.msgpack.Decoder(Feedback).decode
_encode = msgspec.msgpack.Encoder().encode


def kept_feedback(response_id: str, feedback: Feedback, cipher: Cipher | None) -> bytes:
    """Encodes feedback for Redis, and encrypts it unless `cipher` is None."""
    data = _encode(feedback)
    return data if cipher is None else cipher.encrypted(response_id, 0, [data], FEEDBACK)[0]


def feedback_of(response_id: str, kept: bytes, cipher: Cipher | None) -> Feedback:
    """Decrypts and decodes feedback from Redis. Raises: EncryptionKeyMissing, Undecodable."""
    if cipher is not None:
        [kept] = cipher.decrypted(response_id, 0, [kept], FEEDBACK)
    try:
        return _decode(kept)
    except msgspec.MsgspecError as error:
        raise unreadable(kept, "feedback", error) from None
