"""The console on one socket: it passes on the state of the service that the hub reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from server.api.client_messages import Console as Message
from server.api.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from server.api.encoding import Encoding
    from server.api.shared_message import SharedMessage
    from server.console.hub import Hub


class ConsoleSocket(Protocol):
    """The members of `Socket` that `SocketConsole` uses."""

    @property
    def writable(self) -> bool:
        """False while the client reads more slowly than the server writes."""

    def say(self, message: dict[str, Any]) -> None:
        """Writes a message that is not part of a log."""

    def write(self, data: bytes) -> None:
        """Writes encoded frames."""


class SocketConsole:
    """Shows the state of the service, and the timeline of at most one response, on one socket."""

    def __init__(
        self, socket: ConsoleSocket, hub: Hub, encoding: Encoding, check: Callable[[type], None]
    ) -> None:
        """`check` raises Problem if the client may no longer send this kind of message."""
        self.response_id: str | None = None
        self._socket = socket
        self._hub = hub
        self._encoding = encoding
        self._check = check

    def open(self, response_id: str | None) -> None:
        """Opens the console, or changes the response whose timeline it shows."""
        self.response_id = response_id
        try:
            self._hub.join(self)
        except Problem as problem:
            self._socket.say(problem.event(response_id=response_id))

    def show(self, pushed: SharedMessage) -> None:
        """Writes a message, unless the client is slow: it gets a newer one later."""
        try:
            # The key may have been revoked, or have lost its scope, since the console was opened.
            self._check(Message)
        except Problem as problem:
            self.leave()
            self._socket.say(problem.event(response_id=self.response_id))
            return
        if self._socket.writable:
            self._socket.write(pushed.frame(self._encoding))

    def leave(self) -> None:
        """Closes the console when the socket ends."""
        self._hub.leave(self)
