"""Builds the messages about conversations that devices receive over a WebSocket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .shared_message import SharedMessage

if TYPE_CHECKING:
    from jobs.conversation_feed import ConversationState, FeedEvent, ListPage

LIST_CHANGED: Final = "holdline:list.changed"
LIST_DELETED: Final = "holdline:list.deleted"
FOLLOWING: Final = "holdline:following"
# Maps the kinds of events to the types of their messages.
TYPES: Final = {
    "created": "holdline:conversation.created",
    "updated": "holdline:conversation.updated",
    "items": "holdline:conversation.items.added",
    "item_deleted": "holdline:conversation.item.deleted",
    "response_created": "holdline:conversation.response.created",
    "response_ended": "holdline:conversation.response.ended",
    "read": "holdline:conversation.read",
    "feedback": "holdline:conversation.feedback",
}
DELETED: Final = "holdline:conversation.deleted"


def listed(state: ConversationState) -> dict[str, Any]:
    """Returns the standard's object for a conversation, with Holdline's own `holdline` object."""
    return {
        "id": state.id,
        "object": "conversation",
        "created_at": state.created_at,
        "metadata": state.metadata,
        "holdline": {
            "updated_at_ms": state.updated_at,
            "running": state.running,
            "read": state.read,
            "unread": state.is_unread,
            "sequence_number": state.last,
        },
    }


def conversation_followed(state: ConversationState, *, reset: bool) -> SharedMessage:
    """Returns the first message about a followed conversation."""
    return SharedMessage(
        {
            "type": FOLLOWING,
            "conversation": listed(state),
            "sequence_number": state.last,
            "event_id": state.last_id or None,
            "reset": reset,
        }
    )


def list_followed(page: ListPage, *, reset: bool) -> SharedMessage:
    """Returns the first message about the followed list of a user's conversations."""
    return SharedMessage(
        {
            "type": FOLLOWING,
            "conversations": [listed(one) for one in page.conversations],
            "has_more": page.has_more,
            "sequence_number": page.last,
            "event_id": page.last_id or None,
            "reset": reset,
        }
    )


def conversation_deleted(conversation_id: str) -> SharedMessage:
    """Returns the last message about a followed conversation, which does not exist any more."""
    return SharedMessage({"type": DELETED, "conversation": conversation_id})


def unfollowed(conversation_id: str | None) -> dict[str, Any]:
    """Returns the answer to `holdline:unfollow`."""
    return {"type": "holdline:unfollowed", "conversation": conversation_id}


def conversation_event(state: ConversationState, event: FeedEvent) -> SharedMessage | None:
    """Returns the message for an event of a conversation.

    Returns None for a kind of event that this version does not know.
    """
    if event.kind not in TYPES:
        return None
    return SharedMessage(
        {
            "type": TYPES[event.kind],
            "conversation": state.id,
            **_cursor(event),
            **_fields(state, event),
        }
    )


def list_event(event: FeedEvent) -> SharedMessage | None:
    """Returns the message for an event in the feed of a list.

    The message has the current state of the conversation, which may be newer than the event.
    Returns None for a kind of event that this version does not know.
    """
    if event.kind == "deleted" or event.state is None:
        [id_] = event.values[:1]
        return SharedMessage({"type": LIST_DELETED, "conversation": id_, **_cursor(event)})
    if event.kind not in TYPES:
        return None
    return SharedMessage(
        {
            "type": LIST_CHANGED,
            "change": TYPES[event.kind].removeprefix("holdline:conversation."),
            "conversation": listed(event.state),
            **_cursor(event),
        }
    )


def _cursor(event: FeedEvent) -> dict[str, Any]:
    return {
        "sequence_number": event.number,
        "event_id": event.id,
        "created_at": event.at // 1_000_000,
    }


def _fields(state: ConversationState, event: FeedEvent) -> dict[str, Any]:
    match event.kind, *event.values:
        case ["created" | "updated", *_]:
            return {"metadata": state.metadata}
        case ["items", _, _, response_id, field, *_]:
            return {
                "items": event.items,
                "response_id": response_id or None,
                "field": field or None,
            }
        case ["item_deleted", item_id, *_]:
            return {"item_id": item_id}
        case ["response_created", response_id, previous, *_]:
            return {"response_id": response_id, "previous_response_id": previous or None}
        case ["response_ended", response_id, status, model, *_]:
            return {"response_id": response_id, "status": status, "model": model or None}
        case ["read", number, *_]:
            return {"read": number}
        case ["feedback", response_id, *_]:
            return {"response_id": response_id}
        case _:
            return {}
