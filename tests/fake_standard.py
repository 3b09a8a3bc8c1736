"""More modes of the fake model: the other kinds of output that chat completions allow.

call      calls the first tool, or the tool `name`, with `args` as JSON; if the input ends with
          a call's result, also before a user message, the answer repeats that result
calls     two parallel calls with interleaved deltas
think     reasoning, then the answer
refuse    a refusal instead of an answer
cite      an answer with a source
probs     an answer with log probabilities, if they are requested
narrow    400, context length exceeded, for an input of more than `at` characters
"""

from __future__ import annotations

import asyncio
import json
from itertools import takewhile
from typing import Any

from tests.fake_chat import chunk, mode, say, stop, text_of, tokens
from tests.fake_wire import Call, Script, Wire


def call_delta(index: int, **fields: Any) -> dict[str, Any]:
    """Returns a delta of one tool call."""
    call_id = {"id": fields.pop("id"), "type": "function"} if "id" in fields else {}
    return {"tool_calls": [{"index": index, **call_id, "function": fields}]}


@mode
async def call(wire: Wire, script: Script, call: Call) -> None:
    """Sends a tool call, or an answer that repeats the result of a tool call."""
    await wire.begin()
    turn = list(takewhile(lambda m: m["role"] != "assistant", reversed(call.body["messages"])))
    results = [message for message in turn if message["role"] == "tool"]
    if results:
        script.say = results[0]["content"].replace(" ", "_")
        await say(wire, script, call)
        await stop(wire, script, call)
        return
    name = script.name or call.body["tools"][0]["function"]["name"]
    await wire.event(chunk(call_delta(0, id=f"call_{call.number}", name=name, arguments="")))
    for letter in script.args:
        await wire.event(chunk(call_delta(0, arguments=letter)))
        if script.pace:
            await asyncio.sleep(script.pace)
    await stop(wire, script, call, "tool_calls")


@mode
async def calls(wire: Wire, script: Script, call: Call) -> None:
    """Sends two parallel tool calls with interleaved deltas."""
    await wire.begin()
    names = [tool["function"]["name"] for tool in call.body["tools"]]
    for index in (0, 1):
        name = names[index % len(names)]
        await wire.event(chunk(call_delta(index, id=f"call_{call.number}_{index}", name=name)))
    for letter in script.args:
        for index in (0, 1):
            await wire.event(chunk(call_delta(index, arguments=letter)))
    await stop(wire, script, call, "tool_calls")


@mode
async def think(wire: Wire, script: Script, call: Call) -> None:
    """Sends reasoning and then the answer."""
    await wire.begin()
    for word in ("First ", "this."):
        await wire.event(chunk({"reasoning_content": word}))
    await say(wire, script, call)
    await stop(wire, script, call)


@mode
async def refuse(wire: Wire, script: Script, call: Call) -> None:
    """Sends a refusal."""
    await wire.begin()
    for word in ("I will ", "not."):
        await wire.event(chunk({"refusal": word}))
    await stop(wire, script, call)


@mode
async def cite(wire: Wire, script: Script, call: Call) -> None:
    """Sends an answer with a source."""
    await wire.begin()
    await say(wire, script, call)
    cited = {"url": "https://example.org/a", "title": "A", "start_index": 0, "end_index": 2}
    await wire.event(chunk({"annotations": [{"type": "url_citation", "url_citation": cited}]}))
    await stop(wire, script, call)


@mode
async def probs(wire: Wire, script: Script, call: Call) -> None:
    """Sends each token with its log probability and those of its alternatives."""
    await wire.begin()
    for token in tokens(script, call):
        event = chunk({"content": token})
        if call.body.get("logprobs"):
            one = {"token": token, "logprob": -0.5, "bytes": list(token.encode())}
            others = [one] * call.body["top_logprobs"]
            event["choices"][0]["logprobs"] = {"content": [one | {"top_logprobs": others}]}
        await wire.event(event)
    await stop(wire, script, call)


@mode
async def narrow(wire: Wire, script: Script, call: Call) -> None:
    """Rejects an input that is longer than `at` characters."""
    if sum(len(text_of(message)) for message in call.body["messages"]) > script.at:
        refused = {"code": "context_length_exceeded", "message": "too long", "type": "fake"}
        await wire.plain(400, json.dumps({"error": refused}))
        return
    await wire.begin()
    await say(wire, script, call)
    await stop(wire, script, call)
