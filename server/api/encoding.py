"""How objects travel over a socket: JSON in text frames, or MessagePack in binary ones.

Both carry the same objects. What a client sends is bounded before anything looks at it: a binary
message can hold what JSON cannot say, and each of these things is refused by name.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from .frames import BINARY, TEXT, Frame, encode, lane_suffix
from .problem import Problem, invalid
from .request import MAX_DEPTH, MAX_VALUES, parse_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# What a browser offers beside a encoding, because it cannot send headers: a token, never answered.
BEARER: Final = "bearer."
_PLAIN: Final = frozenset({str, int, bool, type(None)})

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode


class Encoding(Protocol):
    """What a socket needs to know of its encoding. No state: one object serves all sockets."""

    @property
    def subprotocol(self) -> str:
        """The name by which a client asks for it."""

    @property
    def kind(self) -> int:
        """The opcode of the frames in which messages travel."""

    def encode(self, message: dict[str, Any]) -> bytes:
        """The payload for a message that is in no log."""

    def lane(self, stream_id: str | None) -> bytes:
        """What `event` adds for a lane."""

    def event(self, frame: Frame, lane: bytes) -> bytes:
        """The payload for an event of a log. Raises: Undecodable."""

    def message(self, frame: Frame, lane: bytes) -> bytes:
        """The whole WebSocket frame for an event of a log. Raises: Undecodable."""

    def fragments(self, frame: Frame, lane: bytes) -> Iterator[bytes]:
        """`message` in fragments. Raises: Undecodable."""

    def decode(self, data: Any) -> dict[str, Any]:
        """The object of a payload. Raises: Problem."""

    @property
    def hint(self) -> str:
        """What to send, for whoever sent the other kind of frame."""


class _Json:
    subprotocol = "holdline.json"
    kind = TEXT
    event = staticmethod(Frame.on_lane)
    message = staticmethod(Frame.text)
    fragments = staticmethod(Frame.text_fragments)
    hint = "Send JSON as text frames, or offer the subprotocol holdline.msgpack."

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
    hint = "Send MessagePack as binary frames; this socket's subprotocol is holdline.msgpack."

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
    """The encoding for a client's `Sec-WebSocket-Protocol` headers, and the name to answer with.

    The first offer that is known counts. Who offers nothing, or nothing but a token, gets JSON and
    no name.

    Raises: Problem where all that is offered is unknown. It repeats none of it.
    """
    names = [name.strip() for offer in offers for name in offer.split(",") if name.strip()]
    for name in names:
        if name in ENCODINGS:
            return ENCODINGS[name], name
    if all(name.startswith(BEARER) for name in names):
        return JSON, None
    known = " and ".join(sorted(ENCODINGS))
    raise invalid(
        "Sec-WebSocket-Protocol",
        f"None of these subprotocols is known. Offer one of {known}, or none at all.",
        "unknown_subprotocol",
    )


def parse_packed(data: bytes) -> dict[str, Any]:
    """The object of a MessagePack message that says nothing JSON could not say.

    Raises: Problem.
    """
    # A decoder of msgspec keeps no state between messages, and believes no length that a message
    # claims. (The long-lived Unpacker of another package crashed after an error.)
    try:
        value = _unpack(data)
    except (msgspec.DecodeError, UnicodeError) as error:
        why = str(error) if isinstance(error, msgspec.DecodeError) else "text that is not UTF-8"
        raise _not_packed(why) from None
    except RecursionError:
        raise _too_deep() from None
    if not isinstance(value, dict):
        raise invalid(None, "A MessagePack map is expected here.", "invalid_msgpack")
    _check(value)
    return value


def _check(root: dict[Any, Any]) -> None:
    left = MAX_VALUES
    waiting: list[tuple[Any, str, int]] = [(root, "", 1)]
    while waiting:
        holder, path, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise _too_deep()
        left -= len(holder)
        if left < 0:
            raise _not_packed(f"more than {MAX_VALUES} values")
        pairs = holder.items() if isinstance(holder, dict) else enumerate(holder)
        for name, value in pairs:
            if isinstance(holder, dict) and type(name) is not str:
                raise _wrong(path, "a map whose keys are all text")
            kind = type(value)
            if kind in _PLAIN:
                continue
            place = f"{path}[{name}]" if isinstance(holder, list) else f"{path}.{name}"
            if kind is dict or kind is list:
                waiting.append((value, place, depth + 1))
            elif kind is not float:
                what = "text" if kind is bytes else "a value that JSON has too"
                raise _wrong(place, f"{what}, not {'bytes' if kind is bytes else 'an extension'}")
            elif not math.isfinite(value):
                raise _wrong(place, "a finite number")


def _wrong(path: str, right: str) -> Problem:
    param = path.removeprefix(".")[:128] or None
    return invalid(param, f"Invalid value for '{param or 'the message'}': expected {right}.")


def _too_deep() -> Problem:
    return _not_packed(f"nested more than {MAX_DEPTH} deep")


def _not_packed(why: str) -> Problem:
    return invalid(None, f"This is not valid MessagePack: {why}.", "invalid_msgpack")
