"""The messages of Holdline's own: how to recognize them, and the first one, with the limits.

A client of the standard receives only the standard's events. A client switches on the extensions
if it offers a subprotocol of Holdline's own, or once it sends a message of Holdline's own.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from server.api.json_body import MAX_DEPTH

from .following import MAX_CONVERSATIONS
from .session import MAX_FOLLOWED, MAX_WAITING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from server.config import Config

MESSAGES_A_SECOND: Final = 100
EXTENSION: Final = "holdline:"


def is_extension(message: Mapping[str, Any]) -> bool:
    """Returns True if the message's type is one of Holdline's own, whether it exists or not."""
    kind = message.get("type")
    return isinstance(kind, str) and kind.startswith(EXTENSION)


def welcome(config: Config, tenant: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the welcome message; `tenant` holds the limits of the tenant, if it is known."""
    shared = config.shared
    return {
        "type": "holdline:welcome",
        "ping_interval_ms": round(config.ping_seconds * 1000),
        "server_time": int(time.time()),
        "limits": {
            "message_bytes": config.max_body_bytes,
            "depth": MAX_DEPTH,
            "output_bytes": config.max_output_bytes,
            "sockets": config.max_sockets or None,
            "waiting": shared.max_waiting * len(shared.partitions),
            "responses": MAX_FOLLOWED,
            "conversations": MAX_CONVERSATIONS,
            "waiting_in_lanes": MAX_WAITING,
            "messages_per_second": MESSAGES_A_SECOND,
            "retention_seconds": shared.retention_ms / 1000,
            "unstored_seconds": config.unstored_seconds,
            "connection_seconds": None,
            "tenant": tenant,
        },
    }
