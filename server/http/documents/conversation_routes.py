"""The routes of conversations, compaction and the count of input tokens, for `/openapi.json`."""

from __future__ import annotations

from typing import Any, Final

from jobs.support import INCLUDES
from server.api import conversation_events as events
from server.api import conversations as sent
from server.api.schema import bodies
from server.api.schema.conversations import Conversation
from server.api.validation import MAX_SEQUENCE
from server.http import conversation_events
from server.http.conversation_events import CURSOR_PATTERN
from server.http.query import LAST_EVENT_ID

COMPACT: Final = "/v1/responses/compact"
TOKENS: Final = "/v1/responses/input_tokens"
CONVERSATIONS: Final = "/v1/conversations"
ONE: Final = f"{CONVERSATIONS}/{{id}}"
EVENTS: Final = conversation_events.PATH
ITEMS: Final = f"{ONE}/items"
ITEM: Final = f"{ITEMS}/{{item_id}}"

ROUTES: Final = (
    ("post", COMPACT, "Compact a conversation", dict[str, Any], bodies.Compacted),
    ("post", TOKENS, "Count the input tokens of a request", dict[str, Any], bodies.InputTokens),
    ("get", CONVERSATIONS, "List your conversations", None, bodies.ConversationList),
    ("post", CONVERSATIONS, "Create a conversation", sent.ConversationCreate, Conversation),
    ("get", ONE, "Get a conversation", None, Conversation),
    ("post", ONE, "Replace the metadata", sent.ConversationUpdate, Conversation),
    ("delete", ONE, "Delete a conversation", None, bodies.DeletedConversation),
    ("get", EVENTS, "Follow the events of a conversation", None, "text/event-stream"),
    ("get", ITEMS, "List the items of a conversation", None, bodies.Items),
    ("post", ITEMS, "Add items to a conversation", sent.ItemsCreate, bodies.Items),
    ("get", ITEM, "Get an item of a conversation", None, dict[str, Any]),
    ("delete", ITEM, "Delete an item of a conversation", None, Conversation),
)

# The types of the messages that the stream of a conversation's events contains.
STREAMED: Final = (
    events.FOLLOWING,
    *events.TYPES.values(),
    events.DELETED,
    "holdline:expiring",
    "error",
)

_WORD: Final = {"type": "string"}
KEY: Final = ("header", "Idempotency-Key", {**_WORD, "minLength": 1, "maxLength": 255})
_INCLUDE: Final = (
    "query",
    "include",
    {"type": "array", "items": {"enum": sorted(INCLUDES)}},
)
_PAGE: Final = (
    ("query", "order", {"enum": ["asc", "desc"], "default": "desc"}),
    ("query", "limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
    ("query", "after", _WORD),
)
# A request without a body creates an empty conversation.
OPTIONAL_BODY: Final = (("post", CONVERSATIONS),)
PARAMETERS: Final = {
    ("post", COMPACT): (KEY,),
    ("post", CONVERSATIONS): (KEY,),
    ("post", ITEMS): (KEY, _INCLUDE),
    ("get", CONVERSATIONS): (*_PAGE, ("query", "query", {**_WORD, "maxLength": 512})),
    ("get", EVENTS): (
        ("query", "starting_after", {"type": "integer", "minimum": -1, "maximum": MAX_SEQUENCE}),
        ("query", "event_id", {**_WORD, "maxLength": conversation_events.MAX_EVENT_ID}),
        # An empty header is one of a client without a last event.
        ("header", LAST_EVENT_ID, {**_WORD, "pattern": f"^({CURSOR_PATTERN})?$"}),
    ),
    ("get", ITEMS): (*_PAGE, _INCLUDE),
    ("get", ITEM): (_INCLUDE,),
}
