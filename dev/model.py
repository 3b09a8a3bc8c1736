"""The demo model: an OpenAI-compatible endpoint behind which nothing thinks.

`POST /v1/chat/completions`, streamed or whole, and `GET /v1/models`, on the loopback. It writes
at a human pace, so that there is something to see.
"""

import argparse
import asyncio
import hashlib
import json
import os
import sys
import time
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from .say import WORDS, answer, asked, text_of, tokens, wish
from .tool import called_tool

NAME = "holdline-demo"
TOKENS_PER_SECOND = 40.0
# The first token takes as long as this many of the others: 0.6 s at the usual pace.
FIRST_TOKENS = 24
SLOWER = 8
REMEMBERED = 1000
ABOUT = f"""Holdline's demo model: a simulation of an OpenAI-compatible endpoint.

POST /v1/chat/completions   stream, stream_options.include_usage, max_tokens, tools
GET  /v1/models

{WORDS}

DEMO_TOKENS_PER_SECOND sets the pace ({TOKENS_PER_SECOND:g}).
"""


class DemoModel:
    """The endpoint and the little that it remembers: which prompts it has failed once."""

    def __init__(self, tokens_per_second: float = TOKENS_PER_SECOND) -> None:
        self.tokens_per_second = tokens_per_second
        self._failed: OrderedDict[str, None] = OrderedDict()

    def app(self) -> web.Application:
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_get("/", self.about)
        app.router.add_get("/v1/models", self.models)
        app.router.add_post("/v1/chat/completions", self.complete)
        return app

    async def about(self, _request: web.Request) -> web.Response:
        return web.Response(text=ABOUT)

    async def models(self, _request: web.Request) -> web.Response:
        model = {"id": NAME, "object": "model", "created": 0, "owned_by": "holdline"}
        return web.json_response({"object": "list", "data": [model]})

    async def complete(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.json()
        except ValueError:
            return error(400, "the body is not JSON")
        messages = body.get("messages") if isinstance(body, dict) else None
        if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
            return error(400, "messages is not a list of objects", param="messages")
        wished = wish((asked(messages) or [""])[-1])
        granted = not wished.once or self._is_first(messages)
        if wished.fail and granted:
            return error(500, "the demo model fails because the prompt says so")
        if wished.rate_limit and granted:
            return error(429, "the demo model was asked for a rate limit", retry_after=1)
        reply = Reply(request, body, await asyncio.to_thread(answer, messages))
        pace = self.tokens_per_second / (SLOWER if wished.slowly else 1)
        if wished.call_tool or body.get("tool_choice") == "required":
            reply.call(called_tool(body.get("tools"), messages))
        began = time.monotonic()
        response = await reply.send(pace, cut=wished.be_cut and granted)
        seconds = time.monotonic() - began
        print(f"simulated {len(reply.tokens)} tokens in {seconds:.1f} s", flush=True)
        return response

    def _is_first(self, messages: list[Any]) -> bool:
        digest = hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest()
        if digest in self._failed:
            return False
        self._failed[digest] = None
        if len(self._failed) > REMEMBERED:
            self._failed.popitem(last=False)
        return True


class Reply:
    """One answer on its way: its tokens, and the objects around them."""

    def __init__(self, request: web.Request, body: dict[str, Any], text: str) -> None:
        self.request = request
        self.body = body
        self.tool: dict[str, Any] | None = None
        self.tokens = tokens(text)
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
        """Turns the answer into the call of a tool, if there is one to call."""
        if tool is not None:
            self.tool, self.finish = tool, "tool_calls"
            self.tokens = tokens(tool["function"]["arguments"])

    async def send(self, pace: float, *, cut: bool) -> web.StreamResponse:
        """Writes the answer; with `cut` the connection ends in the middle."""
        if self.body.get("stream"):
            return await self._stream(pace, cut=cut)
        await asyncio.sleep((FIRST_TOKENS + len(self.tokens)) / pace)
        if cut and self.request.transport is not None:
            self.request.transport.abort()
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

        # Each token has its time from the start on: a late one does not delay the others.
        began = time.monotonic()
        try:
            await chunk(self._opening())
            for number, token in enumerate(self.tokens):
                await asyncio.sleep(began + (FIRST_TOKENS + number) / pace - time.monotonic())
                if cut and number >= len(self.tokens) // 2 and self.request.transport is not None:
                    self.request.transport.abort()
                    return response
                await chunk(self._delta(token))
            await chunk({}, self.finish)
            if wants_usage:
                await event({"choices": [], "usage": self._usage()})
            await response.write(b"data: [DONE]\n\n")
        except ConnectionResetError:
            print("the caller went away", flush=True)
        return response

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


def error(
    status: int, message: str, *, param: str | None = None, retry_after: int | None = None
) -> web.Response:
    kind = {400: "invalid_request_error", 429: "rate_limit_error"}.get(status, "server_error")
    body = {"error": {"message": message, "type": kind, "param": param, "code": None}}
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    print(f"{status}: {message}", flush=True)
    return web.json_response(body, status=status, headers=headers)


def pace(text: str | None) -> float:
    """Tokens a second, from the environment.

    Raises:
        ValueError: not a number above 0.
    """
    if not text:
        return TOKENS_PER_SECOND
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m dev.model",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=8090, help="on 127.0.0.1 (8090)")
    port = parser.parse_args(arguments).port
    given = os.environ.get("DEMO_TOKENS_PER_SECOND")
    try:
        model = DemoModel(pace(given))
    except ValueError:
        print(f"DEMO_TOKENS_PER_SECOND={given} is no number above 0", file=sys.stderr)
        return 2
    print(f"a simulated model at http://127.0.0.1:{port}/v1", flush=True)
    try:
        # A stream that is under way may take minutes, and nobody waits for a demo that stops.
        web.run_app(
            model.app(),
            host="127.0.0.1",
            port=port,
            print=None,
            access_log=None,
            shutdown_timeout=0.1,
        )
    except OSError as problem:
        print(f"cannot listen on port {port}: {problem}; choose another with --port", flush=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
