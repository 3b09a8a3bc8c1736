"""Generates `/openapi.json`, an OpenAPI 3.1 document that describes the HTTP routes.

A test fails if a route, a message, an event or a close code is missing in the documents.
"""

from __future__ import annotations

from typing import Any, Final

from server.api.schema import bodies
from server.api.schema.events import EVENTS
from server.api.schema.messages import MESSAGES

from . import conversation_routes
from .conversation_routes import OPTIONAL_BODY
from .frontend_routes import EMPTY
from .routes import BODIES, JSON, PARAMETERS, ROUTES, STREAMED, SUMMARY, VERSION, WORD
from .schemas import Document, allow_what_is_taken, schemas_of

EVENT_STREAM: Final = "text/event-stream"

# A server-sent event of another protocol.
_OTHER_EVENT: Final = {
    "type": "object",
    "properties": {"id": WORD, "data": WORD},
    "required": ["data"],
}
BEARER_SCHEME: Final = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key or a token. See the section Authentication of docs/protocol.md.",
}


def openapi() -> Document:
    """Returns the OpenAPI document."""
    routed = [kind for *_, body, answer in ROUTES for kind in (body, answer) if _is_type(kind)]
    streamed = [*EVENTS.values(), MESSAGES["error"]]
    followed = [MESSAGES[name] for name in conversation_routes.STREAMED]
    told = [bodies.WebhookEvent, bodies.FeedbackEvent]
    schemas, components = schemas_of([*routed, bodies.ErrorBody, *told, *streamed, *followed])
    events = {route: [schemas[kind] for kind in streamed] for route in STREAMED}
    events["get", conversation_routes.EVENTS] = [schemas[kind] for kind in followed]
    components["Create"]["additionalProperties"] = False
    allow_what_is_taken(components, "Create")
    # `parse_create` requires `input` or `prompt`, a rule that the types do not express.
    given = {"not": {"type": "null"}}
    components["Create"]["anyOf"] = [
        {"required": [name], "properties": {name: given}} for name in ("input", "prompt")
    ]
    paths: dict[str, Any] = {}
    for method, path, does, body, answer in ROUTES:
        operation: dict[str, Any] = {
            "operationId": _operation_id(method, path),
            "summary": does,
            "responses": {
                "101" if answer is None else "200": _answer(
                    schemas, answer, events.get((method, path), [])
                ),
                **({"204": {"description": "No content"}} if (method, path) in EMPTY else {}),
                "default": {
                    "description": "An error. docs/protocol-reference.md, Errors, lists the codes.",
                    "content": {JSON: {"schema": schemas[bodies.ErrorBody]}},
                },
            },
        }
        if parameters := _parameters(method, path):
            operation["parameters"] = parameters
        if body is not None:
            schema = BODIES.get(path) or schemas[body]
            content = {JSON: {"schema": schema}}
            required = (method, path) not in OPTIONAL_BODY
            operation["requestBody"] = {"required": required, "content": content}
        paths.setdefault(path, {})[method] = operation
    return {
        "openapi": "3.1.1",
        "info": {"title": "Holdline", "version": VERSION, "summary": SUMMARY},
        "servers": [{"url": "/"}],
        "paths": paths,
        "webhooks": {
            "responseEnded": {
                "post": _webhook(
                    "response_ended",
                    "Reports that a response has ended",
                    schemas[bodies.WebhookEvent],
                )
            },
            "feedbackGiven": {
                "post": _webhook(
                    "feedback_given",
                    "Reports that the feedback on a response has changed",
                    schemas[bodies.FeedbackEvent],
                )
            },
        },
        # The empty security requirement is for servers without authentication.
        "security": [{}, {"bearer": []}],
        "components": {"schemas": components, "securitySchemes": {"bearer": BEARER_SCHEME}},
    }


def _webhook(operation_id: str, summary: str, event: Document) -> Document:
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    return {
        "operationId": operation_id,
        "summary": f"{summary}; docs/webhooks.md describes the signature",
        "parameters": [
            {"in": "header", "name": name, "required": True, "schema": WORD} for name in names
        ],
        "requestBody": {"required": True, "content": {JSON: {"schema": event}}},
        "responses": {
            "2XX": {
                "description": "The receiver accepted the webhook. Other statuses cause a retry."
            }
        },
    }


def _is_type(kind: Any) -> bool:
    return kind is not None and not isinstance(kind, str)


def _answer(schemas: dict[Any, Document], answer: Any, events: list[Document]) -> Document:
    if answer is None:
        return {"description": "Switching protocols"}
    content: Document = {}
    if not isinstance(answer, str):
        content[JSON] = {"schema": schemas[answer]}
    elif answer != EVENT_STREAM:
        content[answer] = {"schema": WORD}
    elif not events:
        content[answer] = {"schema": _OTHER_EVENT}
    if events:
        content[EVENT_STREAM] = {"schema": _server_sent(events)}
    return {"description": "OK", "content": content}


def _server_sent(events: list[Document]) -> Document:
    """Returns the schema of a server-sent event, with its fields as in OpenAPI 3.2.

    Only the streams of conversations have an `id`, and only those of responses have `[DONE]`.
    """
    payload = {
        "type": "string",
        "contentMediaType": JSON,
        "contentSchema": {"oneOf": events},
    }
    data = {"anyOf": [{"const": "[DONE]"}, payload]}
    fields = {"id": WORD, "event": WORD, "data": data}
    return {"type": "object", "properties": fields, "required": ["data"]}


def _parameters(method: str, path: str) -> list[Document]:
    named = [part.split("}")[0] for part in path.split("{")[1:]]
    found = [{"in": "path", "name": name, "required": True, "schema": WORD} for name in named]
    return found + [
        {"in": place, "name": name, "schema": schema}
        for place, name, schema in PARAMETERS.get((method, path), ())
    ]


def _operation_id(method: str, path: str) -> str:
    words = "".join(c if c.isalnum() else " " for c in path).split() or ["page"]
    return "_".join([method, *words])
