"""Matches the calls of a history with their results, for both APIs."""

from __future__ import annotations

import json
from collections import deque
from typing import Any, Final

import jiter

Item = dict[str, Any]

NOT_EXECUTED: Final = "This call was not executed."


def matched(items: list[Item]) -> tuple[dict[int, int], set[int]]:
    """Returns the position of the call for each result, and the positions of repeated calls.

    Some servers use the same ids in each turn, so a result belongs to the last turn with its id.
    Within a turn, calls with the same id get their results in order.
    """
    waiting: dict[str, deque[int]] = {}
    found: dict[int, int] = {}
    repeated: set[int] = set()
    turn: dict[str, set[tuple[str, str]]] = {}  # from an id to its calls in this turn
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
    """Returns the arguments of a call as a JSON object.

    Many servers parse the arguments and fail if they are anything else. `whole` is True if the
    arguments are known to be complete. Otherwise arguments that are not an object were truncated,
    and the result is None.
    """
    try:
        if isinstance(jiter.from_json(text.encode(), allow_inf_nan=False), dict):
            return text
    except ValueError:
        pass
    if not text.strip() or text.strip() == "null":
        return "{}"
    return json.dumps({"invalid_arguments": text}) if whole else None
