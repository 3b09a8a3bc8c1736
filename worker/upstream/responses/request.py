"""Converts a request to the arguments of an endpoint of the Responses API.

Nearly all parameters are passed on unchanged. Earlier turns are sent as items, because responses
are stored only by Holdline and never at the endpoint.
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
# Parameters whose default is 0.
_UNLESS_ZERO: Final = ("presence_penalty", "frequency_penalty")
# Fields that are not sent: the id and status are our own, the others are for chat completions.
_OURS: Final = frozenset({"id", "status", "extra_content", "holdline_field", "holdline_model"})
# Fields with a JSON schema, in which null is a value, as in `{"const": null}`.
_SCHEMAS: Final = frozenset({"parameters", "schema"})
_NAMELESS: Final = frozenset({"message", "function_call", "function_call_output", "reasoning"})


def request(job: Job, *, model: str) -> dict[str, Any]:
    """Returns the arguments for `POST /responses`, streamed and not stored.

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
    """Returns the items of earlier turns and of the input."""
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
    """Returns a call with a result, which endpoints require, or nothing if it was truncated."""
    if object_of(call["arguments"], whole=False) is None:
        return []
    answer = {"call_id": call["call_id"], "output": NOT_EXECUTED}
    return [_item(call), {"type": "function_call_output", **answer}]


def _says(item: Item) -> bool:
    """Returns False for an item that endpoints refuse.

    That is an assistant message truncated before its first word, or reasoning that has only a
    summary.
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
    """Returns the value without the null fields in it."""
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
