"""The routes of the server and their parameters, for `/openapi.json`."""

from __future__ import annotations

from typing import Any, Final

from runtime.version import program_version
from server.api import request as requests
from server.api.feedback import GiveFeedback
from server.api.items import MAX_CALL_ID
from server.api.schema import bodies, objects
from server.api.validation import MAX_SEQUENCE

from . import console_routes, conversation_routes, frontend_routes, push_routes

VERSION: Final = program_version()
SUMMARY: Final = "A push service for slow LLM answers that speaks the Responses API."
JSON: Final = "application/json"
RESPONSES: Final = "/v1/responses"
FEEDBACK: Final = f"{RESPONSES}/{{id}}/feedback"

Route = tuple[str, str, str, Any, Any]

# Each row: method, path, summary, request body type, and the answer's type or media type.
ROUTES: Final[tuple[Route, ...]] = (
    ("post", RESPONSES, "Create a response", requests.Create, objects.Response),
    ("get", RESPONSES, "Open a WebSocket, which /asyncapi.json describes", None, None),
    ("get", f"{RESPONSES}/{{id}}", "Get a response in its current state", None, objects.Response),
    ("delete", f"{RESPONSES}/{{id}}", "Delete a response", None, bodies.Deleted),
    ("post", f"{RESPONSES}/{{id}}/cancel", "Cancel a response", None, objects.Response),
    ("get", f"{RESPONSES}/{{id}}/input_items", "List input items", None, bodies.InputItems),
    ("get", FEEDBACK, "Get the feedback on a response", None, bodies.Feedback),
    ("post", FEEDBACK, "Give feedback on a response", GiveFeedback, bodies.Feedback),
    *conversation_routes.ROUTES,
    *console_routes.ROUTES,
    ("post", "/v1/chat/completions", "Create a chat completion", dict[str, Any], dict[str, Any]),
    *frontend_routes.ROUTES,
    *push_routes.ROUTES,
    ("get", "/v1/models", "List the models", None, bodies.Models),
    ("get", "/v1/models/{id}", "Get a model", None, bodies.Model),
    ("get", "/livez", "Check whether the process is alive", None, bodies.Live),
    ("get", "/health", "Check whether the process is alive, like /livez", None, bodies.Live),
    ("get", "/readyz", "Check whether the server is ready for requests", None, bodies.Ready),
    ("get", "/healthz/service", "Check whether each model has a worker", None, bodies.Service),
    ("get", "/metrics", "Get metrics in the Prometheus text format", None, "text/plain"),
    ("get", "/origin", "Check whether a site may use this server", None, bodies.OriginCheck),
    ("get", "/openapi.json", "Get this OpenAPI document", None, dict[str, Any]),
    ("get", "/asyncapi.json", "Get the AsyncAPI document", None, dict[str, Any]),
    ("get", "/", "Get the chat page", None, "text/html"),
    ("get", "/review", "Get the code review page", None, "text/html"),
    ("get", "/docs", "Get the first documentation page", None, "text/html"),
    ("get", "/docs/{name}", "Get a documentation page", None, "text/html"),
    ("get", "/docs/{name}.md", "Get a documentation page in Markdown", None, "text/markdown"),
    ("get", "/docs/images/{name}", "Get a documentation image", None, "image/svg+xml"),
    ("get", "/widget.js", "Get the widget as one file", None, "text/javascript"),
    ("get", "/push-worker.js", "Get the script for service workers", None, "text/javascript"),
    ("get", "/web/{version}/{name}", "Get a versioned source file", None, "text/javascript"),
    ("get", "/web/{name}", "Get a source file", None, "text/javascript"),
)
STREAMED: Final = {
    ("post", RESPONSES),
    ("post", "/v1/chat/completions"),
    ("get", f"{RESPONSES}/{{id}}"),
}

# The schema of a chat request is partial. The section "Chat completions" of docs/protocol.md
# describes the rest.
_CALL_ID: Final = {"type": "string", "minLength": 1, "maxLength": MAX_CALL_ID}
_CHAT_CONTENT: Final = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "text"],
                "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
            },
            "description": "Content parts; docs/protocol.md, Chat completions, lists more types.",
        },
    ]
}


def _chat_message(roles: list[str], **required: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["role", *required],
        "properties": {"role": {"enum": roles}, **required},
    }


CHAT_BODY: Final = {
    "type": "object",
    "required": ["messages"],
    "properties": {
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": {
                "anyOf": [
                    _chat_message(["system", "developer", "user"], content=_CHAT_CONTENT),
                    _chat_message(["assistant"]),
                    _chat_message(["tool"], tool_call_id=_CALL_ID),
                ]
            },
        }
    },
}

# The request bodies that are not types of `server.api`.
BODIES: Final[dict[str, dict[str, Any]]] = {
    "/v1/chat/completions": CHAT_BODY,
    **frontend_routes.BODIES,
    **push_routes.BODIES,
}

WORD: Final = {"type": "string"}
_NUMBER: Final = {"type": "integer", "minimum": -1, "maximum": MAX_SEQUENCE, "default": -1}
# Parameters in the query or a header. Path parameters are derived from the path and are required.
PARAMETERS: Final[dict[tuple[str, str], tuple[tuple[str, str, Any], ...]]] = {
    ("post", RESPONSES): (conversation_routes.KEY,),
    ("get", f"{RESPONSES}/{{id}}"): (
        ("query", "stream", {"type": "boolean", "default": False}),
        ("query", "starting_after", _NUMBER),
        ("query", "item_id", WORD),
        ("query", "event_type", WORD),
        ("query", "include_obfuscation", {"type": "boolean", "default": False}),
    ),
    ("get", f"{RESPONSES}/{{id}}/input_items"): (
        ("query", "order", {"enum": ["asc", "desc"], "default": "desc"}),
        ("query", "limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
        ("query", "after", WORD),
    ),
    **conversation_routes.PARAMETERS,
    **console_routes.PARAMETERS,
    **frontend_routes.PARAMETERS,
    ("get", "/origin"): (("header", "Origin", WORD),),
}
