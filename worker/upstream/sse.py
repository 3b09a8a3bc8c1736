"""Parses server-sent events: divides a stream of bytes into the payloads of its events.

The parser follows the HTML standard, section "Interpreting an event stream", as far as models'
endpoints need it. Lines end with CRLF, LF or CR. A line that begins with a colon is a comment. The
`data` lines of one event are joined with newlines. An empty line ends the event. An event that is
incomplete at the end of the stream is dropped.

If the payload of an event has no type, the event's name becomes its type, because some gateways
send the type of a Responses API event, or the word `error`, only in the field `event`. Some
versions of llama.cpp send errors in a field `error` instead of `data`. Events whose name marks a
heartbeat are dropped.

Some servers send an error in the middle of a stream as bare JSON. Therefore a line that begins with
a JSON object counts as `data`, together with the following lines up to the next empty line.

Some servers reply with a single JSON document although a stream was requested. Therefore a body
that begins like a JSON document becomes one payload.
"""

from __future__ import annotations

import json
from typing import Final

from .deltas import Malformed, parse
from .payload import is_heartbeat

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ERROR: Final = b"error"
_PING: Final = b"ping"


class EventTooLarge(Exception):
    """An event has exceeded the size limit before its end arrived."""

    def __init__(self, most: int) -> None:
        super().__init__(f"an event has more than {most} bytes")
        self.most = most


class Splitter:
    """Divides a stream of bytes into the payloads of its events.

    `most` limits the size of an event in bytes. A chunk of the stream may end anywhere, even within
    a character, because the splitter decodes no text.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._line = bytearray()
        self._data: list[bytes] = []
        self._event = b""
        self._size = 0
        self._after_cr = False
        self._begun = False
        # True while the lines belong to bare JSON that has no field name.
        self._bare = False
        # The first bytes of the stream, as long as it is not clear whether they begin a JSON
        # document.
        self._head: bytes | None = b""
        self._is_json = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Returns the payloads of the events that end in this chunk.

        Raises: EventTooLarge. After this error, the splitter must not be used again.
        """
        if self._head is not None:
            chunk = self._sniffed(chunk)
        if self._is_json:
            self._line += chunk
            if len(self._line) > self._most:
                raise EventTooLarge(self._most)
            return []
        end = -1 if self._line or self._data or self._event else chunk.rfind(b"\n\n")
        if 0 < end <= self._most and (payloads := _plain_payloads(chunk[:end])) is not None:
            self._begun, self._after_cr = True, False
            return payloads + self._lines(chunk[end + 2 :])
        return self._lines(chunk)

    def _lines(self, chunk: bytes) -> list[bytes]:
        """Reads a chunk line by line, and returns the payloads of the events that end in it."""
        if self._after_cr and chunk:
            # The previous chunk ended with a CR, which ended a line. An LF at the beginning of this
            # chunk belongs to that CR and must not end another line.
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        head, *lines = chunk.split(b"\n")
        self._line += head
        payloads: list[bytes] = []
        if lines:
            self._end_line(bytes(self._line), payloads)
            self._line = bytearray(lines.pop())
        for line in lines:
            self._end_line(line, payloads)
        if self._size + len(self._line) > self._most:
            raise EventTooLarge(self._most)
        return payloads

    def rest(self) -> list[bytes]:
        """Returns the payload of an unfinished event at the end of the stream.

        The HTML standard requires that an unfinished event is dropped. But some servers omit the
        empty line after their last event, so the caller has to check whether the payload is
        complete.
        """
        if self._is_json:
            return [bytes(self._line)]
        payloads: list[bytes] = []
        for line in (bytes(self._line), b""):
            self._end_line(line, payloads)
        return payloads

    def _sniffed(self, chunk: bytes) -> bytes:
        """Returns the bytes so far when it is clear whether they begin a JSON document.

        As long as that is not clear, it keeps the bytes and returns none.
        """
        head = (self._head or b"") + chunk
        text = head.removeprefix(_BYTE_ORDER_MARK).lstrip()
        if not text or _BYTE_ORDER_MARK.startswith(head):
            self._head = head
            return b""
        self._head = None
        self._is_json = text.startswith((b"{", b"["))
        return text if self._is_json else head

    def _end_line(self, line: bytes, payloads: list[bytes]) -> None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            if self._data and self._event != _PING:
                payload = b"\n".join(self._data)
                payloads.append(_typed(payload, self._event) if self._event else payload)
            self._data.clear()
            self._size = 0
            self._event = b""
            self._bare = False
            return
        if line.startswith(b"{") or (self._bare and not line.startswith(b"data:")):
            self._bare = True
            line = b"data: " + line
        name, _, value = line.partition(b":")
        if name == b"error":  # llama.cpp sends errors in the field `error`
            self._event = _ERROR
        if name in (b"data", b"error"):
            value = value.removeprefix(b" ")
            # A proxy has wrapped the events of its upstream in events of its own.
            while value.startswith(b"data:"):
                value = value[5:].removeprefix(b" ")
            self._size += len(value)
            if self._size > self._most:
                raise EventTooLarge(self._most)
            self._data.append(value)
        elif name == b"event":
            value = value.strip().lower()
            if is_heartbeat(value.decode(errors="replace")):
                value = _PING
            known = value in (_PING, _ERROR) or value.startswith(b"response.")
            self._event = value if known else b""


def _plain_payloads(block: bytes) -> list[bytes] | None:
    """Returns the payloads of several events, if all have the form that nearly all endpoints send.

    The events have only a `data` line, or also an `event` line of the Responses API, which is not
    needed because the payload has the same type. For events of any other form, returns None. This
    function takes a fifth of the time of reading the lines.
    """
    events = block.split(b"\n\n")
    count = len(events)
    other_lines = block.count(b"\n") - 2 * (count - 1)
    if b"\r" in block or b"data: data:" in block:
        return None
    if not other_lines:
        is_data = block.startswith(b"data: ") and block.count(b"\n\ndata: ") == count - 1
        return [event[6:] for event in events] if is_data else None
    is_named = (
        other_lines == count == block.count(b'\ndata: {"type"')
        and block.startswith(b"event: response.")
        and block.count(b"\n\nevent: response.") == count - 1
    )
    if is_named and all(payloads := [event.partition(b"\ndata: ")[2] for event in events]):
        return payloads
    return None


def _typed(payload: bytes, name: bytes) -> bytes:
    """Returns the payload; if it has no type, the name of its event becomes the type."""
    if payload.startswith((b'{"type"', b"[DONE]")):
        return payload
    try:
        value = parse(payload)
    except Malformed:
        value = None
    if isinstance(value, dict):
        named = name.decode(errors="replace")
        return payload if "type" in value else json.dumps({"type": named, **value}).encode()
    if name != _ERROR:
        return payload
    return json.dumps({"type": "error", "message": payload.decode(errors="replace")}).encode()
