"""Converts log entries into the standard's events, as bytes of an encoding.

A process encodes each event at most once per encoding, and only if a follower uses that encoding.
The bytes differ between followers only in the lane name, which is inserted into the encoded event.
"""

from __future__ import annotations

import hashlib
import zlib
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from jobs.errors import Undecodable
from jobs.log.codec import TEXT_DELTA, decode_event
from jobs.log.events import TERMINAL_TYPES
from jobs.log.response_state import ResponseState

from .failures import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from jobs.log.codec import Event
    from jobs.log.view import View

_encode = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode
_canonical = msgspec.json.Encoder(order="deterministic").encode


# Messages larger than this are sent in fragments.
FRAGMENT_BYTES: Final = 262_144
TEXT: Final = 1
BINARY: Final = 2
_SMALL: Final = Struct("!BB").pack
_MEDIUM: Final = Struct("!BBH").pack
_LARGE: Final = Struct("!BBQ").pack


def websocket_frame(payload: bytes, kind: int) -> bytes:
    """Returns an unmasked, unfragmented frame (RFC 6455, section 5.2); `kind` is its opcode."""
    length = len(payload)
    if length < 126:
        return _SMALL(0x80 | kind, length) + payload
    if length < 65_536:
        return _MEDIUM(0x80 | kind, 126, length) + payload
    return _LARGE(0x80 | kind, 127, length) + payload


def fragments(parts: Iterable[bytes | memoryview], kind: int) -> Iterator[bytes]:
    """Yields a large message in frames (RFC 6455, section 5.4), each created on demand.

    A socket whose client does not read therefore holds no copy of the message.
    """
    pieces = [
        memoryview(part)[start : start + FRAGMENT_BYTES]
        for part in parts
        for start in range(0, len(part), FRAGMENT_BYTES)
    ]
    last = len(pieces) - 1
    for index, piece in enumerate(pieces):
        first_byte = (0x80 if index == last else 0) | (kind if index == 0 else 0)
        yield _LARGE(first_byte, 127, len(piece)) + piece


_DELTA: Final = "response.output_text.delta"
_text_delta = msgspec.msgpack.Decoder(tuple[int, str, int, int, str]).decode
_A_TEXT_DELTA: Final = bytes([0x95, TEXT_DELTA])  # a text delta's first bytes: an array of five


class TextDelta(msgspec.Struct, tag_field="type", tag=_DELTA, gc=False):
    """A text delta event. Nine of ten events are text deltas, so they have a faster code path."""

    sequence_number: int
    item_id: str
    output_index: int
    content_index: int
    delta: str
    logprobs: list[Any] = []


# The last bytes of an event's JSON if the event is not on a lane.
NO_LANE: Final = b"}"


class Frame(msgspec.Struct, eq=False, gc=False):
    """One event, encoded when a follower first needs the bytes.

    `entry` is the event's log entry; `last` is True for the event that ends its response. All
    followers share the frame, so its event must not be modified.
    """

    sequence_number: int
    entry: bytes
    type: str
    last: bool
    _said: TextDelta | Event
    _json: bytes | None = None
    _packed: bytes | None = None
    _text: bytes | None = None
    _binary: bytes | None = None

    @property
    def event(self) -> Event:
        """The decoded event, with its fields in the order in which they are sent."""
        said = self._said
        return said if isinstance(said, dict) else msgspec.to_builtins(said)

    @property
    def json(self) -> bytes:
        """The event encoded as JSON. Raises: Undecodable."""
        if self._json is None:
            self._json = self._encoded(_encode)
        return self._json

    @property
    def checksum(self) -> str:
        """A checksum of the log entry, by which a server detects a cursor of a replaced event."""
        return f"{zlib.crc32(self.entry):08x}"

    def on_lane(self, lane: bytes) -> bytes:
        """Returns the event's JSON on a lane, given by `lane_suffix`. Raises: Undecodable."""
        json = self._json or self.json
        return json if lane == NO_LANE else json[:-1] + lane

    def packed_on_lane(self, lane: bytes) -> bytes:
        """Returns the event as MessagePack, with the field in `lane` appended if it is not empty.

        `lane` is the encoded name and value of the field. Raises: Undecodable.
        """
        if self._packed is None:
            self._packed = self._encoded(_pack)
        return with_a_field(self._packed, lane) if lane else self._packed

    def text(self, lane: bytes) -> bytes:
        """Returns the event's JSON as a WebSocket frame, shared by all followers without a lane.

        A thousand sockets whose clients do not read therefore hold one copy of the event.

        Raises: Undecodable.
        """
        if lane != NO_LANE:
            return websocket_frame(self.on_lane(lane), TEXT)
        if self._text is None:
            self._text = websocket_frame(self._json or self.json, TEXT)
        return self._text

    def text_fragments(self, lane: bytes) -> Iterator[bytes]:
        """Yields the event's JSON in WebSocket fragments. Raises: Undecodable."""
        return fragments([memoryview(self.json)[:-1], lane], TEXT)

    def binary_fragments(self, lane: bytes) -> Iterator[bytes]:
        """Yields the event's MessagePack in WebSocket fragments. Raises: Undecodable."""
        packed = self.packed_on_lane(b"")
        return fragments(_parts_with_a_field(packed, lane) if lane else [packed], BINARY)

    def binary(self, lane: bytes) -> bytes:
        """Returns the event's MessagePack as a WebSocket frame. Raises: Undecodable."""
        if lane:
            return websocket_frame(self.packed_on_lane(lane), BINARY)
        if self._binary is None:
            self._binary = websocket_frame(self.packed_on_lane(lane), BINARY)
        return self._binary

    def _encoded(self, how: Callable[[Any], bytes]) -> bytes:
        try:
            return how(self._said)
        except (TypeError, ValueError, RecursionError) as error:
            # MessagePack can express values that JSON cannot, but workers never write such values.
            raise Undecodable(
                f"a log entry cannot be encoded as JSON: {type(error).__name__}"
            ) from error


