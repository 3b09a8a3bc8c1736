"""Writes an answer as a UI message stream, the protocol of the AI SDK's `useChat`.

Specification: https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol. An answer is one step of a
message. If the answer restarts, `reset-step` discards the parts of the step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from server.api.frames import DONE
from server.api.json_body import parse_text

from .answer import AnswerFormat, Part
from .cursor import BEGINNING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobs.log.codec import Event
    from server.api.problem import Problem

    from .cursor import AnswerCursor

Json = dict[str, Any]

_HEADERS: Final = {"x-vercel-ai-ui-message-stream": "v1"}
_REASONS: Final = {"max_output_tokens": "length", "content_filter": "content-filter"}
# The calls of tools that the model's provider executes itself.
_HOSTED: Final = frozenset(
    {
        "code_interpreter_call",
        "file_search_call",
        "image_generation_call",
        "mcp_call",
        "web_search_call",
    }
)


class UiMessageStream(AnswerFormat):
    """The format of a UI message stream.

    `message_id` is the id of the message that the answer extends, or None for a new message.
    `before` are the items of this message that precede the answer, for a client that has lost
    them.
    """

    headers: Mapping[str, str] = _HEADERS
    done = DONE

    def __init__(
        self,
        since: AnswerCursor = BEGINNING,
        message_id: str | None = None,
        before: tuple[Json, ...] = (),
    ) -> None:
        super().__init__(since)
        self._message_id = message_id
        self._before = before

    def opened(self, response: Json) -> list[Json]:
        """Begins a message, and the step of this answer."""
        metadata = {"responseId": response["id"], "model": response["model"]}
        id_ = self._message_id or response["id"]
        start = {"type": "start", "messageId": id_, "messageMetadata": metadata}
        return [start, *_earlier(self._before), {"type": "start-step"}]

    def part_begun(self, part: Part) -> list[Json]:
        """Begins a part of the message."""
        return [{"type": f"{part.kind}-start", "id": part.id}]

    def part_extended(self, part: Part, delta: str) -> list[Json]:
        """Extends a part of the message."""
        return [{"type": f"{part.kind}-delta", "id": part.id, "delta": delta}]

    def part_ended(self, part: Part) -> list[Json]:
        """Ends a part of the message."""
        return [{"type": f"{part.kind}-end", "id": part.id}]

    def call_begun(self, item: Json) -> list[Json]:
        """Begins a part for a call. The input of a custom tool is text, so it is sent whole."""
        if item["type"] != "function_call":
            return []
        return [
            {"type": "tool-input-start", "toolCallId": item["call_id"], "toolName": item["name"]}
        ]

    def call_extended(self, item: Json, delta: str) -> list[Json]:
        """Extends the JSON input of a call."""
        if item["type"] != "function_call":
            return []
        call = {"toolCallId": item["call_id"], "inputTextDelta": delta}
        return [{"type": "tool-input-delta", **call}]

    def call_ended(self, item: Json) -> list[Json]:
        """Sends the complete input of a call."""
        return [_call(item)]

    def other_item(self, item: Json) -> list[Json]:
        """Sends a call of a provider's tool together with its result."""
        if item["type"] not in _HOSTED:
            return []
        ran = {"toolCallId": item["id"], "providerExecuted": True}
        name = item["type"].removesuffix("_call")
        called = {"type": "tool-input-available", **ran, "toolName": name, "input": {}}
        return [called, {"type": "tool-output-available", **ran, "output": item}]

    def annotated(self, event: Event) -> list[Json]:
        """Sends a cited page as a source."""
        # The annotation is that of the provider, who may leave out any member.
        match event["annotation"]:
            case {"type": "url_citation", "url": str(url), **others}:
                source = f"{event['item_id']}-{event['content_index']}-{event['annotation_index']}"
                title = {"title": others["title"]} if others.get("title") else {}
                return [{"type": "source-url", "sourceId": source, "url": url, **title}]
            case _:
                return []

    def restarted(self) -> list[Json]:
        """Discards the parts of the step."""
        return [{"type": "reset-step"}]

    def finished(self, response: Json) -> list[Json]:
        """Ends the step and the message."""
        if response["status"] == "cancelled":
            return [{"type": "abort", "reason": "The response was cancelled."}]
        finish = {
            "type": "finish",
            "finishReason": _reason(response),
            "messageMetadata": _metadata(response),
        }
        return [{"type": "finish-step"}, finish]

    def failed(self, problem: Problem) -> list[Json]:
        """Ends the message with an error, which `useChat` shows."""
        return [{"type": "error", "errorText": problem.message}]


def _call(item: Json) -> Json:
    about = {"toolCallId": item["call_id"], "toolName": item["name"]}
    if item["type"] != "function_call":
        return {"type": "tool-input-available", **about, "input": item["input"]}
    try:
        arguments = parse_text(item["arguments"] or "{}")
    except ValueError:
        wrong = {"input": item["arguments"], "errorText": "The arguments are not valid JSON."}
        return {"type": "tool-input-error", **about, **wrong}
    return {"type": "tool-input-available", **about, "input": arguments}


def _earlier(items: tuple[Json, ...]) -> list[Json]:
    """Returns the step of a message that precedes this answer."""
    chunks: list[Json] = []
    for item in items:
        match item["type"]:
            case "message":
                text = "".join(part.get("text", "") for part in item["content"])
                part = {"id": item["id"]}
                chunks.append({"type": "text-start", **part})
                chunks.append({"type": "text-delta", **part, "delta": text})
                chunks.append({"type": "text-end", **part})
            case "function_call":
                chunks.append(_call(item))
            case "function_call_output":
                output = {"toolCallId": item["call_id"], "output": _value(item["output"])}
                chunks.append({"type": "tool-output-available", **output})
            case _:
                pass
    return [{"type": "start-step"}, *chunks, {"type": "finish-step"}] if chunks else []


def _value(output: Any) -> Any:
    """Returns a tool's result as the client's value, which the input has as JSON or as text."""
    try:
        value = parse_text(output) if isinstance(output, str) else output
    except ValueError:
        return output
    return value if isinstance(value, dict | list) else output


def _reason(response: Json) -> str:
    if response["status"] == "incomplete":
        return _REASONS.get(response["incomplete_details"]["reason"], "other")
    called = any(item["type"] in AnswerFormat.calls for item in response["output"])
    return "tool-calls" if called else "stop"


def _metadata(response: Json) -> Json:
    """Returns the metadata that the end of an answer adds to its message."""
    metadata = {"sha256": response["holdline"]["sha256"]}
    if usage := response["usage"]:
        metadata["usage"] = {
            "inputTokens": usage["input_tokens"],
            "outputTokens": usage["output_tokens"],
            "totalTokens": usage["total_tokens"],
        }
    return metadata
