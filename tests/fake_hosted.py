"""The fake model's `mode=hosted`: an upstream of the Responses API that runs every hosted tool.

The items and events are those that the types of the official SDK describe.
"""

from __future__ import annotations

import asyncio
from typing import Any

from tests.fake_responses import EventWriter, begin, end, message, mode
from tests.fake_wire import Call, Script, Wire

Item = dict[str, Any]
IMAGE = "iVBORw0KGgo="
CODE = 'print("é")\n' * 3
ARGUMENTS = '{"q": "\\u00e9"}'
COMMAND = "ls -l"
PATCH = {"type": "update_file", "path": "a.txt", "diff": "@@\n-a\n+b"}
OUTCOME = {"type": "exit", "exit_code": 0}

# The complete items. Each one is added with the fields of `BEGUN` instead of its own.
ITEMS: tuple[Item, ...] = (
    {
        "id": "rs_up",
        "type": "reasoning",
        "summary": [],
        "encrypted_content": "sealed",
    },
    {
        "id": "ws_up",
        "type": "web_search_call",
        "status": "completed",
        "action": {
            "type": "search",
            "query": "sky",
            "queries": ["sky"],
            "sources": [{"type": "url", "url": "https://a.example"}],
        },
    },
    {
        "id": "fs_up",
        "type": "file_search_call",
        "status": "completed",
        "queries": ["sky"],
        "results": [
            {
                "file_id": "file_1",
                "filename": "a.txt",
                "score": 0.5,
                "text": "blue",
                "attributes": {},
            }
        ],
    },
    {
        "id": "ci_up",
        "type": "code_interpreter_call",
        "status": "completed",
        "code": CODE,
        "container_id": "cntr_1",
        "outputs": [{"type": "logs", "logs": "é"}],
    },
    {
        "id": "ig_up",
        "type": "image_generation_call",
        "status": "completed",
        "result": IMAGE * 3,
        "revised_prompt": "A sky",
    },
    {
        "id": "mcpl_up",
        "type": "mcp_list_tools",
        "server_label": "m",
        "tools": [{"name": "find", "input_schema": {"type": "object"}, "annotations": None}],
    },
    {
        "id": "mcp_up",
        "type": "mcp_call",
        "server_label": "m",
        "name": "find",
        "arguments": ARGUMENTS,
        "output": "found",
        "error": None,
        "status": "completed",
        "approval_request_id": None,
    },
    {
        "id": "mcpr_up",
        "type": "mcp_approval_request",
        "server_label": "m",
        "name": "send",
        "arguments": "{}",
    },
    {
        "id": "ctc_up",
        "type": "custom_tool_call",
        "call_id": "call_c",
        "name": "c",
        "input": CODE,
    },
    {
        "id": "lsh_up",
        "type": "local_shell_call",
        "status": "completed",
        "call_id": "call_l",
        "action": {"type": "exec", "command": ["ls"], "env": {}},
    },
    {
        "id": "sh_up",
        "type": "shell_call",
        "status": "completed",
        "call_id": "call_s",
        "action": {"commands": [COMMAND], "timeout_ms": None, "max_output_length": None},
        "environment": None,
    },
    {
        "id": "apc_up",
        "type": "apply_patch_call",
        "status": "completed",
        "call_id": "call_p",
        "operation": PATCH,
    },
    {
        "id": "cu_up",
        "type": "computer_call",
        "status": "completed",
        "call_id": "call_u",
        "action": {"type": "screenshot"},
        "pending_safety_checks": [],
    },
    {
        "id": "fc_up",
        "type": "function_call",
        "status": "completed",
        "call_id": "call_f",
        "name": "f",
        "namespace": "n",
        "arguments": ARGUMENTS,
    },
)
# Results of the provider in its last response object.
REPORTED: Item = {
    "moderation": {"input": {"type": "moderation_result", "flagged": False}},
    "tool_usage": {"web_search": {"num_requests": 1}},
}
BEGUN: dict[str, Item] = {
    "code_interpreter_call": {"code": "", "outputs": None},
    "image_generation_call": {"result": None},
    "mcp_list_tools": {"tools": []},
    "mcp_call": {"arguments": "", "output": None},
    "custom_tool_call": {"input": ""},
    "shell_call": {"action": {"commands": []}},
    "function_call": {"arguments": ""},
    "reasoning": {"encrypted_content": None},
}
# For each type of item: the types of its events, and their fields besides the item's place.
EVENTS: dict[str, list[tuple[str, Item]]] = {
    "web_search_call": [
        (f"web_search_call.{stage}", {}) for stage in ("in_progress", "searching", "completed")
    ],
    "file_search_call": [
        (f"file_search_call.{stage}", {}) for stage in ("in_progress", "searching", "completed")
    ],
    "code_interpreter_call": [
        ("code_interpreter_call.in_progress", {}),
        *(("code_interpreter_call_code.delta", {"delta": piece}) for piece in CODE),
        ("code_interpreter_call_code.done", {"code": CODE}),
        ("code_interpreter_call.interpreting", {}),
        ("code_interpreter_call.completed", {}),
    ],
    "image_generation_call": [
        ("image_generation_call.in_progress", {}),
        ("image_generation_call.generating", {}),
        *(
            (
                "image_generation_call.partial_image",
                {"partial_image_index": number, "partial_image_b64": IMAGE * (number + 1)},
            )
            for number in range(2)
        ),
        ("image_generation_call.completed", {}),
    ],
    "mcp_list_tools": [("mcp_list_tools.in_progress", {}), ("mcp_list_tools.completed", {})],
    "mcp_call": [
        ("mcp_call.in_progress", {}),
        *(("mcp_call_arguments.delta", {"delta": piece}) for piece in ARGUMENTS),
        ("mcp_call_arguments.done", {"arguments": ARGUMENTS}),
        ("mcp_call.completed", {}),
    ],
    "custom_tool_call": [
        *(("custom_tool_call_input.delta", {"delta": piece}) for piece in CODE),
        ("custom_tool_call_input.done", {"input": CODE}),
    ],
    "shell_call": [
        ("shell_call_command.added", {"command_index": 0, "command": ""}),
        *(("shell_call_command.delta", {"command_index": 0, "delta": c}) for c in COMMAND),
        ("shell_call_command.done", {"command_index": 0, "command": COMMAND}),
    ],
    "function_call": [
        ("function_call_arguments.delta", {"delta": ARGUMENTS}),
        ("function_call_arguments.done", {"arguments": ARGUMENTS, "name": "f"}),
    ],
}


@mode
async def hosted(wire: Wire, script: Script, call: Call) -> None:
    """Sends one item of each type, or of the types in `name`, and then a message."""
    writer = await begin(wire)
    kinds = script.name.split(",")
    items = [item for item in ITEMS if not script.name or item["type"] in kinds]
    for index, item in enumerate(items):
        await _item(writer, index, item, script.pace)
    await message(writer, script, call, index=len(items))
    await end(wire, writer, **REPORTED, instructions="of the provider")


async def _item(writer: EventWriter, index: int, item: Item, pace: float) -> None:
    kind = item["type"]
    begun = {**item, **BEGUN.get(kind, {})}
    if "status" in item:
        begun["status"] = "in_progress"
    await writer.item(index, begun)
    for name, fields in EVENTS.get(kind, []):
        place = {} if name.startswith("shell_call_command") else {"item_id": item["id"]}
        await writer.event(name, **place, output_index=index, **fields)
        await asyncio.sleep(pace)
    await writer.item(index, item, done=True)
