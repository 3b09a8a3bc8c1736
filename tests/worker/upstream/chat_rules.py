"""The strictest rules that model servers apply to the messages of a chat completion."""

from __future__ import annotations

import json
from typing import Any


def check(messages: list[dict[str, Any]]) -> None:
    """Fails if a model server could reject the messages."""
    waiting: list[str] = []  # ids of function calls without a result
    seen: set[str] = set()
    for message in messages:
        role, content = message["role"], message["content"]
        if role == "tool":
            assert {"role", "tool_call_id", "content"} == message.keys()
            assert isinstance(content, str)
            assert message["tool_call_id"] in waiting, "a result without a call before it"
            waiting.remove(message["tool_call_id"])
            continue
        assert not waiting, "a call without a result behind it"
        assert role in ("system", "user", "assistant")
        if isinstance(content, list):
            assert content, "a list without parts"
            assert "user" == role or {"text"} == {part["type"] for part in content}
            assert all(part.get("text") != "" for part in content), "an empty text"
        else:
            assert isinstance(content, str) or (content is None and role == "assistant")
        calls = message.get("tool_calls", [])
        if role == "assistant":
            assert content or calls, "a message that says nothing"
        else:
            assert {"role", "content"} == message.keys()
        if "tool_calls" in message:
            assert calls
        for call in calls:
            assert {"id", "type", "function"} <= call.keys()
            assert "function" == call["type"]
            assert {"name", "arguments"} == call["function"].keys()
            assert isinstance(json.loads(call["function"]["arguments"]), dict)
            assert call["id"] not in seen, "an id for two calls"
            seen.add(call["id"])
            waiting.append(call["id"])
    assert not waiting, "a call without a result behind it"


def texts(messages: list[dict[str, Any]], role: str) -> str:
    """Returns the texts of all messages with the given role, in order."""
    return "".join(_text(one["content"]) for one in messages if one["role"] == role)


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""
