"""The two encodings of WebSocket messages: JSON in text frames, and MessagePack in binary frames.

Both encodings carry the same objects. A client's message is validated before any other code reads
it: MessagePack can hold values that JSON cannot express, and each such value is refused with an
error that names it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from .frames import BINARY, TEXT, Frame, encode, lane_suffix
from .json_body import MAX_DEPTH, MAX_VALUES, TOO_DEEP, TOO_MANY_VALUES, parse_json, reason_of
from .problem import Problem, invalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# The prefix of the subprotocol in which a browser offers its token, because it cannot set headers.
# The server never selects this subprotocol.
BEARER: Final = "bearer."
_PLAIN: Final = frozenset({str, int, bool, type(None)})

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode


class Encoding(Protocol):
    """An encoding of WebSocket messages. It is stateless: one object serves all sockets."""

    @property
    def subprotocol(self) -> str:
        """The WebSocket subprotocol with which a client selects the encoding."""

    @property
    def kind(self) -> int:
        """The WebSocket opcode of the frames that carry messages."""

    def encode(self, message: dict[str, Any]) -> bytes:
        """Returns the encoded payload of a message that is not part of a log."""

    def lane(self, stream_id: str | None) -> bytes:
        """Returns the encoded lane name that `event` appends to an event."""

    def event(self, frame: Frame, lane: bytes) -> bytes:
        """Returns the encoded payload of a log event. Raises: Undecodable."""

    def message(self, frame: Frame, lane: bytes) -> bytes:
        """Returns a complete WebSocket frame with a log event. Raises: Undecodable."""

    def fragments(self, frame: Frame, lane: bytes) -> Iterator[bytes]:
        """Yields the log event as WebSocket fragments. Raises: Undecodable."""

    def decode(self, data: Any) -> dict[str, Any]:
        """Decodes a client's payload into an object. Raises: Problem."""

    @property
    def hint(self) -> str:
        """The advice for a client that sends text frames instead of binary ones, or vice versa."""


class _Json:
    subprotocol = "holdline.v1"
    kind = TEXT
    event = staticmethod(Frame.on_lane)
    message = staticmethod(Frame.text)
    fragments = staticmethod(Frame.text_fragments)
    hint = "Send JSON in text frames, or select MessagePack with the subprotocol holdline.msgpack."

    def encode(self, message: dict[str, Any]) -> bytes:
        return encode(message)

    def lane(self, stream_id: str | None) -> bytes:
        return lane_suffix(stream_id)

    def decode(self, data: str) -> dict[str, Any]:
        return parse_json(data)


class _MessagePack:
    subprotocol = "holdline.msgpack"
    kind = BINARY
    event = staticmethod(Frame.packed_on_lane)
    message = staticmethod(Frame.binary)
    fragments = staticmethod(Frame.binary_fragments)
    hint = "Send MessagePack in binary frames, because the subprotocol is holdline.msgpack."

    def encode(self, message: dict[str, Any]) -> bytes:
        return _pack(message)

    def lane(self, stream_id: str | None) -> bytes:
        return b"" if stream_id is None else _pack("stream_id") + _pack(stream_id)

    def decode(self, data: bytes) -> dict[str, Any]:
        return parse_packed(data)


JSON: Final[Encoding] = _Json()
MESSAGE_PACK: Final[Encoding] = _MessagePack()
ENCODINGS: Final = {each.subprotocol: each for each in (JSON, MESSAGE_PACK)}


def choose(offers: Iterable[str]) -> tuple[Encoding, str | None]:
    """Returns the encoding for a client's `Sec-WebSocket-Protocol` headers, and its name.

    The first subprotocol that the server knows is selected, which also switches on the messages of
    Holdline's own. A client that offers nothing, or only a token, gets JSON, and the name is None.

    Raises: Problem if the server knows none of the offered subprotocols. The error does not repeat
    them.
    """
    names = [name.strip() for offer in offers for name in offer.split(",") if name.strip()]
    for name in names:
        if name in ENCODINGS:
            return ENCODINGS[name], name
    if all(name.startswith(BEARER) for name in names):
        return JSON, None
    known = " or ".join(sorted(ENCODINGS))
    raise invalid(
        "Sec-WebSocket-Protocol",
        f"None of the offered subprotocols is supported. Offer {known}, or none.",
        "unknown_subprotocol",
    )


def parse_packed(data: bytes) -> dict[str, Any]:
    """Decodes a MessagePack message that holds only values which JSON can express.

    Raises: Problem.
    """
    # A msgspec decoder keeps no state between messages, and does not trust the lengths that a
    # message declares. (The long-lived Unpacker of another package crashed after an error.)
    try:
        value = _unpack(data)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise _not_packed(reason_of(error)) from None
    except RecursionError:
        raise _not_packed(TOO_DEEP) from None
    if not isinstance(value, dict):
        raise invalid(None, "The message must be a MessagePack map.", "invalid_msgpack")
    _check(value)
    return value


def _check(root: dict[Any, Any]) -> None:
    left = MAX_VALUES
    waiting: list[tuple[Any, str, int]] = [(root, "", 1)]
    while waiting:
        holder, path, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise _not_packed(TOO_DEEP)
        left -= len(holder)
        if left < 0:
            raise _not_packed(TOO_MANY_VALUES)
        pairs = holder.items() if isinstance(holder, dict) else enumerate(holder)
        for name, value in pairs:
            if isinstance(holder, dict) and type(name) is not str:
                raise _wrong(path, "expected a map whose keys are strings")
            kind = type(value)
            if kind in _PLAIN:
                continue
            place = f"{path}[{name}]" if isinstance(holder, list) else f"{path}.{name}"
            if kind is dict or kind is list:
                waiting.append((value, place, depth + 1))
            elif kind is not float:
                what = (
                    "a string, not bytes"
                    if kind is bytes
                    else "a JSON value, not a MessagePack extension"
                )
                raise _wrong(place, f"expected {what}")
            elif not math.isfinite(value):
                raise _wrong(place, "expected a finite number")


def _wrong(path: str, why: str) -> Problem:
    param = path.removeprefix(".")[:128] or None
    name = f"'{param}'" if param else "the message"
    return invalid(param, f"Invalid value for {name}: {why}.")


def _not_packed(why: str) -> Problem:
    return invalid(None, f"Invalid MessagePack: {why}.", "invalid_msgpack")
