"""Sends one answer of the simulated model in the formats of the chat completions API."""

import asyncio
import json
import time
import uuid
from typing import Any

from aiohttp import web

from .demo_text import text_of, tokens

NAME = "holdline-demo"
# The first token takes as long as 24 later tokens: 0.6 s at the default speed.
FIRST_TOKENS = 24


class Reply:
    """One answer of the simulated model: its tokens, and the JSON objects that contain them."""

    def __init__(self, request: web.Request, body: dict[str, Any], text: str) -> None:
        self.request = request
        self.body = body
        self.tool: dict[str, Any] | None = None
        self.tokens = tokens(text)
        self.sent = 0
        self.finish = "stop"
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        if isinstance(limit, int) and 0 < limit < len(self.tokens):
            self.tokens, self.finish = self.tokens[:limit], "length"
        self.head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": str(body.get("model") or NAME),
            "system_fingerprint": "simulation",
        }

    def call(self, tool: dict[str, Any] | None) -> None:
        """Replaces the answer with a call to `tool`, unless `tool` is None."""
        if tool is not None:
            self.tool, self.finish = tool, "tool_calls"
            self.tokens = tokens(tool["function"]["arguments"])

    async def send(self, pace: float, *, cut: bool) -> web.StreamResponse:
        """Sends the answer at `pace` tokens per second.

        With `cut`, closes the connection in the middle of the answer.
        """
        if self.body.get("stream"):
            return await self._stream(pace, cut=cut)
        await asyncio.sleep((FIRST_TOKENS + len(self.tokens)) / pace)
        if cut:
            self._hang_up()
        self.sent = len(self.tokens)
        return web.json_response(self._whole())

    def _whole(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.tokens)}
        if self.tool is not None:
            message = {"role": "assistant", "content": None, "tool_calls": [self.tool]}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish}
        return {
            **self.head,
            "object": "chat.completion",
            "choices": [choice],
            "usage": self._usage(),
        }

    async def _stream(self, pace: float, *, cut: bool) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        )
        await response.prepare(self.request)
        wants_usage = (self.body.get("stream_options") or {}).get("include_usage")
        rest: dict[str, Any] = {"usage": None} if wants_usage else {}

        async def chunk(delta: dict[str, Any], finish: str | None = None) -> None:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            await event({"choices": [choice], **rest})

        async def event(part: dict[str, Any]) -> None:
            data = json.dumps({**self.head, "object": "chat.completion.chunk", **part})
            await response.write(f"data: {data}\n\n".encode())

        # The time of each token is computed from the start, so a late token does not delay others.
        began = time.monotonic()
        try:
            await chunk(self._opening())
            for number, token in enumerate(self.tokens):
                await asyncio.sleep(began + (FIRST_TOKENS + number) / pace - time.monotonic())
                if cut and number >= len(self.tokens) // 2:
                    self._hang_up()
                    return response
                await chunk(self._delta(token))
                self.sent = number + 1
            await chunk({}, self.finish)
            if wants_usage:
                await event({"choices": [], "usage": self._usage()})
            await response.write(b"data: [DONE]\n\n")
        except ConnectionResetError:
            print("the client disconnected", flush=True)
        return response

    def _hang_up(self) -> None:
        # `close` sends the data that was written so far, but not the end of the response.
        if self.request.transport is not None:
            self.request.transport.close()

    def _opening(self) -> dict[str, Any]:
        if self.tool is None:
            return {"role": "assistant", "content": ""}
        function = {"name": self.tool["function"]["name"], "arguments": ""}
        opened = {"index": 0, "id": self.tool["id"], "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [opened]}

    def _delta(self, token: str) -> dict[str, Any]:
        if self.tool is None:
            return {"content": token}
        return {"tool_calls": [{"index": 0, "function": {"arguments": token}}]}

    def _usage(self) -> dict[str, int]:
        prompt = sum(len(tokens(text_of(message))) for message in self.body["messages"])
        written = len(self.tokens)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
        }
