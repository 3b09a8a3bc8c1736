"""Log entries <-> the standard's events, as bytes of a dialect.

An event is turned into bytes once for a process and dialect, and only where somebody follows in
that dialect. What differs between followers, the lane, is spliced into the finished bytes.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from jobs.codec import decode_event
from jobs.errors import Undecodable
from jobs.events import TERMINAL_TYPES
from jobs.transcript import Transcript

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobs.log import View

_encode = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode
_canonical = msgspec.json.Encoder(order="deterministic").encode


class Frame:
    """One event, which becomes bytes of a dialect when somebody first needs them.

    `entry` are the bytes of the log; `last` is True for the event that ends its response. Nobody
    may alter `event`: all followers share it.
    """

    __slots__ = ("_json", "_packed", "entry", "event", "last", "sequence_number", "type")

    def __init__(self, sequence_number: int, entry: bytes, event: dict[str, Any]) -> None:
        self.sequence_number = sequence_number
        self.entry = entry
        self.event = event
        self.type: str = event["type"]
        self.last = self.type in TERMINAL_TYPES
        self._json: bytes | None = None
        self._packed: bytes | None = None

    @property
    def json(self) -> bytes:
        """The event in JSON. Raises: Undecodable."""
        if self._json is None:
            self._json = self._encoded(_encode)
        return self._json

    def on_lane(self, lane: bytes) -> bytes:
        """The JSON with `stream_id`; `lane` comes from `lane_suffix`. Raises: Undecodable."""
        return self.json[:-1] + lane

    def packed_on_lane(self, lane: bytes) -> bytes:
        """The event in MessagePack, with the name and value in `lane`, if it is not empty.

        Raises: Undecodable.
        """
        count = len(self.event)
        if self._packed is None:
            self._packed = self._encoded(_pack)[len(_map_header(count)) :]
        return _map_header(count + bool(lane)) + self._packed + lane

    def _encoded(self, how: Callable[[Any], bytes]) -> bytes:
        try:
            return how(self.event)
        except (TypeError, ValueError, RecursionError) as error:
            # MessagePack can say more than JSON; nobody of ours does.
            raise Undecodable(f"an entry that is no JSON: {type(error).__name__}") from error


def _map_header(count: int) -> bytes:
    return bytes([0x80 | count]) if count < 16 else b"\xde" + count.to_bytes(2, "big")


def lane_suffix(stream_id: str | None) -> bytes:
    """What ends the JSON of an event on a lane."""
    return b"}" if stream_id is None else b',"stream_id":%b}' % _encode(stream_id)


def frame(sequence_number: int, entry: bytes) -> Frame:
    """The event of a log entry.

    Raises: Undecodable.
    """
    event = decode_event(entry)
    if "sequence_number" in event:
        raise Undecodable("an entry with a number of its own")
    numbered = {"type": event["type"], "sequence_number": sequence_number, **event}
    return Frame(sequence_number, entry, numbered)


def encode(message: dict[str, Any]) -> bytes:
    """The JSON of a message that is in no log."""
    return _encode(message)


def queued(response_id: str, place: int | None, eta: float | None, reason: str) -> dict[str, Any]:
    """The message that tells where a response waits; `eta` in seconds."""
    return {
        "type": "holdline:queued",
        "response_id": response_id,
        "position": place,
        "eta_seconds": eta,
        "reason": reason,
    }


def sse(frame: Frame) -> bytes:
    """The server-sent event of a frame.

    Without an `id` line: after one, the official Python SDK takes every heartbeat comment for an
    event with empty data, and fails on it.
    """
    return b"event: %b\ndata: %b\n\n" % (frame.type.encode(), frame.json)


def fingerprint(body: dict[str, Any]) -> str:
    """Identifies a request's body: the same for the same JSON in any order of its keys."""
    meaningful = {
        k: v for k, v in body.items() if k not in ("idempotency_key", "stream", "stream_id", "type")
    }
    return hashlib.sha256(_canonical(meaningful)).hexdigest()[:32]


def response_of(view: View) -> dict[str, Any]:
    """The response object that a whole log adds up to, ended or not."""
    transcript = Transcript(decode_event(entry) for entry in view.entries)
    if transcript.last is None:
        return {}
    if transcript.end is not None:
        return transcript.last
    return transcript.last | {"status": _shown(view), "output": transcript.output}


def _shown(view: View) -> str:
    return "queued" if view.status == "queued" else "in_progress"
