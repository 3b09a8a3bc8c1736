"""The fake model's `mode=call` for the Responses API: an upstream that calls one tool."""

from __future__ import annotations

from typing import Any

from tests.fake_responses import EventWriter, begin, end, message, mode
from tests.fake_wire import Call, Script, Wire

Item = dict[str, Any]
FOUND = "found"
# For each type of item: the field that streams, and the name of its events.
STREAMED = {
    "function_call": ("arguments", "function_call_arguments"),
    "custom_tool_call": ("input", "custom_tool_call_input"),
    "mcp_call": ("arguments", "mcp_call_arguments"),
}


@mode
async def call(wire: Wire, script: Script, call: Call) -> None:
    """Calls the tool `name` with `args`, or answers with the result of the call.

    The client runs functions and custom tools. The upstream runs the tools of an MCP server, after
    the client has approved the call.
    """
    writer = await begin(wire)
    last = call.body["input"][-1]
    match last.get("type"):
        case "mcp_approval_response":
            await _answer_to_approval(writer, script, call, last)
        case str(kind) if kind.endswith("_output"):
            await _say(writer, script, call, last["output"])
        case _:
            for index, item in enumerate(_calls(script, call)):
                await _send(writer, index, item)
    await end(wire, writer)


def _calls(script: Script, call: Call) -> list[Item]:
    """Returns the items of the call of a tool."""
    names = {tool.get("name") or tool.get("server_label"): tool for tool in call.body["tools"]}
    tool = names[script.name] if script.name else call.body["tools"][0]
    named = {"name": tool.get("name"), "call_id": f"call_{call.number}", "status": "completed"}
    match tool["type"]:
        case "function":
            function = {"id": "fc_up", "type": "function_call", "arguments": script.args}
            return [{**function, **named}]
        case "custom":
            return [{"id": "ctc_up", "type": "custom_tool_call", "input": script.args, **named}]
        case _:
            server = {"server_label": tool["server_label"]}
            found = [{"name": "find", "input_schema": {"type": "object"}, "annotations": None}]
            return [
                {"id": "mcpl_up", "type": "mcp_list_tools", "tools": found, **server},
                {"id": "mcpr_up", "type": "mcp_approval_request", **server, **_find(script)},
            ]


async def _send(writer: EventWriter, index: int, item: Item) -> None:
    """Sends an item, and what streams of it as one delta."""
    field, name = STREAMED.get(item["type"], ("", ""))
    place = {"item_id": item["id"], "output_index": index}
    begun = {field: "", "status": "in_progress"} if field else {}
    await writer.item(index, {**item, **begun})
    if field:
        await writer.event(f"{name}.delta", **place, delta=item[field])
        await writer.event(f"{name}.done", **place, **{field: item[field]})
    await writer.item(index, item, done=True)


def _find(script: Script) -> Item:
    return {"name": "find", "arguments": script.args}


async def _answer_to_approval(
    writer: EventWriter, script: Script, call: Call, answer: Item
) -> None:
    """Runs the approved call, or says that it was refused."""
    if not answer["approve"]:
        await _say(writer, script, call, "refused")
        return
    items = {item.get("id"): item for item in call.body["input"]}
    ran: Item = {
        "id": "mcp_up",
        "type": "mcp_call",
        "server_label": items[answer["approval_request_id"]]["server_label"],
        "approval_request_id": answer["approval_request_id"],
        "output": FOUND,
        "error": None,
        "status": "completed",
        **_find(script),
    }
    await _send(writer, 0, ran)
    await _say(writer, script, call, FOUND, index=1)


async def _say(
    writer: EventWriter, script: Script, call: Call, output: Any, *, index: int = 0
) -> None:
    """Sends a message with a tool's output, which is a string or a list of text parts."""
    text = output if isinstance(output, str) else "".join(part["text"] for part in output)
    script.say = text.replace(" ", "_")
    await message(writer, script, call, index=index)
