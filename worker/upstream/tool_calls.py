"""Matches the function calls of a conversation with their results, for both APIs."""

from __future__ import annotations

import json
from collections import deque
from typing import Any, Final

import jiter

Item = dict[str, Any]

NOT_EXECUTED: Final = "This call was not executed."


def with_call_ids(items: list[Item]) -> list[Item]:
    """Returns the items with the `call_id` of its call in each `local_shell_call_output`.

    In the standard, such a result names its call by the id of the call's item. The call may belong
    to an earlier turn.
    """
    call_ids = {
        item["id"]: item["call_id"]
        for item in items
        if item.get("type") == "local_shell_call" and item.get("id") and item.get("call_id")
    }
    found: list[Item] = []
    for item in items:
        if item.get("type") == "local_shell_call_output":
            named = item.get("call_id") or item.get("id")
            found.append({**item, "call_id": call_ids.get(named, named)})
        else:
            found.append(item)
    return found


def matched(items: list[Item]) -> tuple[dict[int, int], set[int]]:
    """Returns a map from each result's position to its call's position, and the repeated calls.

    Some servers use the same call ids again in each turn, so a result belongs to the latest turn
    with its call id. Within a turn, results are assigned in order to calls with the same id. A call
    is repeated if the turn already contains it; the function returns the positions of such calls.
    """
    waiting: dict[str, deque[int]] = {}
    found: dict[int, int] = {}
    repeated: set[int] = set()
    # maps a call id to the calls with this id in the turn
    turn: dict[str, set[tuple[str, str]]] = {}
    for position, item in enumerate(items):
        match item.get("type", "message"):
            case "function_call":
                call_id, told = item["call_id"], (item["name"], item["arguments"])
                if call_id not in turn:
                    turn[call_id], waiting[call_id] = set(), deque()
                if told in turn[call_id]:
                    repeated.add(position)
                else:
                    turn[call_id].add(told)
                    waiting[call_id].append(position)
            case "function_call_output":
                if calls := waiting.get(item["call_id"]):
                    found[position] = calls.popleft()
                turn.clear()
            case "message" if item.get("role") != "assistant":
                turn.clear()
            case _:
                pass
    return found, repeated


def object_of(text: str, *, whole: bool) -> str | None:
    """Returns the arguments of a function call as the text of a JSON object.

    Many servers parse the arguments and fail if they are not an object. `whole` is True if the
    arguments are known to be complete; other values are then put into an object. If `whole` is
    False, arguments that are not an object count as truncated, and the result is None.
    """
    try:
        if isinstance(jiter.from_json(text.encode(), allow_inf_nan=False), dict):
            return text
    except ValueError:
        pass
    if not text.strip() or text.strip() == "null":
        return "{}"
    return json.dumps({"invalid_arguments": text}) if whole else None
