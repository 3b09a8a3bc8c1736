"""A follower of a conversation or of a list: a cursor on its feed.

It works like the follower of a response: the subscription is confirmed, and then the feed is read
from the cursor. Notifications carry no events, because these are rare: each one causes a read. The
first read, a gap, a slow socket and a lost event are therefore one path.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from jobs.errors import RedisTrouble, Undecodable, UnknownConversation
from runtime.backoff import backoff
from server.access.owners import sees
from server.api.refusals import from_error

from .log_follower import RETRY_SECONDS, FollowedLog, LogFollower

if TYPE_CHECKING:
    from server.api.problem import Problem
    from server.api.shared_message import SharedMessage

    from .conversation_look import FeedLook, FeedStart, Source


class FollowedConversation(FollowedLog, Protocol):
    """The members of `ConversationFeed` that a follower uses."""

    source: Source

    async def start(self) -> FeedStart:
        """Returns the current state."""

    async def look(self, first: int, *, is_first_known: bool) -> FeedLook:
        """Returns events from a number on, as `Source.look` does."""


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


class ConversationFollower(LogFollower[FollowedConversation, FeedSink]):
    """Delivers the events after the client's cursor to a sink, each once and in order.

    The cursor is the number `after` of an event, and its id, or "" if the client does not know it.
    If `after` is None, the client gets the current state and later events. `conversation_id` is
    None for a list. If the feed does not continue the cursor, because Redis has lost events or
    removed old ones, the client gets the current state again, with `reset`.
    """

    __slots__ = (
        "_after",
        "_begun",
        "_event_id",
        "_heard",
        "_known",
        "_next",
        "_viewer",
        "conversation_id",
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
        super().__init__(feed, sink)
        self.conversation_id = conversation_id
        self._viewer = viewer
        self._after = after
        self._event_id = event_id
        self._begun = False
        self._next = 0  # the number of the next event
        self._known = ""  # the id of the event before it, or "" if it is unknown
        self._heard = -1

    def notify(self, number: int | None) -> None:
        """Handles a notification: the feed has an event `number`, or has ended if it is None."""
        if number is None:
            self.catch_up()
        else:
            self._heard = max(self._heard, number)
            # If an event with this number was already shown, Redis may have lost that event.
            if self._live:
                self.catch_up()
            elif self._begun and number < self._next:
                self._doubted = True  # the running read may have seen the feed before the change

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
        start = await self.feed.start()
        self._check(start.owner)
        reset = False
        self._next, self._known = start.last + 1, start.last_id
        if self._after is not None:
            known = await self._id_at(self._after, start.last)
            reset = known is None
            if known is not None:
                self._next, self._known = self._after + 1, known
            elif self.feed.source.has_whole_log:
                self._next, self._known = 0, ""
        self._show_start(start, reset=reset)
        return False

    async def _continue(self) -> bool:
        """Shows the next events. Returns True if there were no further events."""
        known = bool(self._known)
        look = await self.feed.look(self._next - known, is_first_known=known)
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
        events = (await self.feed.look(number, is_first_known=True)).events
        if not events:
            return "" if last < 0 else None
        first = events[0]
        if first.number != number:
            return None
        if after < 0:
            return ""
        return first.id if self._event_id in ("", first.id) else None

    async def _reset(self) -> None:
        start = await self.feed.start()
        self._check(start.owner)
        whole = self.feed.source.has_whole_log
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
