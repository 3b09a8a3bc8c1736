"""The fake model's `/v1/responses`: an upstream that speaks the standard, in its own ids and words.

`mode` is one of `MODES` here, or one of the refusals of `tests.fake_chat`.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from tests.fake_chat import for_ever, tokens
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


class Telling:
    """Events of one response, numbered as the upstream numbers them."""

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


async def begin(wire: Wire) -> Telling:
    await wire.begin()
    telling = Telling(wire)
    await telling.life("created")
    await telling.life("in_progress")
    return telling


async def message(
    telling: Telling, script: Script, call: Call, *, index: int = 0, cut: bool = False
) -> None:
    """A message; `cut` ends it before its last half."""
    item = {"id": "msg_up", "type": "message", "role": "assistant", "phase": "final_answer"}
    place = {"item_id": "msg_up", "output_index": index, "content_index": 0}
    part: dict[str, Any] = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    await telling.item(index, {**item, "status": "in_progress", "content": []})
    await telling.event("content_part.added", **place, part=part)
    for token in tokens(script, call)[: script.turn if cut else None]:
        call.sent += token
        more = {"logprobs": [], "obfuscation": "xyz"}
        await telling.event("output_text.delta", **place, delta=token, **more)
        if script.pace:
            await asyncio.sleep(script.pace)
    if cut:
        return
    part = {**part, "text": call.sent}
    await telling.event("output_text.done", **place, text=call.sent, logprobs=[])
    await telling.event("content_part.done", **place, part=part)
    await telling.item(index, {**item, "status": "completed", "content": [part]}, done=True)


async def end(wire: Wire, telling: Telling, kind: str = "completed", **more: Any) -> None:
    await telling.life(kind, usage=USAGE, **more)
    await wire.end()


@mode
async def ok(wire: Wire, script: Script, call: Call) -> None:
    """An answer."""
    telling = await begin(wire)
    await message(telling, script, call)
    await end(wire, telling)


@mode
async def slow(wire: Wire, script: Script, call: Call) -> None:
    """An answer at a human pace."""
    script.pace = script.pace or 0.02
    await ok(wire, script, call)


@mode
async def rich(wire: Wire, script: Script, call: Call) -> None:
    """Reasoning, an item that nobody here knows, a call of a function, an answer."""
    telling = await begin(wire)
    thought: dict[str, Any] = {
        "id": "rs_up",
        "type": "reasoning",
        "summary": [],
        "encrypted_content": None,
    }
    place = {"item_id": "rs_up", "output_index": 0, "summary_index": 0}
    summary = {"type": "summary_text", "text": "Hm."}
    await telling.item(0, thought)
    await telling.event("reasoning_summary_part.added", **place, part={**summary, "text": ""})
    await telling.event("reasoning_summary_text.delta", **place, delta="Hm.")
    await telling.event("reasoning_summary_text.done", **place, text="Hm.")
    await telling.event("reasoning_summary_part.done", **place, part=summary)
    await telling.item(
        0, {**thought, "summary": [summary], "encrypted_content": "opaque"}, done=True
    )
    odd = {"id": "odd_up", "type": "odd_call", "status": "in_progress", "content": "none"}
    await telling.item(1, odd)
    await telling.event("odd_call.searching", item_id="odd_up", output_index=1, what={"a": [1]})
    await telling.item(1, {**odd, "status": "completed", "action": {"query": "q"}}, done=True)
    function = {"id": "fc_up", "type": "function_call", "call_id": "call_up", "name": "f"}
    at = {"item_id": "fc_up", "output_index": 2}
    await telling.item(2, {**function, "status": "in_progress", "arguments": ""})
    for piece in ('{"a"', ": 1}"):
        await telling.event("function_call_arguments.delta", **at, delta=piece)
    await telling.event("function_call_arguments.done", **at, arguments='{"a": 1}')
    called = {**function, "status": "completed", "arguments": '{"a": 1}'}
    await telling.item(2, called, done=True)
    await telling.event("keepalive")
    await message(telling, script, call, index=3)
    await end(wire, telling)


@mode
async def length(wire: Wire, script: Script, call: Call) -> None:
    """Stopped by its limit, its item left open."""
    telling = await begin(wire)
    await message(telling, script, call, cut=True)
    await end(wire, telling, "incomplete", incomplete_details={"reason": "max_output_tokens"})


@mode
async def filtered(wire: Wire, script: Script, call: Call) -> None:
    """Stopped by a filter."""
    telling = await begin(wire)
    await message(telling, script, call, cut=True)
    await end(wire, telling, "incomplete", incomplete_details={"reason": "content_filter"})


def fails(code: str) -> Mode:
    async def fail(wire: Wire, script: Script, call: Call) -> None:
        telling = await begin(wire)
        await message(telling, script, call, cut=True)
        await end(wire, telling, "failed", error={"code": code, "message": SECRET})

    return fail


MODES |= {
    "failed": fails("server_error"),
    "limited": fails("rate_limit_exceeded"),
    "invalid": fails("invalid_prompt"),
}


@mode
async def errorevent(wire: Wire, script: Script, call: Call) -> None:
    """An error event in mid-stream."""
    telling = await begin(wire)
    await message(telling, script, call, cut=True)
    await wire.event({"type": "error", "code": "server_error", "message": SECRET})
    await wire.end()


@mode
async def eof(wire: Wire, script: Script, call: Call) -> None:
    """A clean end in mid-answer."""
    telling = await begin(wire)
    await message(telling, script, call, cut=True)
    await wire.end()


@mode
async def begun(wire: Wire, script: Script, call: Call) -> None:
    """An item begins, and then nothing."""
    telling = await begin(wire)
    await telling.item(0, {"id": "rs_up", "type": "reasoning", "summary": []})
    await for_ever()


@mode
async def hang(wire: Wire, script: Script, call: Call) -> None:
    """Falls silent in mid-answer."""
    telling = await begin(wire)
    await message(telling, script, call, cut=True)
    await for_ever()


@mode
async def stranger(wire: Wire, script: Script, call: Call) -> None:
    """A delta of an item that never began."""
    telling = await begin(wire)
    await telling.event("output_text.delta", item_id="x", output_index=7, content_index=0, delta="")
    await end(wire, telling)


@mode
async def chat(wire: Wire, script: Script, call: Call) -> None:
    """Chunks of a chat completion: the operator named the wrong `api`."""
    await wire.begin()
    await wire.event({"object": "chat.completion.chunk", "choices": []})
    await wire.end()
