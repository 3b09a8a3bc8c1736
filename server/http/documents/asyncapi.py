"""Generates `/asyncapi.json`, an AsyncAPI 3.1 document that describes the WebSockets."""

from __future__ import annotations

from typing import Final, NamedTuple

from server.api import encoding
from server.api.client_messages import MESSAGE_TYPES, Auth, Ping
from server.api.close_codes import CloseCode
from server.api.schema.events import EVENTS
from server.api.schema.messages import MESSAGES
from server.http.frontends import ag_ui

from .frontend_routes import AG_UI_EXTENSIONS, AG_UI_MESSAGES, EVENT, RESUME, RUN
from .routes import JSON, RESPONSES, SUMMARY, VERSION
from .schemas import Document, schemas_of

# MessagePack frames carry the same objects as JSON frames.
SUBPROTOCOLS: Final = (
    "Each subprotocol switches on the server's messages that begin with 'holdline:'. So does the "
    "client's first message that begins with 'holdline:'. Without either, the server sends no such "
    "message except 'holdline:restarted' and 'holdline:continued'."
)


class Channel(NamedTuple):
    """A route with a WebSocket, and the names of its messages.

    `receive` and `send` are the ids of the operations, as seen by the server.
    """

    address: str
    subprotocols: tuple[str, ...]
    receive: str
    received: tuple[str, ...]
    send: str
    sent: tuple[str, ...]

    def document(self) -> Document:
        """Returns the description of the channel."""
        offer = {"type": "string", "description": SUBPROTOCOLS, "enum": list(self.subprotocols)}
        headers = {"type": "object", "properties": {"Sec-WebSocket-Protocol": offer}}
        return {
            "address": self.address,
            "messages": {
                name: {"$ref": f"#/components/messages/{name}"}
                for name in (*self.received, *self.sent)
            },
            "bindings": {"ws": {"method": "GET", "headers": headers}},
            "x-close-codes": {
                str(int(code)): {"name": code.name.lower(), "come_back": code.come_back}
                for code in CloseCode
            },
        }

    def operations(self, id_: str) -> Document:
        """Returns the operations on the channel with this id."""
        channel = f"#/channels/{id_}"

        def operation(action: str, does: str, names: tuple[str, ...]) -> Document:
            return {
                "action": action,
                "summary": does,
                "channel": {"$ref": channel},
                "messages": [{"$ref": f"{channel}/messages/{name}"} for name in names],
            }

        return {
            self.receive: operation("receive", "Messages that a client may send.", self.received),
            self.send: operation("send", "Messages that the server sends.", self.sent),
        }


def asyncapi() -> Document:
    """Returns the AsyncAPI document."""
    received, sent = dict(MESSAGE_TYPES), EVENTS | MESSAGES
    schemas, components = schemas_of([*received.values(), *sent.values()])
    payloads = {
        kind.__name__: (name, schemas[kind]) for name, kind in (received | sent).items()
    } | AG_UI_MESSAGES
    channels = {
        "responses": Channel(
            RESPONSES,
            tuple(encoding.ENCODINGS),
            "ask",
            tuple(kind.__name__ for kind in received.values()),
            "push",
            tuple(kind.__name__ for kind in sent.values()),
        ),
        "ag-ui": Channel(
            ag_ui.PATH,
            (encoding.JSON.subprotocol,),
            "run",
            (RUN, RESUME, Auth.__name__, Ping.__name__),
            "stream",
            (EVENT, *(MESSAGES[name].__name__ for name in AG_UI_EXTENSIONS)),
        ),
    }
    return {
        "asyncapi": "3.1.0",
        "info": {"title": "Holdline", "version": VERSION, "description": SUMMARY},
        "servers": {"local": {"host": "127.0.0.1:8080", "protocol": "ws"}},
        "defaultContentType": JSON,
        "channels": {id_: channel.document() for id_, channel in channels.items()},
        "operations": {
            name: operation
            for id_, channel in channels.items()
            for name, operation in channel.operations(id_).items()
        },
        "components": {
            "messages": {
                component: {"name": name, "contentType": JSON, "payload": payload}
                for component, (name, payload) in payloads.items()
            },
            "schemas": components,
        },
    }
