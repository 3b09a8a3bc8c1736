"""The types of conversations, and of the messages about them that a socket's client receives."""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import UNSET, Struct, UnsetType

from .tagged import tagged


class Conversation(Struct):
    id: str
    object: Literal["conversation"]
    created_at: int
    metadata: dict[str, str]


class ConversationStatus(Struct):
    """The state of a conversation that devices see.

    `updated_at_ms` is the time of the last change in milliseconds since 1970. `running` contains
    the ids of the running responses. `read` is the number of the last event that the user has read,
    or -1; `sequence_number` is that of the last event.
    """

    updated_at_ms: int
    running: list[str]
    read: int
    unread: bool
    sequence_number: int


class ListedConversation(Conversation):
    """A conversation in the list of an end user."""

    holdline: ConversationStatus


class FollowedConversation(Struct, kw_only=True):
    """The state of a followed conversation, or of the list of an end user's conversations.

    `conversation` is present for a conversation, and `conversations` and `has_more` for the list.
    If `reset` is true, the client discards what it has.
    """

    sequence_number: int
    event_id: str | None
    reset: bool
    conversation: ListedConversation | UnsetType = UNSET
    conversations: list[ListedConversation] | UnsetType = UNSET
    has_more: bool | UnsetType = UNSET


class Unfollowed(Struct):
    conversation: str | None


class Cursor(Struct, kw_only=True):
    """The cursor of an event of a feed: its number and its id."""

    sequence_number: int
    event_id: str
    created_at: int


class ConversationEvent(Cursor, kw_only=True):
    """An event of a conversation."""

    conversation: str


class ConversationChanged(ConversationEvent):
    metadata: dict[str, str]


class ItemsAdded(ConversationEvent):
    """New items, of the input or the output of a response.

    `response_id` and `field` are null for items that a client has added.
    """

    items: list[dict[str, Any]]
    response_id: str | None
    field: Literal["input", "output"] | None


class ItemDeleted(ConversationEvent):
    item_id: str


class ResponseBegun(ConversationEvent):
    """A response has begun. `previous_response_id` is null if it continues no other response."""

    response_id: str
    previous_response_id: str | None


class ResponseOver(ConversationEvent):
    """A response has ended. Its status is `deleted` if it does not exist any more.

    `model` is null if no model answered.
    """

    response_id: str
    status: Literal["completed", "incomplete", "failed", "cancelled", "deleted"]
    model: str | None


class ConversationRead(ConversationEvent):
    """The end user has read the events up to the number `read`."""

    read: int


class FeedbackChanged(ConversationEvent):
    """The feedback on a response was stored. `GET /v1/responses/{id}/feedback` returns it."""

    response_id: str


class ConversationDeleted(Struct):
    """A followed conversation was deleted or has expired. Nothing more follows."""

    conversation: str


class ListChanged(Cursor):
    """A conversation of the list has changed. `conversation` is its current state."""

    change: Literal[
        "created", "updated", "items.added", "response.created", "response.ended", "read"
    ]
    conversation: ListedConversation


class ListDeleted(Cursor):
    """A conversation of the list was deleted or has expired."""

    conversation: str


CONVERSATION_MESSAGES: Final[dict[str, type[Struct]]] = {
    **tagged(FollowedConversation, "holdline:following"),
    **tagged(Unfollowed, "holdline:unfollowed"),
    **tagged(ConversationChanged, "holdline:conversation.created", "holdline:conversation.updated"),
    **tagged(ItemsAdded, "holdline:conversation.items.added"),
    **tagged(ItemDeleted, "holdline:conversation.item.deleted"),
    **tagged(ResponseBegun, "holdline:conversation.response.created"),
    **tagged(ResponseOver, "holdline:conversation.response.ended"),
    **tagged(ConversationRead, "holdline:conversation.read"),
    **tagged(FeedbackChanged, "holdline:conversation.feedback"),
    **tagged(ConversationDeleted, "holdline:conversation.deleted"),
    **tagged(ListChanged, "holdline:list.changed"),
    **tagged(ListDeleted, "holdline:list.deleted"),
}
