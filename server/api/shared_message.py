"""A message that many clients receive, which is encoded once for each encoding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .frames import encode, websocket_frame

if TYPE_CHECKING:
    from .encoding import Encoding


class SharedMessage:
    """A message that is not part of the log of a response. It must not be modified."""

    __slots__ = ("_frames", "_json", "message")

    def __init__(self, message: dict[str, Any]) -> None:
        self.message = message
        self._frames: dict[Encoding, bytes] = {}
        self._json: bytes | None = None

    @property
    def json(self) -> bytes:
        """The message as JSON."""
        if self._json is None:
            self._json = encode(self.message)
        return self._json

    def frame(self, encoding: Encoding) -> bytes:
        """Returns the WebSocket frame with the encoded message."""
        if encoding not in self._frames:
            payload = encoding.encode(self.message)
            self._frames[encoding] = websocket_frame(payload, encoding.kind)
        return self._frames[encoding]
