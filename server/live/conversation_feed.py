"""Distributes the events of conversations, and of users' lists of conversations, on this server.

A feed of this module has a subscription, and the followers of one conversation or of one list on
this server. Its notifications only say that there are new events. Each follower then reads from its
cursor, and followers with the same cursor share one read and one encoding of its events.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from server.api.conversation_events import (
    conversation_event,
    conversation_followed,
    list_event,
    list_followed,
)

from .conversation_follower import ConversationFollower
from .conversation_look import FeedLook, FeedStart

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from jobs.conversation_feed import FeedStore

    from .conversation_follower import FeedSink
    from .conversation_look import Source
    from .relay import Relay

# The number of conversations that a client gets when it begins to follow its list.
LISTED: Final = 100


class ConversationSource:
    """The feed of one conversation."""

    has_whole_log = True

    def __init__(self, store: FeedStore, conversation_id: str) -> None:
        self._store = store
        self._id = conversation_id

    @property
    def channel(self) -> str:
        """The channel of the conversation's notifications. Raises: UnknownConversation."""
        return self._store.channel_of(self._id)

    async def start(self) -> FeedStart:
        """Returns the state of the conversation."""
        owner, state, _ = await self._store.read(self._id, -1)
        return FeedStart(
            owner,
            state.last,
            state.last_id,
            state.running,
            conversation_followed(state, reset=False),
            conversation_followed(state, reset=True),
        )

    async def look(self, first: int, *, is_first_known: bool) -> FeedLook:
        """Returns events of the conversation."""
        read = self._store.read(self._id, first, is_first_known=is_first_known)
        owner, state, events = await read
        messages = [conversation_event(state, event) for event in events]
        return FeedLook(owner, state.last, state.running, events, messages)


class ListSource:
    """The feed of the list of all conversations of one end user, who is their owner."""

    has_whole_log = False

    def __init__(self, store: FeedStore, owner: str) -> None:
        self._store = store
        self._owner = owner

    @property
    def channel(self) -> str:
        """The channel of the list's notifications."""
        return self._store.list_channel_of(self._owner)

    async def start(self) -> FeedStart:
        """Returns the user's newest conversations."""
        page = await self._store.page(self._owner, after="", order="desc", limit=LISTED)
        return FeedStart(
            self._owner,
            page.last,
            page.last_id,
            [],
            list_followed(page, reset=False),
            list_followed(page, reset=True),
        )

    async def look(self, first: int, *, is_first_known: bool) -> FeedLook:
        """Returns events of the list."""
        del is_first_known  # the events of a list have no items
        last, events = await self._store.read_list(self._owner, first)
        return FeedLook(self._owner, last, [], events, [list_event(event) for event in events])


class ConversationFeed:
    """Distributes the notifications about one conversation or list to its followers."""

    def __init__(self, feeds: ConversationFeeds, source: Source, key: tuple[str, bool]) -> None:
        self._feeds = feeds
        self.key = key
        self.source = source
        self.channel = source.channel
        self.followers: set[ConversationFollower] = set()
        self.confirmed = False
        self.notified_at = time.monotonic()
        # The reads under way, by the arguments of `look`.
        self._reads: dict[tuple[int, bool], asyncio.Task[FeedLook]] = {}

    @property
    def partition(self) -> int:
        """The number of the partition that contains the feed."""
        return int(self.channel.partition("{")[2].partition("}")[0])

    def notify(self, payload: bytes) -> None:
        """Handles a notification: the number of the last event, or `gone`."""
        self.notified_at = time.monotonic()
        # A read that was already sent may miss the event, so no other follower may share it.
        self._reads.clear()
        number = int(payload) if payload.isdigit() else None
        for follower in list(self.followers):
            follower.notify(number)

    def gap(self) -> None:
        """Makes all followers read the feed, because notifications may have been missed."""
        self.confirmed = True
        self.notified_at = time.monotonic()
        self._reads.clear()
        for follower in list(self.followers):
            follower.catch_up()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Starts a follower's read as a task that the relay cancels and awaits when it closes."""
        return self._feeds.relay.spawn(work)

    async def start(self) -> FeedStart:
        """Returns the current state. Raises: as `Source.start`."""
        return await self._feeds.relay.limited(self.source.start)

    async def look(self, first: int, *, is_first_known: bool) -> FeedLook:
        """Returns events from a number on; concurrent calls with these arguments share one read.

        Raises: as `Source.look`.
        """
        key = first, is_first_known
        if (read := self._reads.get(key)) is None:
            relay, look = self._feeds.relay, self.source.look
            limited = relay.limited(partial(look, first, is_first_known=is_first_known))
            read = self._reads[key] = relay.share(limited)
        try:
            return await asyncio.shield(read)
        finally:
            if self._reads.get(key) is read and read.done():
                del self._reads[key]
            del read  # breaks a reference cycle with the traceback of an exception

    def drop(self, follower: ConversationFollower) -> None:
        """Removes a follower, and ends the subscription with the last one."""
        self.followers.discard(follower)
        if not self.followers:
            self._feeds.release(self)


class ConversationFeeds:
    """The feeds of all conversations and lists that are followed on this server."""

    def __init__(self, relay: Relay, store: FeedStore) -> None:
        self.relay = relay
        self._store = store
        self._feeds: dict[tuple[str, bool], ConversationFeed] = {}

    def follow(
        self,
        conversation_id: str | None,
        owner: str,
        viewer: str,
        sink: FeedSink,
        *,
        after: int | None,
        event_id: str,
    ) -> ConversationFollower:
        """Returns a new follower of a conversation, or of the list of `owner` if the id is None.

        The follower reads once the subscription is confirmed. `ConversationFollower` describes
        `after` and `event_id`. Raises: UnknownConversation if no conversation can have this id.
        """
        key = (owner, True) if conversation_id is None else (conversation_id, False)
        feed = self._feeds.get(key)
        if feed is None:
            if conversation_id is None:
                source: Source = ListSource(self._store, owner)
            else:
                source = ConversationSource(self._store, conversation_id)
            feed = self._feeds[key] = ConversationFeed(self, source, key)
            self.relay.watch(feed)
            self.relay.subscriber.subscribe(feed.channel, feed.notify, feed.gap)
        follower = ConversationFollower(
            feed, conversation_id, viewer, sink, after=after, event_id=event_id
        )
        feed.followers.add(follower)
        if feed.confirmed:
            follower.catch_up()
        return follower

    def release(self, feed: ConversationFeed) -> None:
        """Removes a feed and its subscription."""
        if self._feeds.get(feed.key) is feed:
            del self._feeds[feed.key]
            self.relay.unwatch(feed)
            self.relay.subscriber.unsubscribe(feed.channel)
