"""Finds the calls of results in a request's input, and the places of items for errors."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from .items import Item, ItemReference, Passed
from .problem import invalid

# Maps the type of a result to the type of its call.
_RESULTS: Final = {
    f"{kind}_output": kind
    for kind in ("function_call", "custom_tool_call", "shell_call", "apply_patch_call")
}


def place_of(item: dict[str, Any], given: list[Item]) -> str:
    """Returns the place of an item in the client's input, for an error.

    The index in the list that a model receives may be another: a template's messages and pending
    steers come before the input, and items of void attempts are left out.
    """
    for index, one in enumerate(given):
        told = one.fields if isinstance(one, Passed) else msgspec.to_builtins(one)
        if all(told.get(name) == item.get(name) for name in _PLACED):
            return f"input[{index}]"
    return "input"


def place_of_reference(id_: str, given: list[Item]) -> str:
    """Returns the place of the reference to an item in the client's input, for an error."""
    for index, one in enumerate(given):
        if isinstance(one, ItemReference) and one.id == id_:
            return f"input[{index}].id"
    return "input"


# The members that `stored` keeps, and by which an error finds a result or a summary in the input.
_PLACED: Final = ("type", "call_id", "encrypted_content")


def check_results(
    before: list[dict[str, Any]], items: list[dict[str, Any]], given: list[Item]
) -> None:
    """Raises Problem for the result of a call without an earlier call, which models reject.

    `given` is the input as the client sent it.
    """
    if any(item["type"] == "compaction" for item in (*before, *items)):
        return  # the call may be in the compacted part of the conversation
    asked = {call for item in before if (call := _call_of(item)) is not None}
    for item in items:
        if (call := _call_of(item)) is not None:
            asked.add(call)
        elif (kind := _RESULTS.get(item["type"])) and (kind, item["call_id"]) not in asked:
            raise invalid(
                f"{place_of(item, given)}.call_id",
                f"No earlier {kind} has the call_id '{item['call_id'][:64]}'. Send the call "
                "too, or continue from its response with 'previous_response_id'.",
            )


def without_void_results(
    before: list[dict[str, Any]], items: list[dict[str, Any]], void_calls: frozenset[str]
) -> list[dict[str, Any]]:
    """Returns the input without the results of void calls.

    Some clients execute each call as soon as it has ended, whatever its status is. They send the
    result even if the call belongs to a void attempt, which no model knows.
    """
    if not void_calls:
        return items
    void = unknown_results(before, items) & void_calls
    return [item for item in items if not (is_result(item) and item.get("call_id") in void)]


def unknown_results(before: list[dict[str, Any]], items: list[dict[str, Any]]) -> set[str]:
    """Returns the call ids of the results in the input whose calls are missing."""
    results = {item.get("call_id") for item in items if is_result(item)}
    if not results:
        return set()
    known = {item.get("call_id") for item in (*before, *items) if not is_result(item)}
    return {call for call in results - known if isinstance(call, str)}


def is_result(item: dict[str, Any]) -> bool:
    """Returns True for the result of a call."""
    return str(item["type"]).endswith("_output")


def _call_of(item: dict[str, Any]) -> tuple[str, str] | None:
    kind = item["type"]
    return (kind, item["call_id"]) if f"{kind}_output" in _RESULTS else None
