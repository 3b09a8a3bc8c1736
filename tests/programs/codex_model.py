"""A model that leads Codex CLI through a task over either API, with one tool call in each turn."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Iterator
from typing import Any, Final, Literal, Self

from aiohttp import web

Api = Literal["chat", "responses"]
Item = dict[str, Any]
Step = tuple[str, Item] | str

SUMMARY: Final = "A summary of the task."
# The reported size of a request. Codex compacts a conversation of FULL_TOKENS.
FEW_TOKENS, FULL_TOKENS = 100, 100_000


class CodexModel:
    """Plays one step of a task in each call: a tool with its input, or a text.

    The number of the step is the number of completed calls whose results have arrived. A repeated
    request and the result of a call that was cut off therefore do not change the step. `bodies` are
    the requests. A request for a summary of the conversation is answered in addition to the steps.

    The first call of each step in `stalls` sends half of its pieces. Its event in `stalled` is then
    set, and the call waits until its event in `resumed` is set, or until the worker closes the
    connection. The step `full` reports so many tokens that Codex compacts the conversation.
    """

    def __init__(
        self, api: Api, steps: list[Step], *, stalls: Collection[int] = (), full: int = -1
    ) -> None:
        self.api = api
        self.bodies: list[Item] = []
        self.url = ""
        self.stalled = {step: asyncio.Event() for step in stalls}
        self.resumed = {step: asyncio.Event() for step in stalls}
        self._steps = steps
        self._full = full
        self._completed: set[str] = set()
        self._results: dict[str, Any] = {}
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/v1/chat/completions", self._answer)
        app.router.add_post("/v1/responses", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def results(self) -> list[Any]:
        """The results of all completed calls."""
        return list(self._results.values())

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        for call_id, result in _results(body):
            if call_id in self._completed:
                self._results.setdefault(call_id, result)
        number = min(len(self._results), len(self._steps) - 1)
        call_id = f"call_{len(self.bodies)}"
        step = SUMMARY if compacts(body) else self._steps[number]
        item = _item(step, call_id, sealed=_triggered(body))
        tokens = FULL_TOKENS if number == self._full and step != SUMMARY else FEW_TOKENS
        pieces = list(_PIECES[self.api](item, tokens))
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for sent, piece in enumerate(pieces):
            if sent == len(pieces) // 2 and not await self._pause(number, request):
                return response
            await response.write(b"data: %b\n\n" % json.dumps(piece).encode())
        self._completed.add(call_id)
        return response

    async def _pause(self, step: int, request: web.Request) -> bool:
        """Pauses the first call of a step that stalls.

        Returns False if the worker closes the connection meanwhile.
        """
        if step not in self.stalled or self.stalled[step].is_set():
            return True
        self.stalled[step].set()
        while not self.resumed[step].is_set():
            if request.transport is None or request.transport.is_closing():
                return False
            await asyncio.sleep(0.05)  # the polling interval
        return True


def _triggered(body: Item) -> bool:
    """Returns whether the request asks for a `compaction` item, as only the Responses API can."""
    return bool(body.get("input")) and body["input"][-1]["type"] == "compaction_trigger"


def compacts(body: Item) -> bool:
    """Returns whether a request asks for a summary of the conversation."""
    return _triggered(body) or not body.get("tools") or body.get("tool_choice") == "none"


def _results(body: Item) -> Iterator[tuple[str, Any]]:
    """Yields the ids of the calls that have a result in a request, with the results."""
    for message in body.get("messages", []):
        if message["role"] == "tool":
            yield message["tool_call_id"], message["content"]
    for item in body.get("input", []):
        if item["type"].endswith("_output"):
            yield item["call_id"], item.get("output", item.get("tools"))


def _item(step: Step, call_id: str, *, sealed: bool) -> Item:
    """Returns the output item of a step. Its text is cut into deltas."""
    item: Item = {"id": f"item_{call_id}", "call_id": call_id, "status": "completed"}
    if sealed:
        return {"id": item["id"], "type": "compaction", "encrypted_content": step}
    if isinstance(step, str):
        part = {"type": "output_text", "text": step, "annotations": []}
        del item["call_id"]
        return item | {"type": "message", "role": "assistant", "content": [part]}
    name, given = step
    if name == "apply_patch":
        return item | {"type": "custom_tool_call", "name": name, "input": given["input"]}
    if name == "tool_search":
        return item | {"type": "tool_search_call", "execution": "client", "arguments": given}
    return item | {"type": "function_call", "name": name, "arguments": json.dumps(given)}


def _chat_pieces(item: Item, tokens: int) -> Iterator[Item]:
    """Yields the chunks of a chat completion. Holdline made functions of all tools."""
    if item["type"] == "message":
        deltas: list[Item] = [{"content": part} for part in _cut(item["content"][0]["text"])]
        reason = "stop"
    else:
        given = item.get("arguments", {"input": item.get("input")})
        text = given if isinstance(given, str) else json.dumps(given)
        name = item.get("name", "tool_search")
        head = {"id": item["call_id"], "type": "function", "function": {"name": name}}
        rest = [{"function": {"arguments": part}} for part in _cut(text)]
        deltas = [{"tool_calls": [{"index": 0, **piece}]} for piece in (head, *rest)]
        reason = "tool_calls"
    for delta in deltas:
        yield {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
    usage = {"prompt_tokens": tokens, "completion_tokens": 1, "total_tokens": tokens + 1}
    yield {"choices": [], "usage": usage}


def _response_pieces(item: Item, tokens: int) -> Iterator[Item]:
    """Yields the events of a response, which consists of reasoning and the item."""
    kind = item["type"]
    output = [item]
    yield {"type": "response.created", "response": {"id": "resp_up", "status": "in_progress"}}
    if kind != "compaction":
        thought = {"id": f"rs_{item['id']}", "type": "reasoning", "summary": []}
        output.insert(0, thought | {"encrypted_content": f"the thought of {item['id']}"})
        yield {"type": "response.output_item.added", "output_index": 0, "item": output[0]}
        yield {"type": "response.output_item.done", "output_index": 0, "item": output[0]}
    index = len(output) - 1
    place: Item = {"item_id": item["id"], "output_index": index}
    empty: Item = {}
    text = events = ""
    if kind == "message":
        text, events, empty = item["content"][0]["text"], "output_text", {"content": []}
    elif kind == "custom_tool_call":
        text, events, empty = item["input"], "custom_tool_call_input", {"input": ""}
    elif kind == "function_call":
        text, events, empty = item["arguments"], "function_call_arguments", {"arguments": ""}
    added = {**item, **empty}
    yield {"type": "response.output_item.added", "output_index": index, "item": added}
    if kind == "message":
        place["content_index"] = 0
        part = {**item["content"][0], "text": ""}
        yield {"type": "response.content_part.added", **place, "part": part}
    for delta in _cut(text):
        yield {"type": f"response.{events}.delta", **place, "delta": delta}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}
    usage = {"input_tokens": tokens, "output_tokens": 1, "total_tokens": tokens + 1}
    ended = {"id": "resp_up", "status": "completed", "output": output, "usage": usage}
    yield {"type": "response.completed", "response": ended}


_PIECES: Final = {"chat": _chat_pieces, "responses": _response_pieces}


def _cut(text: str) -> list[str]:
    return [text[at : at + 4] for at in range(0, len(text), 4)]
