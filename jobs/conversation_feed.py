"""Reads the feeds of conversations, which are logs of the events that devices follow.

A conversation has a feed, and so has the list of all conversations of an end user. The scripts that
change a conversation append the events in the same step, so a change and its event cannot be lost
separately. `_feeds.lua` describes the keys.

The index of an event is its sequence number, which is a cursor. A number alone cannot show that
Redis has lost events and then appended others, so each event also has an id. It is a hash of the
event and its time in microseconds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from .conversation_branches import branches_of
from .conversations import conversation_arguments
from .errors import RedisRefused, Undecodable, UnknownConversation
from .ids import partition_of_account
from .log.codec import is_item, item_of, metadata_of
from .names import Partition, conversation_names_of
from .scripts import calls

if TYPE_CHECKING:
    from .conversation_branches import Branches
    from .record import SharedSettings
    from .redis.pipe import Pipe

Item = dict[str, Any]

MAX_EVENTS: Final = 100  # the maximum number of events that one read returns
# The maximum size in bytes of the items that one read returns with several new events.
MAX_ITEM_BYTES: Final = 262_144
_decode: Final = msgspec.msgpack.Decoder(list[Any]).decode


@dataclass(frozen=True, slots=True)
class ConversationState:
    """The state of a conversation that devices see.

    `updated_at` is in milliseconds since 1970. `read` is the number of the last event that the user
    has read, and `news` that of the last event about items; both are -1 if there is none. `last` is
    the number of the last event, and `last_id` its id, or "". `running` contains the ids of the
    running responses.
    """

    id: str
    created_at: int
    updated_at: int
    metadata: dict[str, str]
    read: int
    news: int
    last: int
    last_id: str
    running: list[str]

    @property
    def is_unread(self) -> bool:
        """True if the conversation has items that the user has not read."""
        return self.news > self.read


@dataclass(frozen=True, slots=True)
class FeedEvent:
    """An event of a feed. `at` is in microseconds since 1970, and `kind` one of these:

        created
        updated             the metadata have changed
        items               first index, stop index, response id or "", field of the response or ""
        item_deleted        item id
        response_created    response id, previous response id or ""
        response_ended      response id, status, model or ""
        read                sequence number
        feedback            response id, number of changes of its feedback so far
        deleted             only in the feed of a list

    `values` contains what follows the kind. In the feed of a list it is the id of the conversation,
    and `state` is the current state of the conversation, or None if it does not exist any more.
    """

    number: int
    id: str
    at: int
    kind: str
    values: tuple[Any, ...]
    items: list[Item] = field(default_factory=list)
    state: ConversationState | None = None


class FeedPage(NamedTuple):
    """A part of the feed of a conversation, and the state of the conversation.

    The events are consecutive. `owner` is the owner of the conversation.
    """

    owner: str
    state: ConversationState
    events: list[FeedEvent]


class ListPage(NamedTuple):
    """A page of a user's conversations, and the last event of the user's feed at that moment.

    `last` is the number of that event, or -1, and `last_id` its id, or "".
    """

    last: int
    last_id: str
    has_more: bool
    conversations: list[ConversationState]


class FeedStore:
    """Reads the feeds of all partitions. All methods raise RedisTrouble, Undecodable."""

    def __init__(self, pipe: Pipe, settings: SharedSettings) -> None:
        self._pipe = pipe
        self._settings = settings

    async def read(
        self, id_: str, first: int, limit: int = MAX_EVENTS, *, is_first_known: bool = False
    ) -> FeedPage:
        """Returns the events of a conversation from the number `first` on.

        If `is_first_known` is True, the first event has no items, and at least one event follows it
        if there is one. If `first` is -1, returns no events. Raises: UnknownConversation.
        """
        while True:
            reply = await self._pipe.run(
                calls.read_feed(
                    **conversation_arguments(id_),
                    first=first,
                    knows_first=int(is_first_known),
                    limit=limit,
                    max_bytes=MAX_ITEM_BYTES,
                )
            )
            if not reply:
                raise UnknownConversation(id_)
            owner, state, is_incomplete, events = reply
            if not is_incomplete:
                break
            await self._complete(id_)
        found = []
        for number, entry, entries in events:
            cipher = self._pipe.cipher
            items = [item_of(id_, one, cipher) for one in entries if is_item(one)]
            found.append(_event(number, entry, items=items))
        return FeedPage(owner.decode(), self._state(state), found)

    async def branches(self, id_: str) -> Branches:
        """Returns the turns of a conversation. Raises: UnknownConversation."""
        while True:
            reply = await self._pipe.run(calls.read_branches(**conversation_arguments(id_)))
            if not reply:
                raise UnknownConversation(id_)
            is_incomplete, entries = reply
            if not is_incomplete:
                break
            await self._complete(id_)
        events = (_event(0, entry) for entry in entries)
        return branches_of((event.kind, event.values) for event in events)

    async def _complete(self, id_: str) -> None:
        """Appends the missing events about items that a process of an older version appended."""
        await self._pipe.run(calls.complete_feed(**conversation_arguments(id_)))

    async def read_list(self, account: str, first: int) -> tuple[int, list[FeedEvent]]:
        """Returns the number of the last event of an account's feed, and the events from `first`.

        The number is -1 if there are no events. If `first` is -1, returns no events.
        """
        last, events = await self._pipe.run(
            calls.read_list_feed(**self._list_arguments(account), first=first, limit=MAX_EVENTS)
        )
        return last, [
            _event(number, entry, state=None if state is None else self._state(state))
            for number, entry, state in events
        ]

    async def page(self, account: str, *, after: str, order: str, limit: int) -> ListPage:
        """Returns a page of an account's conversations, sorted by their last change.

        `after` is the id of the conversation before the page, or "" for the first page. `order` is
        "asc" or "desc". Raises: LookupError if the list does not have the conversation `after`.
        """
        match await self._pipe.run(
            calls.list_conversations(
                **self._list_arguments(account), after=after, order=order, limit=limit
            )
        ):
            case [b"page", int(last), bytes(entry), more, [*states]]:
                last_id = _id_of(entry) if entry else ""
                return ListPage(last, last_id, bool(more), [self._state(one) for one in states])
            case [b"unknown"]:
                raise LookupError(after)
            case _:
                raise RedisRefused("a script of conversations returned an unexpected reply")

    async def mark_read(self, id_: str, owner: str, number: int) -> None:
        """Records that the user has read the events of a conversation up to a number.

        Raises: UnknownConversation, also if this is not the owner.
        """
        call = calls.mark_read(
            **conversation_arguments(id_),
            owner=owner,
            number=number,
            ttl_ms=self._settings.conversation_ms,
        )
        if await self._pipe.run(call) != [b"ok"]:
            raise UnknownConversation(id_)

    async def note_feedback(self, id_: str, response_id: str, changes: int) -> None:
        """Appends an event to a feed, because the feedback on a response has changed.

        `changes` is the number of changes of the feedback so far. Does nothing if the conversation
        does not exist or its feed is full.
        """
        await self._pipe.run(
            calls.note_feedback(
                **conversation_arguments(id_),
                response=response_id,
                changes=changes,
                ttl_ms=self._settings.conversation_ms,
                max_events=self._settings.max_feed_events,
            )
        )

    def channel_of(self, id_: str) -> str:
        """Returns the channel of the notifications about a conversation. Raises: as `read`."""
        return conversation_names_of(id_).notifications(id_)

    def list_channel_of(self, account: str) -> str:
        """Returns the channel of the notifications about an account's conversations."""
        return self.names_of(account).notifications(account)

    def names_of(self, account: str) -> Partition:
        """Returns the names of the keys in the partition of all conversations of an account."""
        return Partition(partition_of_account(self._settings.partitions, account))

    def _list_arguments(self, account: str) -> dict[str, str]:
        names = self.names_of(account)
        key = names.conversation_list(account)
        return {"list_key": key, "prefix": names.prefix, "account": account}

    def _state(self, reply: list[Any]) -> ConversationState:
        id_, created_at, updated_at, metadata, read, news, last, entry, running = reply
        name = id_.decode()
        return ConversationState(
            name,
            created_at,
            updated_at,
            metadata_of(name, metadata, self._pipe.cipher),
            read,
            news,
            last,
            _id_of(entry) if entry else "",
            [one.decode() for one in running],
        )


def _id_of(entry: bytes) -> str:
    return f"evt_{hashlib.blake2b(entry, digest_size=12).hexdigest()}"


def _event(
    number: int,
    entry: bytes,
    *,
    items: list[Item] | None = None,
    state: ConversationState | None = None,
) -> FeedEvent:
    try:
        at, kind, *values = _decode(entry)
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise Undecodable("an event of a feed has an unknown format") from error
    return FeedEvent(number, _id_of(entry), at, str(kind), tuple(values), items or [], state)
