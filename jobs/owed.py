"""Lists the results and approvals that a client owes after a response."""

from __future__ import annotations

from typing import Any, Final

Item = dict[str, Any]

# Maps the type of a call that a client executes to the type of its result.
_RESULTS: Final = {
    "function_call": "function_call_output",
    "custom_tool_call": "custom_tool_call_output",
    "computer_call": "computer_call_output",
    "local_shell_call": "local_shell_call_output",
    "shell_call": "shell_call_output",
    "apply_patch_call": "apply_patch_call_output",
    "tool_search_call": "tool_search_output",
}


def owed(output: list[Item]) -> list[Item]:
    """Returns a stub for each result or approval that the output items wait for.

    A stub is an input item without the result, as in the standard's `response.steer.pending`. A
    call that the provider has executed has its result in the output, and is not owed.
    """
    done = {(item["type"], item.get("call_id")) for item in output}
    stubs: list[Item] = []
    for item in output:
        kind, call_id = item["type"], item.get("call_id")
        if kind == "mcp_approval_request":
            stubs.append({"type": "mcp_approval_response", "approval_request_id": item["id"]})
            continue
        result = _RESULTS.get(kind)
        if result is None or (result, call_id) in done or item.get("status") == "incomplete":
            continue
        stub = {"type": result, "call_id": call_id}
        if kind == "function_call":
            stub["name"] = item["name"]
        elif kind == "tool_search_call":
            if item.get("execution") != "client":
                continue
            stub["execution"] = "client"
        stubs.append(stub)
    return stubs
