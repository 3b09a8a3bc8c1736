"""The routes of pushes, for `/openapi.json`."""

from __future__ import annotations

from typing import Any, Final

from server.api.push import MAX_DEVICE, MAX_ENDPOINT
from server.api.schema import bodies

SUBSCRIPTIONS: Final = "/v1/push/subscriptions"
ONE: Final = f"{SUBSCRIPTIONS}/{{id}}"

ROUTES: Final = (
    ("get", "/v1/push/key", "Get the key for subscriptions to pushes", None, bodies.PushKey),
    ("post", SUBSCRIPTIONS, "Subscribe to pushes", dict[str, Any], bodies.PushSubscription),
    ("get", SUBSCRIPTIONS, "List the subscriptions", None, bodies.PushSubscriptions),
    ("delete", ONE, "Remove a subscription", None, bodies.DeletedPushSubscription),
)
_WORD: Final = {"type": "string", "minLength": 1, "maxLength": MAX_ENDPOINT}
BODIES: Final[dict[str, dict[str, Any]]] = {
    SUBSCRIPTIONS: {
        "oneOf": [
            {
                "type": "object",
                "additionalProperties": False,
                "required": ["endpoint", "keys"],
                "properties": {
                    "endpoint": _WORD,
                    "expirationTime": {"type": ["number", "null"]},
                    "keys": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["p256dh", "auth"],
                        "properties": {"p256dh": _WORD, "auth": _WORD},
                    },
                    "application_server_key": {**_WORD, "type": ["string", "null"]},
                },
            },
            {
                "type": "object",
                "additionalProperties": False,
                "required": ["device"],
                "properties": {
                    "device": {"type": "string", "minLength": 1, "maxLength": MAX_DEVICE}
                },
            },
        ]
    }
}
