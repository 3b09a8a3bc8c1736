"""The conversations that one socket follows, and their running responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from jobs.errors import HoldlineError
from server.api.client_messages import FollowConversation, MarkRead, UnfollowConversation
from server.api.conversation_events import conversation_deleted, unfollowed
from server.api.problem import Problem
from server.api.refusals import from_error, subject_required

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from jobs.conversation_feed import FeedStore
    from server.access.principal import Principal
    from server.api.shared_message import SharedMessage
    from server.live.conversation_feed import ConversationFeeds
    from server.live.conversation_follower import ConversationFollower

# The maximum number of conversations that one socket follows, with the list counted as one.
MAX_CONVERSATIONS: Final = 64


class FollowingSocket(Protocol):
    """The members of `Socket` that `Following` uses."""

    @property
    def writable(self) -> bool:
        """False while the client reads more slowly than the server writes."""

    def say(self, message: dict[str, Any]) -> None:
        """Writes a message that is not part of a log."""

    def write_shared(self, message: SharedMessage) -> None:
        """Writes a message that several sockets receive."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Starts a task that ends with the socket."""

    def follow_running(self, response_ids: list[str]) -> None:
        """Follows the responses that the socket does not follow yet, if there is room."""

    def leave_running(self, response_ids: set[str]) -> None:
        """Stops following the responses that only `follow_running` has begun to follow."""


class Following:
    """The followed conversations of one socket. A `FeedSink` of their followers."""

    def __init__(self, socket: FollowingSocket, feeds: ConversationFeeds, store: FeedStore) -> None:
        self._socket = socket
        self._feeds = feeds
        self._store = store
        self._followers: dict[str | None, ConversationFollower] = {}
        # The responses of each conversation that were running when the client received its events.
        self._running: dict[str | None, set[str]] = {}

    def follow(self, who: Principal, message: FollowConversation) -> None:
        """Follows a conversation or the caller's list. Replaces the follower of an earlier call."""
        id_ = message.conversation
        try:
            if id_ is None and who.subject is None:
                raise subject_required()
            self._leave(id_)
            if len(self._followers) >= MAX_CONVERSATIONS:
                raise _too_many()
            self._followers[id_] = self._feeds.follow(
                id_,
                who.owner,
                who.viewer,
                self,
                after=message.starting_after,
                event_id=message.event_id or "",
            )
        except (Problem, HoldlineError) as error:
            self._socket.say(from_error(error).event(conversation=id_))

    def unfollow(self, message: UnfollowConversation) -> None:
        """Stops following a conversation and its running responses, or the caller's list."""
        id_ = message.conversation
        self._leave(id_)
        self._socket.say(unfollowed(id_))

    def mark_read(self, who: Principal, message: MarkRead) -> None:
        """Records up to which event the caller has read a conversation."""
        self._socket.spawn(self._mark_read(who.owner, message))

    async def _mark_read(self, owner: str, message: MarkRead) -> None:
        try:
            await self._store.mark_read(message.conversation, owner, message.sequence_number)
        except HoldlineError as error:
            problem = from_error(error)
            self._socket.say(problem.event(conversation=message.conversation))

    def catch_up(self) -> None:
        """Sends the events that the client missed while the socket was not writable."""
        for follower in list(self._followers.values()):
            follower.catch_up_if_behind()

    def leave(self) -> None:
        """Stops following all conversations when the socket ends."""
        for follower in self._followers.values():
            follower.leave()
        self._followers.clear()

    # The methods of `FeedSink`.

    @property
    def writable(self) -> bool:
        """False while the client reads more slowly than the server writes."""
        return self._socket.writable

    def show(
        self, follower: ConversationFollower, message: SharedMessage, running: list[str]
    ) -> None:
        """Writes a message, and follows the running responses."""
        self._socket.write_shared(message)
        fresh = set(running) - self._running.get(follower.conversation_id, set())
        self._running[follower.conversation_id] = set(running)
        if fresh:
            self._socket.follow_running([one for one in running if one in fresh])

    def ended(self, follower: ConversationFollower, problem: Problem | None) -> None:
        """Tells the client that the conversation was deleted or cannot be followed."""
        id_ = follower.conversation_id
        del self._followers[id_]
        self._running.pop(id_, None)
        if problem is not None:
            self._socket.say(problem.event(conversation=id_))
        elif id_ is not None:
            self._socket.write_shared(conversation_deleted(id_))

    def _leave(self, id_: str | None) -> None:
        if (follower := self._followers.pop(id_, None)) is not None:
            follower.leave()
            self._socket.leave_running(self._running.pop(id_, set()))


def _too_many() -> Problem:
    return Problem(
        429,
        "too_many",
        f"One socket may follow at most {MAX_CONVERSATIONS} conversations. Unfollow one of them.",
        param="conversation",
    )
