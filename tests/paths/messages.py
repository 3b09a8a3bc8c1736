"""Messages and other items, as clients send them and as models get them."""

from __future__ import annotations

from typing import Any

from tests.fake_wire import Call


def said(text: Any, role: str = "user") -> Any:
    return {"type": "message", "role": role, "content": text}


def shown(call: Call) -> list[str]:
    """Returns the text of each message in a call of a chat model.

    A message with calls of tools has no text, and its content is null.
    """
    return [_text(message["content"] or []) for message in call.body["messages"]]


def _text(content: str | list[dict[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def sent(output: list[Any]) -> list[Any]:
    """Returns output items as a client sends them back."""
    return [item.to_dict(warnings=False) for item in output]
