"""Converts a request to the arguments of an endpoint of the Responses API.

Nearly all parameters are passed on unchanged. The request contains the items of all earlier turns,
because only Holdline stores responses. The endpoint never stores them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from worker.upstream.chat.messages import UnsupportedInput
from worker.upstream.tool_calls import NOT_EXECUTED, matched, object_of

if TYPE_CHECKING:
    from jobs.record import Job

Item = dict[str, Any]

_SAME: Final = (
    "include",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "parallel_tool_calls",
    "reasoning",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
)
# Parameters that are sent only if they are not 0, their default.
_UNLESS_ZERO: Final = ("presence_penalty", "frequency_penalty")
# Fields of items that are not sent. The id and the status are Holdline's own, and the other fields
# are only for chat completions.
_OURS: Final = frozenset({"id", "status", "extra_content", "holdline_field", "holdline_model"})
# Fields that contain a JSON schema. In a schema, null is a value, as in `{"const": null}`, so it is
# not removed.
_SCHEMAS: Final = frozenset({"parameters", "schema"})
_NAMELESS: Final = frozenset({"message", "function_call", "function_call_output", "reasoning"})


def request(job: Job, *, model: str) -> dict[str, Any]:
    """Returns the arguments for `POST /responses`, with streaming and without storage.

    Raises: UnsupportedInput if the request has a parameter that the Responses API lacks.
    """
    params = job.params
    if params.get("holdline_stop") or params.get("holdline_seed") is not None:
        raise UnsupportedInput("stop and seed are not supported")
    arguments: dict[str, Any] = {
        "model": model,
        "input": items(job),
        "stream": True,
        "store": False,
        **{name: _given(params[name]) for name in _SAME if params.get(name) is not None},
    }
    return arguments | {name: params[name] for name in _UNLESS_ZERO if params.get(name)}


def items(job: Job) -> list[Item]:
    """Returns the items of the earlier turns, followed by the items of the input."""
    asked = job.params.get("input", "")
    if isinstance(asked, str):
        asked = [{"type": "message", "role": "user", "content": asked}]
    shown = [*job.context, *asked]
    results, repeated = matched(shown)
    answered = set(results.values())
    found: list[Item] = []
    for position, item in enumerate(shown):
        if position in repeated:
            continue
        if item.get("type") == "function_call" and position not in answered:
            found += _unanswered(item)
        elif _says(item):
            found.append(_item(item))
    return found


def _unanswered(call: Item) -> list[Item]:
    """Returns a call without a result, followed by a result that says so.

    Endpoints require a result for each call. A truncated call is left out.
    """
    if object_of(call["arguments"], whole=False) is None:
        return []
    answer = {"call_id": call["call_id"], "output": NOT_EXECUTED}
    return [_item(call), {"type": "function_call_output", **answer}]


def _says(item: Item) -> bool:
    """Returns False for an item that endpoints would refuse.

    Endpoints refuse an assistant message that was truncated before its first word, and reasoning
    that has only a summary.
    """
    match item.get("type", "message"):
        case "message":
            return bool(item.get("content")) or item.get("role") != "assistant"
        case "reasoning":
            return bool(item.get("encrypted_content") or item.get("content"))
        case _:
            return True


def _item(item: Item) -> Item:
    kind = item.get("type", "message")
    if kind not in _NAMELESS:
        return item
    kept = {name: value for name, value in item.items() if name not in _OURS}
    if kind == "message" and isinstance(item.get("content"), list):
        kept["content"] = [_part(part) for part in item["content"]]
    return kept


def _part(part: Item) -> Item:
    if part.get("type") != "output_text":
        return part
    return {
        "type": "output_text",
        "text": part["text"],
        "annotations": part.get("annotations") or [],
    }


def _given(value: Any) -> Any:
    """Returns the value without fields that are null."""
    match value:
        case dict():
            return {
                name: inner if name in _SCHEMAS else _given(inner)
                for name, inner in value.items()
                if inner is not None
            }
        case list():
            return [_given(inner) for inner in value]
        case _:
            return value
