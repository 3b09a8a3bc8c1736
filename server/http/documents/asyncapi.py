"""Generates `/asyncapi.json`, an AsyncAPI 3.1 document that describes the WebSocket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from server.api.client_messages import MESSAGE_TYPES
from server.api.close_codes import CloseCode
from server.api.encoding import ENCODINGS
from server.api.schema.events import EVENTS
from server.api.schema.messages import MESSAGES

from .routes import JSON, RESPONSES, SUMMARY, VERSION
from .schemas import Document, schemas_of

if TYPE_CHECKING:
    from collections.abc import Iterable

# MessagePack frames carry the same objects as JSON frames.
SUBPROTOCOLS: Final = {
    "type": "object",
    "properties": {
        "Sec-WebSocket-Protocol": {
            "type": "string",
            "description": "Each subprotocol switches on the server's messages that begin with "
            "'holdline:'. So does the client's first message that begins with 'holdline:'. "
            "Without either, the server sends no such message except 'holdline:restarted' and "
            "'holdline:continued'.",
            "enum": list(ENCODINGS),
        }
    },
}


def asyncapi() -> Document:
    """Returns the AsyncAPI document."""
    received, sent = dict(MESSAGE_TYPES), EVENTS | MESSAGES
    schemas, components = schemas_of([*received.values(), *sent.values()])
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
