"""Defines `Feed`, which receives the events of a conversation over any number of sockets.

After each new socket, the feed sends its cursor, so it receives each event once and in order. The
events of running answers have no cursor here: a new socket repeats them from the first one, and the
feed drops the repeated ones.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from .errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from .errors import Error
    from .protocol import Message

# If this many events wait for the program, the feed stops receiving, and continues later from its
# cursor.
MAX_EVENTS: Final = 1_000
FOLLOWING: Final = "holdline:following"
_EVENT: Final = "holdline:conversation."
_TERMINAL: Final = frozenset({"response.completed", "response.failed", "response.incomplete"})
_LIST: Final = "holdline:list."


class Feed:
    """The events of a conversation, or of the list of all conversations if its id is None.

    An asynchronous iterator of messages. The first one is `holdline:following` with the state of
    the conversation; another one follows after each reconnect. If it has `reset`, the program
    discards what it has. Messages with a `stream_id` are the events of the running response with
    this id. `cursor` is the position after the last message that the program has received.
    """

    def __init__(
        self,
        conversation_id: str | None,
        cursor: tuple[int, str | None] | None,
        send: Callable[[Message], None],
        remove: Callable[[Feed], None],
    ) -> None:
        self.conversation_id = conversation_id
        self.cursor = cursor
        self._send = send
        self._remove = remove
        self._waiting: deque[Message] = deque()
        self._ready = asyncio.Event()
        self._error: Error | None = None
        self._is_over = False
        # True while the server sends nothing, because the program is behind.
        self._is_paused = False
        # The last sequence number of each running response.
        self._running: dict[str, int] = {}

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """Waits for the next message.

        Raises: errors.Refused if the server refuses to follow the conversation, and other errors of
        the client if it is closed.
        """
        while not self._waiting:
            if self._error is not None:
                raise self._error
            if self._is_over:
                raise StopAsyncIteration
            self._ready.clear()
            await self._ready.wait()
        message = self._waiting.popleft()
        self._advance(message)
        if self._is_paused and not self._waiting:
            self.opened()
        return message

    def close(self) -> None:
        """Stops following. An iteration ends after the messages that have already arrived."""
        if not self._is_over:
            self._is_over = True
            self._send(self._about("holdline:unfollow"))
            self._remove(self)
            self._ready.set()

    def mark_read(self) -> None:
        """Records that the user has read all events of the conversation that the program has."""
        if self.conversation_id is not None and self.cursor is not None and self.cursor[0] >= 0:
            number = self.cursor[0]
            self._send({**self._about("holdline:read"), "sequence_number": number})

    # The methods that `Client` calls

    def opened(self) -> None:
        """Follows the conversation on a new socket, after the last message that has arrived."""
        self._is_paused = False
        cursor = self._last_cursor()
        position: Message = {}
        if cursor is not None:
            position = {"starting_after": cursor[0]}
            if cursor[1] is not None:
                position["event_id"] = cursor[1]
        self._send({**self._about("holdline:follow"), **position})

    def takes(self, event: Message) -> bool:
        """Returns True if a message that belongs to no answer belongs to this feed."""
        kind = event["type"]
        if kind == "error":
            return "stream_id" not in event and event.get("conversation") == self.conversation_id
        if isinstance(lane := event.get("stream_id"), str):
            return lane in self._running
        if kind == FOLLOWING:
            about = event.get("conversation")
            id_ = about.get("id") if isinstance(about, dict) else None
            return id_ == self.conversation_id
        if self.conversation_id is None:
            return str(kind).startswith(_LIST)
        return str(kind).startswith(_EVENT) and event.get("conversation") == self.conversation_id

    def received(self, event: Message) -> None:
        """Handles a message of this feed, unless the program already has it."""
        if self._is_paused or self._is_over:
            return
        if len(self._waiting) >= MAX_EVENTS:
            self._is_paused = True
            self._send(self._about("holdline:unfollow"))
            return
        if isinstance(lane := event.get("stream_id"), str):
            number = event.get("sequence_number")
            if not isinstance(number, int) or number <= self._running[lane]:
                return
            self._running[lane] = number
            if event["type"] in _TERMINAL:
                del self._running[lane]
        elif event["type"] == FOLLOWING and isinstance(about := event.get("conversation"), dict):
            found = about.get("holdline", {}).get("running", [])
            self._running = {one: self._running.get(one, -1) for one in found}
        elif event["type"] == f"{_EVENT}response.created":
            self._running.setdefault(event["response_id"], -1)
        # The last pieces of an answer may arrive after the event `response.ended`. They do not come
        # if the program receives them as an answer of its own.
        elif (
            event["type"] == f"{_EVENT}response.ended"
            and self._running.get(event["response_id"]) == -1
        ):
            del self._running[event["response_id"]]
        self._waiting.append(event)
        if event["type"] == f"{_EVENT}deleted":
            self._is_over = True
            self._remove(self)
        self._ready.set()

    def fail(self, error: Error) -> None:
        """Ends the feed with an error, after the messages that have already arrived."""
        self._error = error
        self._remove(self)
        self._ready.set()

    def _about(self, kind: str) -> dict[str, Any]:
        about = {} if self.conversation_id is None else {"conversation": self.conversation_id}
        return {"type": kind, **about}

    def _advance(self, message: Message) -> None:
        if (position := _position(message, self.cursor)) is not None:
            self.cursor = position

    def _last_cursor(self) -> tuple[int, str | None] | None:
        cursor = self.cursor
        for message in self._waiting:
            cursor = _position(message, cursor) or cursor
        return cursor


def refusal(event: Message) -> Refused:
    """Returns the error for an `error` event that refuses to follow a conversation."""
    error = event.get("error")
    known = error if isinstance(error, dict) else {}
    own = known.get("holdline")
    code = own.get("error_code") if isinstance(own, dict) else known.get("code")
    status = event.get("status")
    return Refused(
        str(code or "refused"),
        str(known.get("message") or "The server refused to follow the conversation."),
        status=status if isinstance(status, int) else 0,
        param=known.get("param"),
    )


def _position(
    message: Message, cursor: tuple[int, str | None] | None
) -> tuple[int, str | None] | None:
    """Returns the cursor after a message, or None if the message does not change it."""
    number, id_ = message.get("sequence_number"), message.get("event_id")
    if "stream_id" in message or not isinstance(number, int):
        return None
    if message["type"] == FOLLOWING:
        # The events after the client's cursor follow, so the cursor stays. After a reset, all
        # events of a conversation follow. A list begins with its current state.
        if message.get("reset") and "conversation" in message:
            return -1, None
        if cursor is not None and not message.get("reset"):
            return None
    return number, id_ if isinstance(id_, str) else None
