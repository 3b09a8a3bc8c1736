"""Pads delta events with random characters, so that their sizes do not reveal their text.

An observer of an encrypted connection sees the size of each event. A client that asks for it gets
a field `obfuscation` in each delta event, which makes the size of the event's JSON a multiple of
`BLOCK` bytes. The field is not part of the log, and other clients do not get it.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

import msgspec

from .frames import BINARY, TEXT, websocket_frame, with_a_field

if TYPE_CHECKING:
    from .encoding import Encoding
    from .frames import Frame

BLOCK: Final = 64
FIELD: Final = "obfuscation"
_EMPTY: Final = len(b',"%b":""' % FIELD.encode())
_pack: Final = msgspec.msgpack.Encoder().encode


def padding(size: int) -> str:
    """Returns random characters for an event whose JSON has `size` bytes without the field."""
    missing = -(size + _EMPTY) % BLOCK
    return secrets.token_urlsafe(BLOCK)[:missing]


def is_padded(frame: Frame) -> bool:
    """Returns True for an event whose size could reveal a piece of text."""
    return frame.type.endswith(".delta")


def padded_json(frame: Frame, lane: bytes) -> bytes:
    """Returns an event's JSON with the field; `lane` is its end, as in `Frame.on_lane`."""
    field = b',"%b":"%b"' % (FIELD.encode(), padding(len(frame.json)).encode())
    return frame.on_lane(field + lane)


def padded_message(encoding: Encoding, frame: Frame, lane: bytes) -> bytes:
    """Returns a WebSocket frame with an event, which has the field if it is a delta."""
    if not is_padded(frame):
        return encoding.message(frame, lane)
    if encoding.kind == TEXT:
        return websocket_frame(padded_json(frame, lane), TEXT)
    field = _pack(FIELD) + _pack(padding(len(frame.json)))
    return websocket_frame(with_a_field(frame.packed_on_lane(lane), field), BINARY)


def padded_chunk(chunk: dict[str, Any], encoded: bytes) -> dict[str, Any]:
    """Returns a chunk of a chat completion with the field; `encoded` is the chunk's JSON."""
    return {**chunk, FIELD: padding(len(encoded))}
