"""Streams the feed of a conversation as server-sent events, for clients without a WebSocket.

An event's `id` is a cursor: the number of the event and its id. A client that continues a stream
sends the last one in `Last-Event-ID`, as the `EventSource` of browsers does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from server.api.conversation_events import FOLLOWING, conversation_deleted
from server.api.frames import encode
from server.api.problem import Problem

from .sse import Stream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from server.api.shared_message import SharedMessage
    from server.live.conversation_follower import ConversationFollower

BEFORE_ALL: Final = "-1"  # the cursor before the first event


class FeedFormat:
    """The stream format of a feed: the messages that a WebSocket also receives."""

    begun = True
    failure: Problem | None = None
    broken = False
    ended = False
    headers: Mapping[str, str] = {}
    done = b""

    def problem(self, problem: Problem) -> bytes:
        """Returns the standard's `error` event."""
        return b"".join(_event("error", encode(problem.event())))

    def cut(self, id_: str) -> bytes:
        """Returns the `server_restarting` error. It has no `id`, so the client's cursor stays."""
        why = "The server is restarting. Follow the conversation again from its last event."
        problem = Problem(503, "server_restarting", why, retry_after=1)
        return b"".join(_event("error", encode(problem.event(conversation=id_))))


class FeedStream(Stream):
    """A `FeedSink` that streams the feed of a conversation.

    It is also the `Connection` of a `SocketAuth`, which ends the stream when the client's
    credential ends.
    """

    def __init__(self, heartbeat_seconds: float, conversation_id: str, *, has_cursor: bool) -> None:
        """`has_cursor` is True if the client continues after a cursor."""
        super().__init__(heartbeat_seconds, FeedFormat(), conversation_id)
        self._has_cursor = has_cursor

    def show(
        self, follower: ConversationFollower, message: SharedMessage, running: list[str]
    ) -> None:
        """Buffers a message until it is written."""
        del follower, running
        self._put(*_event(message.message["type"], message.json, self._cursor(message.message)))

    def ended(self, follower: object, problem: Problem | None) -> None:
        """Tells the client that the conversation was deleted or cannot be followed."""
        if problem is None:
            self._put_message(conversation_deleted(self._id).message)
        super().ended(follower, problem)

    def say(self, message: dict[str, Any]) -> None:
        """Sends a message about the client's credential."""
        self._put_message(message)

    async def close(self, code: int, reason: str) -> None:
        """Ends the stream, after a message that says why."""
        del code, reason
        self._explained = True
        self.stop()

    def _put_message(self, message: dict[str, Any]) -> None:
        self._put(*_event(message["type"], encode(message)))

    def _cursor(self, message: dict[str, Any]) -> str | None:
        """Returns the client's cursor after a message, or None if the message does not move it."""
        if message["type"] == FOLLOWING:
            if message["reset"]:
                return BEFORE_ALL  # all events follow
            if self._has_cursor:
                return None
        number, event_id = message["sequence_number"], message["event_id"]
        return f"{number}:{event_id}" if event_id else str(number)


def _event(kind: str, json: bytes, id_: str | None = None) -> tuple[bytes, bytes, bytes]:
    """Returns the parts of a server-sent event. All streams share the JSON of a large message."""
    cursor = b"" if id_ is None else b"id: %b\n" % id_.encode()
    return b"%bevent: %b\ndata: " % (cursor, kind.encode()), json, b"\n\n"
