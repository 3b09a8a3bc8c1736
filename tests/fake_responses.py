"""The fake model's `/v1/responses`: an upstream of the Responses API with its own ids.

`mode` is one of `MODES` here or one of the error modes of `tests.fake_chat`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from typing import Any

from tests.fake_chat import tokens, unending, wait_forever
from tests.fake_wire import Call, Mode, Script, Wire

MODES: dict[str, Mode] = {}
USAGE = {
    "input_tokens": 7,
    "input_tokens_details": {"cached_tokens": 2},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 16,
}
SECRET = "no: it is the upstream's own"


def mode(run: Mode) -> Mode:
    MODES[run.__name__] = run
    return run


class EventWriter:
    """Sends the events of one response with the upstream's own sequence numbers."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._numbers = itertools.count()

    async def event(self, kind: str, **fields: Any) -> None:
        number = {"type": f"response.{kind}", "sequence_number": next(self._numbers)}
        await self._wire.raw(b"event: response.%b\n" % kind.encode())
        await self._wire.event({**number, **fields})

    async def life(self, kind: str, **more: Any) -> None:
        await self.event(kind, response={"id": "resp_upstream", "status": kind, **more})

    async def item(self, index: int, item: dict[str, Any], *, done: bool = False) -> None:
        await self.event(
            f"output_item.{'done' if done else 'added'}", output_index=index, item=item
        )


async def begin(wire: Wire) -> EventWriter:
    await wire.begin()
    writer = EventWriter(wire)
    await writer.life("created")
    await writer.life("in_progress")
    return writer


async def message(
    writer: EventWriter,
    script: Script,
    call: Call,
    *,
    index: int = 0,
    cut: bool = False,
    phase: str = "final_answer",
    said: Iterable[str] | None = None,
) -> None:
    """Sends a message. With `cut`, sends only the tokens before `at`, without the message's end."""
    id_ = f"msg_up_{index}"
    text = ""
    item = {"id": id_, "type": "message", "role": "assistant", "phase": phase}
    place = {"item_id": id_, "output_index": index, "content_index": 0}
    part: dict[str, Any] = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    await writer.item(index, {**item, "status": "in_progress", "content": []})
    await writer.event("content_part.added", **place, part=part)
    some = tokens(script, call)[: script.turn if cut else None]
    for token in some if said is None else said:
        call.sent += token
        text += token
        more = {"logprobs": [], "obfuscation": "xyz"}
        await writer.event("output_text.delta", **place, delta=token, **more)
        if script.pace:
            await asyncio.sleep(script.pace)
    if cut:
        return
    part = {**part, "text": text}
    await writer.event("output_text.done", **place, text=text, logprobs=[])
    await writer.event("content_part.done", **place, part=part)
    await writer.item(index, {**item, "status": "completed", "content": [part]}, done=True)


async def end(wire: Wire, writer: EventWriter, kind: str = "completed", **more: Any) -> None:
    await writer.life(kind, usage=USAGE, **more)
    await wire.end()


@mode
async def ok(wire: Wire, script: Script, call: Call) -> None:
    """Sends a complete answer."""
    writer = await begin(wire)
    await message(writer, script, call)
    await end(wire, writer)


@mode
async def slow(wire: Wire, script: Script, call: Call) -> None:
    """Sends an answer with a pause between tokens."""
    script.pace = script.pace or 0.02
    await ok(wire, script, call)


@mode
async def until(wire: Wire, script: Script, call: Call) -> None:
    """Sends tokens until `call.closing` is set."""
    script.pace = script.pace or 0.02
    writer = await begin(wire)
    await message(writer, script, call, said=unending(call))
    await end(wire, writer)


@mode
async def fast(wire: Wire, script: Script, call: Call) -> None:
    """Sends the tokens without pauses."""
    await ok(wire, script, call)


