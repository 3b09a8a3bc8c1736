"""Builds the events and objects of the Responses API for an answer that is one message."""

from __future__ import annotations

import time
from typing import Any, Final

Json = dict[str, Any]

# A cancelled response ends with response.incomplete, because the official SDKs know no other event
# for it. Its status is `cancelled`.
TERMINAL: Final = frozenset({"response.completed", "response.failed", "response.incomplete"})
DELTA: Final = "response.output_text.delta"
EVENT_OF_STATUS: Final = {
    "completed": "response.completed",
    "failed": "response.failed",
    "incomplete": "response.incomplete",
    "cancelled": "response.incomplete",
}


def new_response(response_id: str, request: Json) -> Json:
    """Returns the object of a response that waits for a worker."""
    return {
        "id": response_id,
        "object": "response",
        "created_at": int(time.time()),
        "status": "queued",
        "background": bool(request.get("background")),
        "error": None,
        "incomplete_details": None,
        "instructions": request.get("instructions"),
        "max_output_tokens": request.get("max_output_tokens"),
        "model": request["model"],
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": request.get("previous_response_id"),
        "conversation": {"id": conversation}
        if (conversation := conversation_of(request))
        else None,
        "temperature": request.get("temperature"),
        "tool_choice": "auto",
        "tools": [],
        "top_p": request.get("top_p"),
        "truncation": "disabled",
        "metadata": request.get("metadata") or {},
        "usage": None,
    }


def conversation_of(request: Json) -> str | None:
    """Returns the id of a request's conversation, which is a string or an object with an id."""
    conversation = request.get("conversation")
    named = conversation.get("id") if isinstance(conversation, dict) else conversation
    return named if isinstance(named, str) else None


def first_events(response: Json) -> list[Json]:
    """Returns the events of a response that no worker has claimed."""
    return [
        {"type": "response.created", "response": response},
        {"type": "response.queued", "response": response},
    ]


def message(response_id: str, text: str, status: str) -> Json:
    """Returns the output item of an answer."""
    return {
        "id": message_id(response_id),
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": [part(text)],
    }


def message_id(response_id: str) -> str:
    return response_id.replace("resp_", "msg_", 1)


def part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def opening(response: Json) -> list[Json]:
    """Returns the events of a worker that begins to write an answer."""
    item = {**message(response["id"], "", "in_progress"), "content": []}
    return [
        {"type": "response.in_progress", "response": {**response, "status": "in_progress"}},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **_place(response["id"]), "part": part("")},
    ]


def delta(response_id: str, text: str) -> Json:
    return {"type": DELTA, **_place(response_id), "delta": text, "logprobs": []}


def ending(
    response: Json, text: str, status: str, *, error: Json | None = None, reason: str | None = None
) -> tuple[list[Json], Json]:
    """Returns the last events of an answer, and the response object in its final state.

    `error` is the error of a failed response, and `reason` the cause of an incomplete one.
    """
    item = message(response["id"], text, "completed" if status == "completed" else "incomplete")
    final = {
        **response,
        "status": status,
        "error": error,
        "incomplete_details": {"reason": reason} if reason else None,
        "output": [item] if text or status == "completed" else [],
    }
    events: list[Json] = []
    if status in ("completed", "incomplete"):
        place = _place(response["id"])
        events = [
            {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
            {"type": "response.content_part.done", **place, "part": part(text)},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
        ]
    return [*events, {"type": EVENT_OF_STATUS[status], "response": final}], final


def _place(response_id: str) -> Json:
    return {"item_id": message_id(response_id), "output_index": 0, "content_index": 0}
