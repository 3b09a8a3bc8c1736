"""The standard's request -> the arguments of an upstream that speaks the standard itself.

Nearly all of it goes as it came. What was said in earlier turns goes along as items, because
nothing is stored there: an answer belongs to this side alone.
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
# 0 is what they are without being named.
_UNLESS_ZERO: Final = ("presence_penalty", "frequency_penalty")
# The ids and status are of this side, the others for chat completions.
_OURS: Final = frozenset({"id", "status", "extra_content", "holdline_field", "holdline_model"})
# A null in a JSON schema is a value: `{"const": null}`.
_SCHEMAS: Final = frozenset({"parameters", "schema"})
_NAMELESS: Final = frozenset({"message", "function_call", "function_call_output", "reasoning"})


def request(job: Job, *, model: str) -> dict[str, Any]:
    """The arguments for `POST /responses`, streamed and not stored.

    Raises: UnsupportedInput where the request asks for what the standard cannot say.
    """
    params = job.params
    if params.get("holdline_stop") or params.get("holdline_seed") is not None:
        raise UnsupportedInput("stop or seed")
    arguments: dict[str, Any] = {
        "model": model,
        "input": items(job),
        "stream": True,
        "store": False,
        **{name: _given(params[name]) for name in _SAME if params.get(name) is not None},
    }
    return arguments | {name: params[name] for name in _UNLESS_ZERO if params.get(name)}


def items(job: Job) -> list[Item]:
    """What was said in earlier turns, and what is asked now."""
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
    """The call with an answer, which an upstream demands; nothing if the call was cut."""
    if object_of(call["arguments"], whole=False) is None:
        return []
    answer = {"call_id": call["call_id"], "output": NOT_EXECUTED}
    return [_item(call), {"type": "function_call_output", **answer}]


def _says(item: Item) -> bool:
    """False for what an upstream refuses: a message that was cut before its first word, and
    reasoning that was told only in summary.
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
    """The value without what was left out in it."""
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