@mode
async def rich(wire: Wire, script: Script, call: Call) -> None:
    """Sends reasoning, an item of an unknown type, a function call and an answer."""
    writer = await begin(wire)
    thought: dict[str, Any] = {
        "id": "rs_up",
        "type": "reasoning",
        "summary": [],
        "encrypted_content": None,
    }
    place = {"item_id": "rs_up", "output_index": 0, "summary_index": 0}
    summary = {"type": "summary_text", "text": "Hm."}
    await writer.item(0, thought)
    await writer.event("reasoning_summary_part.added", **place, part={**summary, "text": ""})
    await writer.event("reasoning_summary_text.delta", **place, delta="Hm.")
    await writer.event("reasoning_summary_text.done", **place, text="Hm.")
    await writer.event("reasoning_summary_part.done", **place, part=summary)
    await writer.item(
        0, {**thought, "summary": [summary], "encrypted_content": "opaque"}, done=True
    )
    odd = {"id": "odd_up", "type": "odd_call", "status": "in_progress", "content": "none"}
    await writer.item(1, odd)
    await writer.event("odd_call.searching", item_id="odd_up", output_index=1, what={"a": [1]})
    await writer.item(1, {**odd, "status": "completed", "action": {"query": "q"}}, done=True)
    function = {"id": "fc_up", "type": "function_call", "call_id": "call_up", "name": "f"}
    at = {"item_id": "fc_up", "output_index": 2}
    await writer.item(2, {**function, "status": "in_progress", "arguments": ""})
    for piece in ('{"a"', ": 1}"):
        await writer.event("function_call_arguments.delta", **at, delta=piece)
    await writer.event("function_call_arguments.done", **at, arguments='{"a": 1}')
    called = {**function, "status": "completed", "arguments": '{"a": 1}'}
    await writer.item(2, called, done=True)
    await writer.event("keepalive")
    await message(writer, script, call, index=3)
    await end(wire, writer)


@mode
async def phases(wire: Wire, script: Script, call: Call) -> None:
    """Sends a commentary and then the answer."""
    writer = await begin(wire)
    await message(writer, script, call, phase="commentary")
    await message(writer, script, call, index=1)
    await end(wire, writer)


@mode
async def length(wire: Wire, script: Script, call: Call) -> None:
    """Sends an answer that ends at the token limit and leaves its item unfinished."""
    writer = await begin(wire)
    await message(writer, script, call, cut=True)
    await end(wire, writer, "incomplete", incomplete_details={"reason": "max_output_tokens"})


@mode
async def filtered(wire: Wire, script: Script, call: Call) -> None:
    """Sends an answer that a content filter stops."""
    writer = await begin(wire)
    await message(writer, script, call, cut=True)
    await end(wire, writer, "incomplete", incomplete_details={"reason": "content_filter"})


def fails(code: str) -> Mode:
    async def fail(wire: Wire, script: Script, call: Call) -> None:
        writer = await begin(wire)
        await message(writer, script, call, cut=True)
        await end(wire, writer, "failed", error={"code": code, "message": SECRET})

    return fail


MODES |= {
    "failed": fails("server_error"),
    "limited": fails("rate_limit_exceeded"),
    "invalid": fails("invalid_prompt"),
}


@mode
async def errorevent(wire: Wire, script: Script, call: Call) -> None:
    """Sends an error event mid-stream."""
    writer = await begin(wire)
    await message(writer, script, call, cut=True)
    await wire.event({"type": "error", "code": "server_error", "message": SECRET})
    await wire.end()


@mode
async def cancelled(wire: Wire, script: Script, call: Call) -> None:
    """Ends mid-answer, because somebody has cancelled it at the endpoint."""
    writer = await begin(wire)
    await message(writer, script, call, cut=True)
    await writer.life("cancelled", error=None)
    await wire.end()


