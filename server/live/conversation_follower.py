"""A follower of a conversation or of a list: a cursor on its feed.

It works like the follower of a response: the subscription is confirmed, and then the feed is read
from the cursor. Notifications carry no events, because these are rare: each one causes a read. The
first read, a gap, a slow socket and a lost event are therefore one path.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Protocol

from jobs.errors import RedisTrouble, Undecodable, UnknownConversation
from runtime.backoff import backoff
from server.access.owners import sees
from server.api.refusals import from_error

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from server.api.problem import Problem
    from server.api.shared_message import SharedMessage

    from .conversation_look import FeedLook, FeedStart, Source

RETRY_SECONDS: Final = (0.1, 2.0)


class FollowedConversation(Protocol):
    """The members of `ConversationFeed` that a follower uses."""

    source: Source
    confirmed: bool

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Starts a follower's read as a task."""

    async def start(self) -> FeedStart:
        """Returns the current state."""

    async def look(self, first: int) -> FeedLook:
        """Returns events from a number on."""

    def drop(self, follower: ConversationFollower) -> None:
        """Removes a follower that has stopped following."""


class FeedSink(Protocol):
    """The destination of a follower's messages. Its methods never block."""

    @property
    def writable(self) -> bool:
        """False while the sink could only buffer further messages in memory.

        The sink calls `ConversationFollower.catch_up` once it is writable again.
        """

    def show(
        self, follower: ConversationFollower, message: SharedMessage, running: list[str]
    ) -> None:
        """Accepts the message of an event, or the first message.

        `running` contains the ids of the running responses of the conversation.
        """

    def ended(self, follower: ConversationFollower, problem: Problem | None) -> None:
        """Reports the end of following: a problem, or None if the conversation was deleted."""


class ConversationFollower:
    """Delivers the events after the client's cursor to a sink, each once and in order.

    The cursor is the number `after` of an event, and its id, or "" if the client does not know it.
    If `after` is None, the client gets the current state and later events. `conversation_id` is
    None for a list. If the feed does not continue the cursor, because Redis has lost events or
    removed old ones, the client gets the current state again, with `reset`.
    """

    __slots__ = (
        "_after",
        "_begun",
        "_doubted",
        "_event_id",
        "_feed",
        "_heard",
        "_known",
        "_live",
        "_next",
        "_reading",
        "_sink",
        "_viewer",
        "conversation_id",
        "done",
    )

    def __init__(
        self,
        feed: FollowedConversation,
        conversation_id: str | None,
        viewer: str,
        sink: FeedSink,
        *,
        after: int | None,
        event_id: str,
    ) -> None:
        self.conversation_id = conversation_id
        self.done = False
        self._feed = feed
        self._viewer = viewer
        self._sink = sink
        self._after = after
        self._event_id = event_id
        self._begun = False
        self._next = 0  # the number of the next event
        self._known = ""  # the id of the event before it, or "" if it is unknown
        self._heard = -1
        # True if events may have been missed since the current read began.
        self._doubted = False
        self._live = False
        self._reading: asyncio.Task[None] | None = None

    def notify(self, number: int | None) -> None:
        """Handles a notification: the feed has an event `number`, or has ended if it is None."""
        if number is None:
            self.catch_up()
        else:
            self._heard = max(self._heard, number)
            if self._live and number >= self._next:
                self.catch_up()

    def catch_up(self) -> None:
        """Reads the feed from the cursor until no event is missing; may be called at any time."""
        self._live = False
        self._doubted = True
        if self._reading is None and not self.done:
            self._reading = self._feed.spawn(self._read())

    def catch_up_if_behind(self) -> None:
        """Reads the events, if any, that the sink missed while it was not writable."""
        if not self._live and self._feed.confirmed:
            self.catch_up()

    def leave(self) -> None:
        """Stops following; the sink receives nothing more."""
        if not self.done:
            self.done, self._live = True, False
            if self._reading is not None:
                self._reading.cancel()
            self._feed.drop(self)

    def _end(self, problem: Problem | None) -> None:
        if not self.done:
            self.done, self._live = True, False
            self._feed.drop(self)
            self._sink.ended(self, problem)

    async def _read(self) -> None:
        failures = 0
        try:
            while self._sink.writable and not self.done:
                # An event that is announced during a read may be missing from its result.
                self._heard, self._doubted = -1, False
                try:
                    is_complete = await (self._continue() if self._begun else self._begin())
                except RedisTrouble:
                    failures += 1
                    await asyncio.sleep(backoff(failures, *RETRY_SECONDS))
                except UnknownConversation as error:
                    self._end(None if self._begun else from_error(error))
                except Undecodable as error:
                    self._end(from_error(error))
                else:
                    failures = 0
                    if is_complete and not self._doubted:
                        self._live = not self.done
                        return
        finally:
            self._reading = None

    async def _begin(self) -> bool:
        """Shows the current state, and sets the cursor. Returns False: events may follow."""
        start = await self._feed.start()
        self._check(start.owner)
        reset = False
        self._next, self._known = start.last + 1, start.last_id
        if self._after is not None:
            known = await self._id_at(self._after, start.last)
            reset = known is None
            if known is not None:
                self._next, self._known = self._after + 1, known
            elif self._feed.source.has_whole_log:
                self._next, self._known = 0, ""
        self._show_start(start, reset=reset)
        return False

    async def _continue(self) -> bool:
        """Shows the next events. Returns True if there were no further events."""
        known = bool(self._known)
        look = await self._feed.look(self._next - known)
        self._check(look.owner)
        numbers = [event.number for event in look.events]
        first = look.events[0] if look.events else None
        is_same = not known or (first is not None and first.id == self._known)
        expected = [*range(self._next - known, self._next - known + len(numbers))]
        if look.last < self._next - 1 or numbers != expected or not is_same:
            await self._reset()
            return False
        for event, message in zip(look.events[known:], look.messages[known:], strict=True):
            if self.done or not self._sink.writable:
                return False
            self._next, self._known = event.number + 1, event.id
            if message is not None:
                self._sink.show(self, message, look.running)
        return self._next > max(look.last, self._heard)

    async def _id_at(self, after: int, last: int) -> str | None:
        """Returns the id of the event at the client's cursor, or "" for a cursor before all events.

        Returns None if the feed does not continue after the cursor.
        """
        if after > last:
            return None
        number = max(after, 0)
        events = (await self._feed.look(number)).events
        if not events:
            return "" if last < 0 else None
        first = events[0]
        if first.number != number:
            return None
        if after < 0:
            return ""
        return first.id if self._event_id in ("", first.id) else None

    async def _reset(self) -> None:
        start = await self._feed.start()
        self._check(start.owner)
        whole = self._feed.source.has_whole_log
        self._next, self._known = (0, "") if whole else (start.last + 1, start.last_id)
        self._show_start(start, reset=True)

    def _show_start(self, start: FeedStart, *, reset: bool) -> None:
        if not self.done:
            self._begun = True
            self._sink.show(self, start.reset if reset else start.message, start.running)

    def _check(self, owner: str) -> None:
        """Raises UnknownConversation if the viewer may not see the conversation."""
        if not sees(self._viewer, owner):
            raise UnknownConversation(self.conversation_id or "")
