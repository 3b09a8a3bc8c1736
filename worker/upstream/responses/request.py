"""Converts a request to the arguments of an endpoint of the Responses API.

Nearly all parameters are passed on unchanged. The request contains the items of all earlier turns,
because only Holdline stores responses. The endpoint stores a response only if it generates the
response in the background.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from jobs.support import ITEMS, REFUSED
from worker.upstream.chat.messages import UnsupportedInput
from worker.upstream.tool_calls import NOT_EXECUTED, matched, object_of, with_call_ids

if TYPE_CHECKING:
    from jobs.record import Job

Item = dict[str, Any]

_SAME: Final = (
    "access_programs",
    "context_management",
    "image",
    "include",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "moderation",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "temperature",
    "text",
    "tool_choice",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
)
# Parameters that are sent only if they are not 0, their default.
_UNLESS_ZERO: Final = ("presence_penalty", "frequency_penalty")
# Members of `prompt_cache_options` that are not sent: Holdline handles `prewarm`, and the endpoint
# does not know Holdline's response ids.
_OWN_CACHE_OPTIONS: Final = frozenset({"prewarm", "comparison_response_id"})
# Tools whose null members are not sent. Other tools are sent as the client sent them.
_READ_TOOLS: Final = frozenset({"function", "custom", "namespace"})
# Fields of items that are not sent, because they are only for chat completions.
_CHAT_FIELDS: Final = frozenset({"extra_content", "holdline_field", "holdline_model"})
# Items whose status is Holdline's own. It is not sent.
_OWN_STATUS: Final = frozenset(
    {
        "message",
        "function_call",
        "function_call_output",
        "reasoning",
        "custom_tool_call",
        "custom_tool_call_output",
    }
)
# Fields that contain a JSON schema. In a schema, null is a value, as in `{"const": null}`, so it is
# not removed.
_SCHEMAS: Final = frozenset({"output_schema", "parameters", "schema"})
_NOT_RUN: Final[dict[str, Item]] = {
    "custom_tool_call": {"output": NOT_EXECUTED},
    "local_shell_call": {"output": json.dumps({"output": NOT_EXECUTED})},
    "shell_call": {
        "output": [
            {"stdout": "", "stderr": NOT_EXECUTED, "outcome": {"type": "exit", "exit_code": 1}}
        ]
    },
    "apply_patch_call": {"status": "failed", "output": NOT_EXECUTED},
}
# The status of a finished item. An item without a status gets this status too.
_FINISHED: Final = (None, "completed", "failed")


def request(job: Job, *, model: str, background: bool = False) -> dict[str, Any]:
    """Returns the arguments for `POST /responses`, with streaming.

    If the endpoint generates the response in the `background`, it also stores the response.

    Raises: UnsupportedInput if the request has a parameter that the Responses API lacks.
    """
    params = job.params
    if params.get("holdline_stop") or params.get("holdline_seed") is not None:
        raise UnsupportedInput("stop and seed are not supported")
    arguments: dict[str, Any] = {
        "model": model,
        "input": items(job),
        "stream": True,
        "store": background,
        **{name: _given(params[name]) for name in _SAME if params.get(name) is not None},
    }
    if background:
        arguments["background"] = True
    if tools := params.get("tools"):
        arguments["tools"] = [
            _given(tool) if tool["type"] in _READ_TOOLS else tool for tool in tools
        ]
    cache = (params.get("prompt_cache_options") or {}).items()
    if sent := {name: value for name, value in cache if name not in _OWN_CACHE_OPTIONS}:
        arguments["prompt_cache_options"] = sent
    return arguments | {name: params[name] for name in _UNLESS_ZERO if params.get(name)}


# The arguments of `POST /responses/compact`.
_OF_COMPACT: Final = (
    "model",
    "image",
    "input",
    "instructions",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "text",
    "tools",
)


def compaction(job: Job, *, model: str) -> dict[str, Any]:
    """Returns the arguments for `POST /responses/compact`."""
    arguments = request(job, model=model)
    return {name: arguments[name] for name in _OF_COMPACT if name in arguments}


# The arguments of `POST /responses/input_tokens`.
_OF_COUNT: Final = (
    "model",
    "input",
    "instructions",
    "parallel_tool_calls",
    "reasoning",
    "text",
    "tool_choice",
    "tools",
    "truncation",
)


def counting(job: Job, *, model: str) -> dict[str, Any]:
    """Returns the arguments for `POST /responses/input_tokens`."""
    arguments = request(job, model=model)
    return {name: arguments[name] for name in _OF_COUNT if name in arguments}


def items(job: Job) -> list[Item]:
    """Returns the items of the earlier turns, followed by the items of the input."""
    asked = job.params.get("input", "")
    if isinstance(asked, str):
        asked = [{"type": "message", "role": "user", "content": asked}]
    shown = with_call_ids([*job.context, *asked])
    results, repeated = matched(shown)
    answered = set(results.values())
    outputs = {
        (item["type"], item.get("call_id")) for item in shown if "output" in item.get("type", "")
    }
    found: list[Item] = []
    for position, item in enumerate(shown):
        if position in repeated:
            continue
        kind = item.get("type", "message")
        if kind == "function_call" and position not in answered:
            found += _unanswered(item)
        elif kind in _NOT_RUN and (f"{kind}_output", item.get("call_id")) not in outputs:
            output = {"type": f"{kind}_output", "call_id": item.get("call_id"), **_NOT_RUN[kind]}
            found += [_item(item), _item(output)]
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

    Endpoints refuse an assistant message that was truncated before its first word, reasoning that
    has only a summary, and the call of a provider's own tool that was cut off.
    """
    match item.get("type", "message"):
        case "message":
            return bool(item.get("content")) or item.get("role") != "assistant"
        case "reasoning":
            return bool(item.get("encrypted_content") or item.get("content"))
        case kind if kind in ITEMS and ITEMS[kind].chat is REFUSED:
            return item.get("status") in _FINISHED
        case _:
            return True


def _item(item: Item) -> Item:
    kind = item.get("type", "message")
    row = ITEMS.get(kind)
    if row is None:
        return item
    kept = {name: value for name, value in item.items() if name not in _CHAT_FIELDS}
    if kind in _OWN_STATUS:
        kept.pop("status", None)
    if kind == "local_shell_call_output":
        # The standard names the call by `id`, whose value is the `call_id` in OpenAI's guide.
        kept["id"] = kept["call_id"]
    elif not row.needs_id:
        kept.pop("id", None)
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
