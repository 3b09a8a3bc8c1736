"""Validates the bodies of the Conversations API, and builds its objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Meta

from .items import Item
from .problem import Problem, invalid
from .request import Key, parse_create

if TYPE_CHECKING:
    from jobs.conversations import Conversation

MAX_ADDED: Final = 20
Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]],
    Meta(max_length=16),
]


class ConversationCreate(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/conversations`."""

    items: Annotated[list[Item], Meta(max_length=MAX_ADDED)] | None = None
    metadata: Metadata | None = None
    idempotency_key: Key | None = None


class ConversationUpdate(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/conversations/{id}`."""

    metadata: Metadata | None


class ItemsCreate(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/conversations/{id}/items`."""

    items: Annotated[list[Item], Meta(min_length=1, max_length=MAX_ADDED)]
    idempotency_key: Key | None = None


def metadata_in(body: dict[str, Any], *, required: bool = False) -> dict[str, str]:
    """Returns the metadata in a body; null means no metadata. Raises: Problem."""
    if "metadata" not in body and required:
        raise invalid("metadata", "'metadata' is required.", "missing_required_parameter")
    found = body.get("metadata")
    if found is None:
        return {}
    # The parameter of a response has the same bounds.
    return parse_create({"input": "", "model": "any", "metadata": found}).metadata or {}


def items_in(body: dict[str, Any], *, required: bool = False) -> list[Item]:
    """Returns the items in a body. Raises: Problem, which names the item."""
    found = body.get("items")
    if found is None and not required:
        return []
    if not isinstance(found, list) or len(found) > MAX_ADDED or (required and not found):
        least = 1 if required else 0
        raise invalid("items", f"'items' must be a list of {least} to {MAX_ADDED} items.")
    try:
        return parse_create({"input": found, "model": "any"}).items
    except Problem as problem:
        raise of_items(problem) from None


def of_items(problem: Problem) -> Problem:
    """Changes the name `input` in an error to `items`, and returns the error."""
    param = problem.param
    if param is not None and param.startswith("input"):
        problem.param = f"items{param.removeprefix('input')}"
        problem.message = problem.message.replace(f"'{param}'", f"'{problem.param}'")
    return problem


def check_names(body: dict[str, Any], *names: str) -> None:
    """Raises Problem if a body has a member that is not in `names`."""
    for name in body:
        if name not in names:
            raise invalid(name, f"Unknown parameter: '{name[:64]}'.", "unknown_parameter")


def shown(conversation: Conversation) -> dict[str, Any]:
    """Returns the standard's object for a conversation."""
    return {
        "id": conversation.id,
        "object": "conversation",
        "created_at": conversation.created_at,
        "metadata": conversation.metadata,
    }


def item_list(items: list[dict[str, Any]], *, has_more: bool = False) -> dict[str, Any]:
    """Returns the standard's object for a page of items."""
    return {
        "object": "list",
        "data": items,
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }
