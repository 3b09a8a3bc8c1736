"""Builds the message of a push, which names a finished response, and its request headers."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from jobs.errors import RedisTrouble, Undecodable, UnknownResponse
from jobs.log.codec import decode_event
from jobs.log.events import output_text
from jobs.log.log import read
from jobs.vapid import encode

if TYPE_CHECKING:
    from jobs.deliveries import Delivery
    from jobs.redis.pipe import Pipe

# The maximum length of the header `Topic` is 32 characters.
TOPIC_BYTES: Final = 24


async def about(pipe: Pipe, delivery: Delivery, preview_characters: int) -> dict[str, Any]:
    """Returns the message of a push: the response's id, its status and its conversation.

    It contains nothing of the answer, unless `preview_characters` is above 0. If the response can
    no longer be read, the message has only its id and its status.
    """
    message: dict[str, Any] = {"id": delivery.response_id, "status": delivery.status}
    response = await _response(pipe, delivery)
    if conversation := (response.get("conversation") or {}).get("id"):
        message["conversation"] = conversation
    if preview_characters and (text := output_text(response.get("output") or [])):
        message["preview"] = shortened(text, preview_characters)
    return message


def encoded(message: dict[str, Any]) -> bytes:
    """Returns a message as JSON in UTF-8."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def topic(response_id: str) -> str:
    """Returns the header `Topic`, with which a push replaces an earlier one of its response."""
    return encode(hashlib.sha256(response_id.encode()).digest()[:TOPIC_BYTES])


def shortened(text: str, characters: int) -> str:
    """Returns the beginning of a text in one line, with "…" if something was cut off."""
    line = " ".join(text[: 8 * characters + 64].split())
    return line if len(line) <= characters else f"{line[: characters - 1].rstrip()}…"


async def _response(pipe: Pipe, delivery: Delivery) -> dict[str, Any]:
    """Returns the response in the last event of its log, or {} if it cannot be read."""
    try:
        found = await read(pipe, delivery.response_id, 0, max_entries=1, viewer=delivery.owner)
        last = await read(pipe, delivery.response_id, found.length - 1, viewer=delivery.owner)
        response: dict[str, Any] = decode_event(last.entries[-1]).get("response") or {}
    except (UnknownResponse, Undecodable, RedisTrouble, IndexError):
        return {}
    return response