@mode
async def losing(wire: Wire, script: Script, call: Call) -> None:
    """Sends the error `name` mid-stream, as another Holdline does; its status is `after`."""
    writer = await begin(wire)
    await message(writer, script, call, cut=True)
    error = {"message": SECRET, "type": "invalid_request_error", "param": None}
    error |= {"code": script.name or None}
    await wire.event({"type": "error", "status": int(script.after), "error": error})
    await wire.end()


@mode
async def eof(wire: Wire, script: Script, call: Call) -> None:
    """Ends the body mid-answer."""
    writer = await begin(wire)
    await message(writer, script, call, cut=True)
    await wire.end()


async def _call(writer: EventWriter, index: int, *, cut: bool = False) -> None:
    """Sends a function call. With `cut`, sends only a part of it."""
    item = {"id": f"fc_{index}", "type": "function_call", "call_id": f"call_{index}", "name": "f"}
    place = {"item_id": item["id"], "output_index": index}
    await writer.item(index, {**item, "status": "in_progress", "arguments": ""})
    await writer.event("function_call_arguments.delta", **place, delta='{"a":')
    if cut:
        return
    await writer.event("function_call_arguments.delta", **place, delta=" 1}")
    await writer.event("function_call_arguments.done", **place, arguments='{"a": 1}')
    called = {**item, "status": "completed", "arguments": '{"a": 1}'}
    await writer.item(index, called, done=True)


@mode
async def cutcall(wire: Wire, script: Script, call: Call) -> None:
    """Ends the body in the middle of a function call."""
    await _call(await begin(wire), 0, cut=True)
    await wire.end()


@mode
async def cutcalls(wire: Wire, script: Script, call: Call) -> None:
    """Sends text and a whole function call, and ends the body in the middle of another call."""
    await _calls(wire, script, call)
    await wire.end()


@mode
async def stuckcalls(wire: Wire, script: Script, call: Call) -> None:
    """Sends the same as `cutcalls`, and keeps the connection open."""
    await _calls(wire, script, call)
    await wait_forever()


@mode
async def stucktext(wire: Wire, script: Script, call: Call) -> None:
    """Sends a whole function call and half of a text, and keeps the connection open."""
    writer = await begin(wire)
    await _call(writer, 0)
    await _call(writer, 1)
    await message(writer, script, call, index=2, cut=True)
    await wait_forever()


async def _calls(wire: Wire, script: Script, call: Call) -> None:
    writer = await begin(wire)
    await message(writer, script, call)
    await _call(writer, 1)
    await _call(writer, 2, cut=True)


@mode
async def begun(wire: Wire, script: Script, call: Call) -> None:
    """Starts an item and sends nothing more."""
    writer = await begin(wire)
    await writer.item(0, {"id": "rs_up", "type": "reasoning", "summary": []})
    await wait_forever()


@mode
async def late(wire: Wire, script: Script, call: Call) -> None:
    """Starts an item, thinks for `after` seconds, and then sends an answer."""
    writer = await begin(wire)
    thought: dict[str, Any] = {"id": "rs_up", "type": "reasoning", "summary": []}
    await writer.item(0, thought)
    await asyncio.sleep(float(script.after))
    await writer.item(0, thought, done=True)
    await message(writer, script, call, index=1)
    await end(wire, writer)


@mode
async def hang(wire: Wire, script: Script, call: Call) -> None:
    """Stops sending mid-answer and keeps the connection open."""
    writer = await begin(wire)
    await message(writer, script, call, cut=True)
    await wait_forever()


@mode
async def unknownitem(wire: Wire, script: Script, call: Call) -> None:
    """Sends a delta for an item that was never added."""
    writer = await begin(wire)
    await writer.event("output_text.delta", item_id="x", output_index=7, content_index=0, delta="")
    await end(wire, writer)


@mode
async def chat(wire: Wire, script: Script, call: Call) -> None:
    """Sends chat completion chunks, as if the operator had configured the wrong `api`."""
    await wire.begin()
    await wire.event({"object": "chat.completion.chunk", "choices": []})
    await wire.end()
