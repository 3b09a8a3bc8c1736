"""The results of reads of a feed, and the interface of the objects that read one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from jobs.conversation_feed import FeedEvent
    from server.api.shared_message import SharedMessage


class FeedStart(NamedTuple):
    """The state with which a follower begins.

    `last` is the number of the last event, or -1, and `last_id` its id. `message` announces the
    state, and `reset` does so if the client's cursor is not valid any more.
    """

    owner: str
    last: int
    last_id: str
    running: list[str]
    message: SharedMessage
    reset: SharedMessage


class FeedLook(NamedTuple):
    """The result of one read: consecutive events with their messages.

    `last` is the number of the last event of the feed, and `running` contains the ids of the
    running responses. All followers that share the read use the same object, so none may modify it.
    """

    owner: str
    last: int
    running: list[str]
    events: list[FeedEvent]
    messages: list[SharedMessage | None]


class Source(Protocol):
    """Reads one feed from Redis."""

    @property
    def channel(self) -> str:
        """The channel of the feed's notifications."""

    @property
    def has_whole_log(self) -> bool:
        """True if the events from the first one on give the whole state to a client."""

    async def start(self) -> FeedStart:
        """Returns the current state. Raises: UnknownConversation, Undecodable, RedisTrouble."""

    async def look(self, first: int, *, is_first_known: bool) -> FeedLook:
        """Returns events from the number `first` on. Raises: as `start`.

        If `is_first_known` is True, only the id of the first event is of use to the follower.
        """
