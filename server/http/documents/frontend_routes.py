"""The routes for other front ends, for `/openapi.json`. Their protocols define the bodies."""

from __future__ import annotations

from typing import Any, Final

from server.http.frontends import ag_ui, ai_sdk, cursor, requests
from server.http.query import LAST_EVENT_ID

Route = tuple[str, str, str, Any, Any]

EVENTS: Final = "text/event-stream"
ROUTES: Final[tuple[Route, ...]] = (
    ("post", ai_sdk.PATH, "Answer a chat of the AI SDK", dict[str, Any], EVENTS),
    ("get", ai_sdk.STREAM, "Resume the last answer of a chat of the AI SDK", None, EVENTS),
    ("post", ag_ui.PATH, "Run an agent of AG-UI", dict[str, Any], EVENTS),
    ("get", ag_ui.PATH, "Open a WebSocket for a run, see docs/frontends.md", None, None),
    ("get", ag_ui.STREAM, "Continue the events of a run of AG-UI", None, EVENTS),
)
# The routes that may have no content.
EMPTY: Final = {("get", ai_sdk.STREAM)}
_CURSOR: Final = {"type": "string", "pattern": f"^{cursor.PATTERN}$"}
_CURSORS: Final = (
    ("query", requests.STARTING_AFTER, {**_CURSOR, "default": "-1"}),
    # An empty header is one of a client without a last event.
    ("header", LAST_EVENT_ID, {**_CURSOR, "pattern": f"^({cursor.PATTERN})?$"}),
)
PARAMETERS: Final[dict[tuple[str, str], tuple[tuple[str, str, Any], ...]]] = {
    ("get", ai_sdk.STREAM): _CURSORS,
    ("get", ag_ui.STREAM): (
        *_CURSORS,
        ("query", "thread_id", {"type": "string"}),
        ("query", "run_id", {"type": "string"}),
    ),
}
_MESSAGE: Final = {
    "type": "object",
    "required": ["role", "parts"],
    "properties": {
        "role": {"enum": ["system", "user", "assistant"]},
        "parts": {"type": "array", "items": {"type": "object"}},
    },
}
BODIES: Final[dict[str, dict[str, Any]]] = {
    ai_sdk.PATH: {
        "type": "object",
        "required": ["id", "messages"],
        "properties": {
            "id": {"type": "string", "minLength": 1, "maxLength": ai_sdk.MAX_ID},
            "messages": {"type": "array", "minItems": 1, "items": _MESSAGE},
        },
        "description": "The other members are parameters of the Responses API.",
    },
    ag_ui.PATH: {
        "type": "object",
        "required": ["threadId", "runId", "messages"],
        "properties": {
            "threadId": {"type": "string", "minLength": 1, "maxLength": ag_ui.MAX_ID},
            "runId": {"type": "string", "minLength": 1, "maxLength": ag_ui.MAX_ID},
            "messages": {
                "type": "array",
                "minItems": 1,
                "items": {"type": "object", "required": ["role"]},
            },
        },
    },
}

# The components of `/asyncapi.json` for the messages of a WebSocket for AG-UI: the input of a run,
# a resumed run, and an event.
RUN: Final = "AgUiRun"
RESUME: Final = "AgUiResume"
EVENT: Final = "AgUiEvent"
_ID: Final = {"type": "string", "minLength": 1, "maxLength": ag_ui.MAX_ID}
# Maps each component to the name and the schema of the message.
AG_UI_MESSAGES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    RUN: ("ag-ui run", BODIES[ag_ui.PATH]),
    RESUME: (
        "ag-ui resume",
        {
            "type": "object",
            "required": ["threadId", "runId", ag_ui.RESPONSE_ID],
            "properties": {
                "threadId": _ID,
                "runId": _ID,
                ag_ui.RESPONSE_ID: _ID,
                "startingAfter": {
                    "anyOf": [
                        _CURSOR,
                        {"type": "integer", "minimum": -1, "maximum": cursor.MAX_NUMBER},
                    ],
                    "default": -1,
                },
            },
            "additionalProperties": False,
        },
    ),
    EVENT: (
        "ag-ui event",
        {
            "type": "object",
            "required": ["type"],
            "properties": {
                "type": {"type": "string"},
                "sequence": {"type": "integer", "minimum": 0},
                "cursor": _CURSOR,
            },
            "description": "An event of AG-UI, see https://docs.ag-ui.com/concepts/events.",
        },
    ),
}
# Holdline's own messages that the server sends on a WebSocket for AG-UI.
AG_UI_EXTENSIONS: Final = ("holdline:authenticated", "holdline:expiring", "holdline:pong")
