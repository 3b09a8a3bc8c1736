"""Serves `/openapi.json` (OpenAPI 3.1, routes) and `/asyncapi.json` (AsyncAPI 3.1, WebSocket).

Both documents are generated from the types that parse requests (`server.api.request`) and the types
of outgoing objects (`server.api.schema`). A test fails if a route, a message, an event or a close
code is missing here.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final, get_args

import msgspec
from aiohttp import web

from server.api import request as requests
from server.api.close_codes import CloseCode
from server.api.encoding import ENCODINGS
from server.api.items import MAX_CALL_ID, Item
from server.api.request import ReasoningEffort
from server.api.schema import bodies, objects
from server.api.schema.events import EVENTS
from server.api.schema.messages import MESSAGES
from server.api.tools import TOOLS

from . import openapi_conversations

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

VERSION: Final = "0.1.0"
SUMMARY: Final = "A push service for slow LLM answers that speaks the Responses API."
REF: Final = "#/components/schemas/{name}"
JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream"
RESPONSES: Final = "/v1/responses"

BEARER_SCHEME: Final = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key or a token. See the section Authentication of docs/protocol.md.",
}

Document = dict[str, Any]
Route = tuple[str, str, str, Any, Any]

# Each row: method, path, summary, request body type, and the answer's type or media type.
ROUTES: Final[tuple[Route, ...]] = (
    ("post", RESPONSES, "Create a response", requests.Create, objects.Response),
    ("get", RESPONSES, "Open a WebSocket, which /asyncapi.json describes", None, None),
    ("get", f"{RESPONSES}/{{id}}", "Get a response in its current state", None, objects.Response),
    ("delete", f"{RESPONSES}/{{id}}", "Delete a response", None, bodies.Deleted),
    ("post", f"{RESPONSES}/{{id}}/cancel", "Cancel a response", None, objects.Response),
    ("get", f"{RESPONSES}/{{id}}/input_items", "List input items", None, bodies.InputItems),
    *openapi_conversations.ROUTES,
    ("post", "/v1/chat/completions", "Create a chat completion", dict[str, Any], dict[str, Any]),
    ("get", "/v1/models", "List the models", None, bodies.Models),
    ("get", "/v1/models/{id}", "Get a model", None, bodies.Model),
    ("get", "/livez", "Check whether the process is alive", None, bodies.Live),
    ("get", "/health", "Check whether the process is alive, like /livez", None, bodies.Live),
    ("get", "/readyz", "Check whether the server is ready for requests", None, bodies.Ready),
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
    ("get", "/web/{version}/{name}", "Get a versioned source file", None, "text/javascript"),
    ("get", "/web/{name}", "Get a source file", None, "text/javascript"),
)
# Input items whose `type` field is optional: see `items.typed`.
UNTYPED: Final = {"Message", "ItemReference"}
STREAMED: Final = {
    ("post", RESPONSES),
    ("post", "/v1/chat/completions"),
    ("get", f"{RESPONSES}/{{id}}"),
}

# MessagePack frames carry the same objects as JSON frames.
SUBPROTOCOLS: Final = {
    "type": "object",
    "properties": {
        "Sec-WebSocket-Protocol": {
            "type": "string",
            "description": "Each subprotocol switches on the server's messages that begin with "
            "'holdline:'. So does the client's first message that begins with 'holdline:'. "
            "Without either, the server sends no such message except 'holdline:restarted'.",
            "enum": list(ENCODINGS),
        }
    },
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

_WORD: Final = {"type": "string"}
_NUMBER: Final = {"type": "integer", "minimum": -1, "default": -1}
# Parameters in the query or a header. Path parameters are derived from the path and are required.
PARAMETERS: Final[dict[tuple[str, str], tuple[tuple[str, str, Any], ...]]] = {
    ("post", RESPONSES): (("header", "Idempotency-Key", {**_WORD, "maxLength": 255}),),
    ("get", f"{RESPONSES}/{{id}}"): (
        ("query", "stream", {"type": "boolean", "default": False}),
        ("query", "starting_after", _NUMBER),
        ("query", "item_id", _WORD),
        ("query", "event_type", _WORD),
        ("query", "include_obfuscation", {"type": "boolean", "default": False}),
    ),
    ("get", f"{RESPONSES}/{{id}}/input_items"): (
        ("query", "order", {"enum": ["asc", "desc"], "default": "desc"}),
        ("query", "limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
        ("query", "after", _WORD),
    ),
    **openapi_conversations.PARAMETERS,
    ("get", "/origin"): (("header", "Origin", _WORD),),
}


def openapi() -> Document:
    """Returns the OpenAPI document."""
    routed = [kind for *_, body, answer in ROUTES for kind in (body, answer) if _is_type(kind)]
    streamed = [*EVENTS.values(), MESSAGES["error"]]
    schemas, components = _schemas([*routed, bodies.ErrorBody, bodies.WebhookEvent, *streamed])
    events = [schemas[kind] for kind in streamed]
    components["Create"]["additionalProperties"] = False
    _allow_what_is_taken(components, "Create")
    # `check_input` requires `input` or `prompt`, a rule that the types do not express.
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
                    schemas, answer, events if (method, path) in STREAMED else []
                ),
                "default": {
                    "description": "An error. docs/protocol-reference.md, Errors, lists the codes.",
                    "content": {JSON: {"schema": schemas[bodies.ErrorBody]}},
                },
            },
        }
        if parameters := _parameters(method, path):
            operation["parameters"] = parameters
        if body is not None:
            schema = CHAT_BODY if path == "/v1/chat/completions" else schemas[body]
            content = {JSON: {"schema": schema}}
            operation["requestBody"] = {"required": True, "content": content}
        paths.setdefault(path, {})[method] = operation
    return {
        "openapi": "3.1.1",
        "info": {"title": "Holdline", "version": VERSION, "summary": SUMMARY},
        "servers": [{"url": "/"}],
        "paths": paths,
        "webhooks": {"responseEnded": {"post": _webhook(schemas[bodies.WebhookEvent])}},
        # The empty security requirement is for servers without authentication.
        "security": [{}, {"bearer": []}],
        "components": {"schemas": components, "securitySchemes": {"bearer": BEARER_SCHEME}},
    }


def _webhook(event: Document) -> Document:
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    return {
        "operationId": "response_ended",
        "summary": "Reports that a response has ended; docs/webhooks.md describes the signature",
        "parameters": [
            {"in": "header", "name": name, "required": True, "schema": _WORD} for name in names
        ],
        "requestBody": {"required": True, "content": {JSON: {"schema": event}}},
        "responses": {
            "2XX": {
                "description": "The receiver accepted the webhook. Other statuses cause a retry."
            }
        },
    }


def asyncapi() -> Document:
    """Returns the AsyncAPI document."""
    received, sent = dict(requests._KINDS), EVENTS | MESSAGES  # noqa: SLF001 - by type
    schemas, components = _schemas([*received.values(), *sent.values()])
    messages = {
        kind.__name__: {"name": name, "contentType": JSON, "payload": schemas[kind]}
        for name, kind in (received | sent).items()
    }
    channel = "#/channels/responses"

    def operation(action: str, does: str, kinds: Iterable[type]) -> Document:
        return {
            "action": action,
            "summary": does,
            "channel": {"$ref": channel},
            "messages": [{"$ref": f"{channel}/messages/{kind.__name__}"} for kind in kinds],
        }

    return {
        "asyncapi": "3.1.0",
        "info": {"title": "Holdline", "version": VERSION, "description": SUMMARY},
        "servers": {"local": {"host": "127.0.0.1:8080", "protocol": "ws"}},
        "defaultContentType": JSON,
        "channels": {
            "responses": {
                "address": RESPONSES,
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"ws": {"method": "GET", "headers": SUBPROTOCOLS}},
                "x-close-codes": {
                    str(int(code)): {
                        "name": code.name.lower(),
                        "come_back": code.come_back,
                    }
                    for code in CloseCode
                },
            }
        },
        "operations": {
            "ask": operation("receive", "Messages that a client may send.", received.values()),
            "push": operation("send", "Messages that the server sends.", sent.values()),
        },
        "components": {"messages": messages, "schemas": components},
    }


def add_to(app: web.Application) -> None:
    """Adds the routes of the two documents."""
    app.router.add_get("/openapi.json", _serves(openapi), allow_head=False)
    app.router.add_get("/asyncapi.json", _serves(asyncapi), allow_head=False)


def _serves(document: Any) -> Any:
    @functools.cache
    def written() -> bytes:
        return msgspec.json.encode(document())

    async def serve(request: web.Request) -> web.StreamResponse:
        del request
        headers = {"Access-Control-Allow-Origin": "*", "Cache-Control": "no-cache"}
        return web.Response(body=written(), content_type=JSON, headers=headers)

    return serve


def _is_type(kind: Any) -> bool:
    return kind is not None and not isinstance(kind, str)


def _schemas(kinds: Iterable[Any]) -> tuple[dict[Any, Document], Document]:
    """Returns the JSON schema of each type, and the components that the schemas refer to."""
    kinds = list(dict.fromkeys(kinds))
    read = (*TOOLS, ReasoningEffort)
    found, components = msgspec.json.schema_components([*kinds, *read], ref_template=REF)
    found = found[: len(kinds)]
    components = _portable(components)
    # Each of these objects is kept as the client sent it.
    components["Passed"] = _other_type([one.__struct_config__.tag for one in get_args(Item)])
    components["OtherTool"] = _other_type([one.__struct_config__.tag for one in TOOLS])
    named = [*(tool.__name__ for tool in TOOLS), "OtherTool"]
    tool = {"anyOf": [{"$ref": REF.format(name=name)} for name in named]}
    for name in {"Create", "ResponseCreate"} & components.keys():
        fields = components[name]["properties"]
        fields["tools"]["anyOf"][0]["items"] = tool
        fields["reasoning"] = {"$ref": REF.format(name=ReasoningEffort.__name__)}
    for item in UNTYPED & components.keys():
        components[item]["required"].remove("type")
    return dict(zip(kinds, found, strict=True)), components


def _other_type(known: list[Any]) -> Document:
    """Returns the schema of an object with a type other than the known types."""
    return {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"type": "string", "not": {"enum": known}}},
        "additionalProperties": True,
    }


def _allow_what_is_taken(components: Document, root: str) -> None:
    """Extends a request's schemas by input that the server accepts but the types do not express.

    An optional member may also be null, and an item's id may be empty. Where only one type of
    object is possible, its `type` may be omitted.
    """
    reached, todo = {root}, [root]
    # The names of components that are alternatives in an `anyOf`, where `type` distinguishes them.
    told_apart = {
        name
        for one in _objects(components)
        if sum("$ref" in alternative for alternative in one.get("anyOf", ())) > 1
        for name in _referred(one["anyOf"])
    }
    while todo:
        reached_name = todo.pop()
        component = components[reached_name]
        required = component.get("required", [])
        if reached_name not in told_apart and "type" in required:
            required.remove("type")
        for name, schema in component.get("properties", {}).items():
            if name in required:
                continue
            nothing = [] if _takes_null(schema) else [{"type": "null"}]
            nothing += [{"const": ""}] if name == "id" else []
            if nothing:
                component["properties"][name] = {"anyOf": [schema, *nothing]}
        for name in set(_referred(component)) - reached:
            reached.add(name)
            todo.append(name)


def _takes_null(schema: Document) -> bool:
    return (
        schema.get("type") == "null"
        or None in schema.get("enum", ())
        or any(_takes_null(one) for one in schema.get("anyOf", ()))
    )


def _referred(schema: Any) -> Iterator[str]:
    """Yields the name of each component that a schema refers to."""
    for one in _objects(schema):
        if isinstance(ref := one.get("$ref"), str):
            yield ref.rpartition("/")[2]


def _objects(schema: Any) -> Iterator[Document]:
    """Yields all objects in a schema, including the schema itself."""
    if isinstance(schema, dict):
        yield schema
    for one in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(one, dict | list):
            yield from _objects(one)


def _portable(schema: Any) -> Any:
    """Returns a schema without features that only Python or only OpenAPI understands.

    The end of a pattern, which is backslash and `Z` in Python, becomes `$`. OpenAPI's
    discriminators are removed. They are redundant, because each member has a `type`.
    """
    match schema:
        case dict():
            return {k: _portable(v) for k, v in schema.items() if k != "discriminator"}
        case list():
            return [_portable(each) for each in schema]
        case str() if schema.endswith(r"\Z"):
            return schema.removesuffix(r"\Z") + "$"
        case _:
            return schema


def _answer(schemas: dict[Any, Document], answer: Any, events: list[Document]) -> Document:
    if answer is None:
        return {"description": "Switching protocols"}
    if isinstance(answer, str):
        return {"description": "OK", "content": {answer: {"schema": _WORD}}}
    content: Document = {JSON: {"schema": schemas[answer]}}
    if events:
        content[EVENT_STREAM] = {"schema": _server_sent(events)}
    return {"description": "OK", "content": content}


def _server_sent(events: list[Document]) -> Document:
    """Returns the schema of a server-sent event, with its fields as in OpenAPI 3.2."""
    payload = {
        "type": "string",
        "contentMediaType": JSON,
        "contentSchema": {"oneOf": events},
    }
    data = {"anyOf": [{"const": "[DONE]"}, payload]}
    fields = {"event": {"type": "string"}, "data": data}
    return {"type": "object", "properties": fields, "required": ["data"]}


def _parameters(method: str, path: str) -> list[Document]:
    named = [part.split("}")[0] for part in path.split("{")[1:]]
    found = [{"in": "path", "name": name, "required": True, "schema": _WORD} for name in named]
    return found + [
        {"in": place, "name": name, "schema": schema}
        for place, name, schema in PARAMETERS.get((method, path), ())
    ]


def _operation_id(method: str, path: str) -> str:
    words = "".join(c if c.isalnum() else " " for c in path).split() or ["page"]
    return "_".join([method, *words])
