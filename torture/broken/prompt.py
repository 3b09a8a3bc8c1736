"""Builds the request to the model: the turns before a request, and its own input."""

from __future__ import annotations

from typing import Final

from torture.broken.events import Json, conversation_of
from torture.broken.faults import Fault
from torture.broken.store import Store, input_items

MAX_TURNS: Final = 1000


def chat_request(store: Store, request: Json, fault: Fault | None) -> Json:
    """Returns the body of a request for chat completions."""
    messages = [_message(item) for item in _items(store, request, fault)]
    if instructions := request.get("instructions"):
        messages.insert(0, {"role": "system", "content": instructions})
    body: Json = {"model": request["model"], "messages": messages}
    if limit := request.get("max_output_tokens"):
        body["max_tokens"] = limit
    return body


def _items(store: Store, request: Json, fault: Fault | None) -> list[Json]:
    items = input_items(request)
    if conversation := conversation_of(request):
        return [*store.items(conversation), *items]
    for _ in range(MAX_TURNS):
        previous = request.get("previous_response_id")
        turn = store.turn(previous) if previous and fault is not Fault.CHAIN_FORGETS else None
        if turn is None:
            break
        request, output = turn
        items = [*input_items(request), *output, *items]
    return items


def _message(item: Json) -> Json:
    content = item["content"]
    if not isinstance(content, str):
        content = "".join(part["text"] for part in content)
    role = item["role"]
    return {"role": "system" if role == "developer" else role, "content": content}


def check_items(items: object) -> str | None:
    """Returns the mistake in input items, or None. Only text messages are supported."""
    if not isinstance(items, list):
        return "must be a string or a list of messages"
    for item in items:
        if not isinstance(item, dict) or item.get("type", "message") != "message":
            return "may contain only messages"
        if item.get("role") not in ("user", "assistant", "system", "developer"):
            return "has a message with an unknown role"
        content = item.get("content")
        if isinstance(content, str):
            continue
        if not isinstance(content, list) or not all(
            isinstance(part, dict) and isinstance(part.get("text"), str) for part in content
        ):
            return "has a message whose content is not text"
    return None