def with_a_field(packed: bytes, field: bytes) -> bytes:
    """Returns a MessagePack map with one more field, given by its encoded name and value."""
    return b"".join(_parts_with_a_field(packed, field))


def _parts_with_a_field(packed: bytes, field: bytes) -> tuple[bytes, memoryview, bytes]:
    large = packed[0] == 0xDE
    count = 1 + (int.from_bytes(packed[1:3], "big") if large else packed[0] & 0x0F)
    header = bytes([0x80 | count]) if count < 16 else b"\xde" + count.to_bytes(2, "big")
    return header, memoryview(packed)[3 if large else 1 :], field


def lane_suffix(stream_id: str | None) -> bytes:
    """Returns the last bytes of an event's JSON on this lane, or `NO_LANE` if there is no lane."""
    return NO_LANE if stream_id is None else b',"stream_id":%b}' % _encode(stream_id)


def frame(sequence_number: int, entry: bytes) -> Frame:
    """Decodes a log entry into its event.

    Raises: Undecodable.
    """
    try:
        if entry.startswith(_A_TEXT_DELTA):
            _, item_id, output_index, content_index, delta = _text_delta(entry)
            said = TextDelta(sequence_number, item_id, output_index, content_index, delta)
            return Frame(sequence_number, entry, _DELTA, False, said, _encode(said))
    except (msgspec.DecodeError, UnicodeError):
        pass  # the general decoder below decides whether the entry is a valid event
    event = decode_event(entry)
    if "sequence_number" in event:
        raise Undecodable(
            "a stored log entry contains a sequence number, which only the server adds"
        )
    kind = event["type"]
    numbered = {"type": kind, "sequence_number": sequence_number, **event}
    last = kind in TERMINAL_TYPES
    if last:
        numbered["response"] = translated(numbered["response"])
    return Frame(sequence_number, entry, kind, last, numbered)


def item_id_of(event: Event) -> str:
    """Returns the id of the item that an event belongs to, or "" if it belongs to none."""
    id_: str = event.get("item_id") or (event.get("item") or {}).get("id") or ""
    return id_


class Shown(NamedTuple):
    """The client's last event, as described in its resume message; omitted fields are None.

    The two fields show whether a log still holds the events that the client has. Item ids contain
    the claim of their attempt, so items of different attempts have different ids. An attempt
    continues the items of another one only if Redis cannot have lost events. If an item's events
    were lost, the events that then close the item have different types than the lost events.
    """

    item_id: str | None = None
    event_type: str | None = None

    def fits(self, event: Event) -> bool:
        """Returns True if `event` can be the client's last event."""
        return self.item_id in (None, item_id_of(event)) and self.event_type in (
            None,
            event["type"],
        )


NOTHING: Final = Shown()


def encode(message: dict[str, Any]) -> bytes:
    """Returns the JSON of a message that is not part of a log."""
    return _encode(message)


def queued(
    response_id: str, place: int | None, eta: float | None, reason: str, lane: str | None = None
) -> dict[str, Any]:
    """Returns the message about a response's position in its queue; `eta` is in seconds."""
    about = {"position": place, "eta_seconds": eta, "reason": reason}
    return _message("holdline:queued", response_id, about, lane)


def ended(response_id: str, last: int, lane: str | None) -> dict[str, Any]:
    """Returns the message for a client that has already received all events of a response."""
    return _message("holdline:ended", response_id, {"sequence_number": last}, lane)


def _message(
    type_: str, response_id: str, about: dict[str, Any], lane: str | None
) -> dict[str, Any]:
    lane_of = {} if lane is None else {"stream_id": lane}
    return {"type": type_, "response_id": response_id, **about, **lane_of}


# The server-sent event after the last event of a response.
DONE: Final = b"data: [DONE]\n\n"


def sse(frame: Frame) -> tuple[bytes, bytes, bytes]:
    """Returns a frame as a server-sent event, in parts, because all streams share the JSON.

    The event has no `id` line: after such a line, the official Python SDK treats each heartbeat
    comment as an event with empty data, and fails.
    """
    return b"event: %b\ndata: " % frame.type.encode(), frame.json, b"\n\n"


_WITHOUT_EFFECT: Final = frozenset(
    {"client_metadata", "idempotency_key", "stream", "stream_id", "type"}
)


def fingerprint(body: dict[str, Any]) -> str:
    """Returns a digest of a request's body, which does not depend on the order of its JSON keys.

    The digest does not include members without an effect on the response, which may differ when a
    client sends its request again. `client_metadata` contains the context of another trace then.
    """
    meaningful = {k: v for k, v in body.items() if k not in _WITHOUT_EFFECT}
    return hashlib.sha256(_canonical(meaningful)).hexdigest()[:32]


def state_of(view: View) -> ResponseState:
    """Returns the state of a response, built from a complete view of its log."""
    return ResponseState(decode_event(entry) for entry in view.entries)


def response_of(view: View) -> dict[str, Any]:
    """Returns the response object in its current state, built from a complete view of its log."""
    state = state_of(view)
    if state.last is None:
        return {}
    if state.end is not None:
        return translated(state.last)
    return state.last | {"status": _shown(view), "output": state.output}


def finished(entry: bytes) -> dict[str, Any] | None:
    """Returns the response object in a log's last entry, or None if the response has not ended."""
    event = decode_event(entry)
    return translated(event["response"]) if event["type"] in TERMINAL_TYPES else None


def _shown(view: View) -> str:
    return "queued" if view.status == "queued" else "in_progress"
