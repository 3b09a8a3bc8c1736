"""A chat-completions model that leads Codex CLI through a task: one tool call in each turn."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Self

from aiohttp import web

Step = tuple[str, dict[str, Any]] | str


class CodexModel:
    """Plays one step of a task in each call: a function and its arguments, or a text.

    The step is the number of results in the request. `bodies` are the requests. The first call of
    the step `stalls` sends only half of its pieces. `stalled` is then set, and the call waits until
    `resumed` is set, or until the worker closes its connection.
    """

    def __init__(self, steps: list[Step], stalls: int = -1) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.url = ""
        self.stalled = asyncio.Event()
        self.resumed = asyncio.Event()
        self._steps = steps
        self._stalls = stalls
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/v1/chat/completions", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def functions(self, number: int) -> list[str]:
        """Returns the names of the functions in a request."""
        return [tool["function"]["name"] for tool in self.bodies[number]["tools"]]

    def results(self) -> list[str]:
        """Returns the results of all calls in the last request."""
        messages = self.bodies[-1]["messages"]
        return [message["content"] for message in messages if message["role"] == "tool"]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        done = sum(message["role"] == "tool" for message in body["messages"])
        step = min(done, len(self._steps) - 1)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        pieces = _pieces(self._steps[step], f"call_{len(self.bodies)}")
        for number, (delta, reason) in enumerate(pieces):
            if step == self._stalls and number > len(pieces) // 2 and not self.stalled.is_set():
                self.stalled.set()
                while not self.resumed.is_set():
                    if request.transport is None or request.transport.is_closing():
                        return response
                    await asyncio.sleep(0.05)  # the polling interval
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            await response.write(b"data: %b\n\n" % json.dumps({"choices": [choice]}).encode())
        await response.write(b"data: [DONE]\n\n")
        return response


def _pieces(step: Step, call_id: str) -> list[tuple[dict[str, Any], str | None]]:
    """Returns the deltas of a step, with the stop reason of the last one."""
    if isinstance(step, str):
        return [*(({"content": word}, None) for word in step.split("|")), ({}, "stop")]
    name, given = step
    head: dict[str, Any] = {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": ""},
    }
    text = json.dumps(given)
    rest = [{"function": {"arguments": text[at : at + 4]}} for at in range(0, len(text), 4)]
    calls = [{"tool_calls": [{"index": 0, **piece}]} for piece in (head, *rest)]
    return [*((call, None) for call in calls), ({}, "tool_calls")]
