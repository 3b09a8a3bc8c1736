"""Writes the chunks of an answer as server-sent events, or as messages of a WebSocket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from server.api.frames import encode

if TYPE_CHECKING:
    from server.api.frames import Frame
    from server.api.problem import Problem

    from .answer import AnswerFormat

# The comment that ends a stream before its response; the connection is then closed.
RESTARTING: Final = b": the server is restarting; resume the stream\n\n"
# The members of a WebSocket message with the number of the event and the cursor, which is the `id`
# of an SSE event.
SEQUENCE: Final = "sequence"
CURSOR: Final = "cursor"


class _Framing:
    """The state of a stream of chunks, in any format."""

    def __init__(self, answer: AnswerFormat) -> None:
        self._answer = answer

    @property
    def broken(self) -> bool:
        """True once an error has ended the stream before its response."""
        return self._answer.broken


class ServerSentEvents(_Framing):
    """A `ResponseFormat` that writes each chunk as a server-sent event."""

    begun = True
    failure: Problem | None = None
    ended = False

    def __init__(self, answer: AnswerFormat) -> None:
        super().__init__(answer)
        self.headers = answer.headers
        self.done = answer.done

    def events(self, frames: list[Frame]) -> list[bytes]:
        """Translates log events. The last chunk of each has its cursor as its `id`."""
        return [
            b"data: %b\n\n" % encode(body)
            if cursor is None
            else b"id: %b\ndata: %b\n\n" % (str(cursor).encode(), encode(body))
            for body, cursor in self._answer.chunks(frames)
        ]

    def problem(self, problem: Problem) -> bytes:
        """Returns the protocol's error for a log that cannot be followed any more."""
        return b"".join(b"data: %b\n\n" % encode(body) for body in self._answer.failed(problem))

    def cut(self, id_: str) -> bytes:
        """Returns a comment, because the client should see a lost connection and resume."""
        del id_
        return RESTARTING


class Messages(_Framing):
    """An `EventFormat` that writes each chunk as the JSON of a WebSocket message."""

    def events(self, frames: list[Frame]) -> list[bytes]:
        """Translates log events. The last chunk of each has its cursor as a member."""
        return [
            encode(
                body if cursor is None else {**body, SEQUENCE: cursor.after, CURSOR: str(cursor)}
            )
            for body, cursor in self._answer.chunks(frames)
        ]

    def problem(self, problem: Problem) -> bytes:
        """Returns the protocol's error for a log that cannot be followed any more."""
        (body,) = self._answer.failed(problem)
        return encode(body)
