"""The cases of the standard's compliance suite, in our words: those that one request makes.

A prompt begins with words that the tests' model obeys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA"
    "AABJRU5ErkJggg=="
)
PDF = "JVBERi0xLjEKJSVFT0YK"
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather at a place.",
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string"}},
        "required": ["location"],
    },
}


def user(content: Any) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": content}


@dataclass(frozen=True)
class Case:
    """A request, and what the suite asks of its answer."""

    id: str
    script: str
    body: Any
    output: str = "message"
    kinds: set[str] = field(default_factory=set)

    def request(self, prompt: str) -> dict[str, Any]:
        """The body; `prompt` holds what the model obeys."""
        request: dict[str, Any] = {"model": "m", **self.body(prompt)}
        return request


TEXT_KINDS = {
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
}
CASES = [
    Case("basic-response", "", lambda prompt: {"input": [user(prompt)]}),
    Case(
        "streaming-response",
        "tokens=5",
        lambda prompt: {"input": [user(prompt)]},
        kinds={"response.created", "response.in_progress", "response.completed", *TEXT_KINDS},
    ),
    Case("string input", "", lambda prompt: {"input": prompt}),
    Case(
        "system-prompt",
        "",
        lambda prompt: {
            "input": [
                {"type": "message", "role": "system", "content": "Speak like a pirate."},
                user(prompt),
            ]
        },
    ),
    Case(
        "multi-turn",
        "",
        lambda prompt: {
            "input": [
                user("My name is Alice."),
                {"type": "message", "role": "assistant", "content": "Hello Alice."},
                user(prompt),
            ]
        },
    ),
]
