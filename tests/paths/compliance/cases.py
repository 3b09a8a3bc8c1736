"""The single-request cases of the standard's compliance suite, rewritten for these tests.

Each prompt begins with words that control the fake model. `test_compliance.py` has a test for each
of the other cases.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# The ids of all cases of the suite, as of July 2026.
SUITE = (
    "basic-response",
    "assistant-phase",
    "response-output-phase-schema",
    "streaming-response",
    "websocket-response",
    "websocket-sequential-responses",
    "websocket-continuation",
    "websocket-reconnect-store-false-recovery",
    "websocket-previous-response-not-found",
    "websocket-failed-continuation-evicts-cache",
    "websocket-compact-new-chain",
    "system-prompt",
    "tool-calling",
    "image-input",
    "multi-turn",
    "compact-response",
    "compact-missing-model",
)
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


def assistant(content: Any, phase: str | None = None) -> dict[str, Any]:
    labelled = {} if phase is None else {"phase": phase}
    return {"type": "message", "role": "assistant", "content": content, **labelled}


def text(prompt: str) -> dict[str, Any]:
    return {"input": prompt}


@dataclass(frozen=True)
class Case:
    """A request, and the properties that the compliance suite requires of its response."""

    id: str
    script: str
    body: Any
    output: str = "message"
    kinds: set[str] = field(default_factory=set)

    def request(self, prompt: str) -> dict[str, Any]:
        """Returns the request body. `prompt` contains the script for the fake model."""
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
CALL_KINDS = {
    "response.output_item.added",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.output_item.done",
}
ARGUMENTS = '{"location":"Bern"}'
CASES = [
    Case("basic-response", "", lambda prompt: {"input": [user(prompt)]}),
    Case(
        "streaming-response",
        "tokens=5",
        lambda prompt: {"input": [user(prompt)]},
        kinds={"response.created", "response.in_progress", "response.completed", *TEXT_KINDS},
    ),
    Case("string input", "", text),
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
                assistant("Hello Alice."),
                user(prompt),
            ]
        },
    ),
    Case(
        "assistant-phase",
        "",
        lambda prompt: {
            "input": [
                assistant("The saved number is the answer.", "commentary"),
                assistant("The number is four.", "final_answer"),
                user(prompt),
            ]
        },
    ),
    Case(
        "tool-calling",
        f"mode=call args={ARGUMENTS}",
        lambda prompt: {"input": [user(prompt)], "tools": [WEATHER]},
        output="function_call",
        kinds=CALL_KINDS,
    ),
    Case(
        "image-input",
        "",
        lambda prompt: {
            "input": [
                user(
                    [
                        {"type": "input_text", "text": prompt},
                        {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"},
                    ]
                )
            ]
        },
    ),
    # The standard's schema describes these features, but the suite has no case for them.
    Case(
        "file-input",
        "",
        lambda prompt: {
            "input": [
                user(
                    [
                        {"type": "input_text", "text": prompt},
                        {
                            "type": "input_file",
                            "filename": "empty.pdf",
                            "file_data": f"data:application/pdf;base64,{PDF}",
                        },
                    ]
                )
            ]
        },
    ),
    Case(
        "parallel calls of allowed tools",
        f"mode=calls args={ARGUMENTS}",
        lambda prompt: {
            "input": prompt,
            "tools": [WEATHER],
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": WEATHER["name"]}],
            },
        },
        output="function_call",
        kinds=CALL_KINDS,
    ),
    Case(
        "structured output",
        'say={"ok":true}',
        lambda prompt: {
            "input": prompt,
            "text": {
                "format": {
                    "type": "json_schema",
                    "name": "outcome",
                    "strict": True,
                    "schema": {"type": "object", "properties": {"ok": {"type": "boolean"}}},
                }
            },
        },
    ),
    Case(
        "reasoning",
        "mode=think",
        lambda prompt: {"input": prompt, "reasoning": {"effort": "low", "summary": "auto"}},
        output="reasoning",
        kinds=TEXT_KINDS,
    ),
    Case(
        "refusal",
        "mode=refuse",
        text,
        kinds={"response.refusal.delta", "response.refusal.done"},
    ),
    Case(
        "source",
        "mode=cite",
        text,
        kinds={"response.output_text.annotation.added"},
    ),
    Case(
        "log probabilities",
        "mode=probs",
        lambda prompt: {
            "input": prompt,
            "top_logprobs": 2,
            "include": ["message.output_text.logprobs"],
        },
        kinds=TEXT_KINDS,
    ),
]
