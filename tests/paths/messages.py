"""Messages and other items, as clients send them and as models get them."""

from __future__ import annotations

from typing import Any

from tests.fake_wire import Call


def said(text: Any, role: str = "user") -> Any:
    return {"type": "message", "role": role, "content": text}


def shown(call: Call) -> list[str]:
    """Returns the texts that a call of a chat model contains."""
    return [
        content if isinstance(content := message["content"], str) else content[0]["text"]
        for message in call.body["messages"]
    ]


def sent(output: list[Any]) -> list[Any]:
    """Returns output items as a client sends them back."""
    return [item.to_dict(warnings=False) for item in output]
