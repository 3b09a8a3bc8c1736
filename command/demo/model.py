"""The simulated model: an OpenAI-compatible endpoint without an AI.

It serves `POST /v1/chat/completions`, with and without streaming, and `GET /v1/models` on the
loopback interface. It writes slowly enough that a person can watch the stream.
"""

import asyncio
import hashlib
import json
import math
import os
import sys
import time
from collections import OrderedDict
from typing import Any

import click
from aiohttp import web

from runtime import command_line
from runtime.number import parse_number

from .demo_text import WORDS, answer, asked, wish
from .reply import NAME, Reply
from .tool import called_tool

TOKENS_PER_SECOND = 40.0
SLOWER = 8
REMEMBERED = 1000
ABOUT = f"""Holdline's simulated model: a simulation of an OpenAI-compatible endpoint.

POST /v1/chat/completions   stream, stream_options.include_usage, max_tokens, tools
GET  /v1/models

{WORDS}

DEMO_TOKENS_PER_SECOND sets the speed in tokens per second (default: {TOKENS_PER_SECOND:g}).
"""
HELP = f"""{ABOUT}
examples:
  holdline demo-model
  OPENAI_BASE_URL=http://127.0.0.1:8090/v1 HOLDLINE_MODEL=holdline-demo holdline worker
"""


class DemoModel:
    """The simulated endpoint.

    If a prompt asks to "fail once" or similar, the endpoint remembers the request, so that a retry
    succeeds.
    """

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
            return error(400, "The body is not valid JSON.")
        messages = body.get("messages") if isinstance(body, dict) else None
        if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
            return error(400, "'messages' must be a list of objects.", param="messages")
        wished = wish((asked(messages) or [""])[-1])
        granted = not wished.once or self._is_first(messages)
        if wished.fail and granted:
            return error(500, "The simulated model failed, because the prompt requested it.")
        if wished.rate_limit and granted:
            return error(
                429,
                "The simulated model is rate limited, because the prompt requested it.",
                retry_after=1,
            )
        reply = Reply(request, body, await asyncio.to_thread(answer, messages))
        pace = self.tokens_per_second / (SLOWER if wished.slowly else 1)
        if wished.call_tool or body.get("tool_choice") == "required":
            reply.call(called_tool(body.get("tools"), messages))
        began = time.monotonic()
        response = await reply.send(pace, cut=wished.be_cut and granted)
        seconds = time.monotonic() - began
        print(f"simulated {reply.sent} tokens in {seconds:.1f} s", flush=True)
        return response

    def _is_first(self, messages: list[Any]) -> bool:
        digest = hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest()
        if digest in self._failed:
            return False
        self._failed[digest] = None
        if len(self._failed) > REMEMBERED:
            self._failed.popitem(last=False)
        return True


def error(
    status: int, message: str, *, param: str | None = None, retry_after: int | None = None
) -> web.Response:
    kind = {400: "invalid_request_error", 429: "rate_limit_error"}.get(status, "server_error")
    body = {"error": {"message": message, "type": kind, "param": param, "code": None}}
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    print(f"{status}: {message}", flush=True)
    return web.json_response(body, status=status, headers=headers)


def pace(text: str | None) -> float:
    """Returns the tokens per second that a text states, or the default if it is empty.

    Raises:
        ValueError: the text is not a number above 0.
    """
    if not text:
        return TOKENS_PER_SECOND
    value = parse_number(text)
    if not 0 < value < math.inf:
        raise ValueError(text)
    return value


@click.command(cls=command_line.Command, help=HELP)
@click.option(
    "--port",
    type=command_line.WholeNumber(1, 65_535),
    default=8090,
    show_default=True,
    help="port on 127.0.0.1",
)
def demo_model(*, port: int) -> int:
    """Serves the simulated model until it is stopped, and returns the exit status."""
    value = os.environ.get("DEMO_TOKENS_PER_SECOND")
    try:
        model = DemoModel(pace(value))
    except ValueError:
        print(f"DEMO_TOKENS_PER_SECOND={value} is not a number above 0", file=sys.stderr)
        return 2
    print(f"a simulated model at http://127.0.0.1:{port}/v1", flush=True)
    try:
        # A running stream may take minutes, so the simulated model cuts off all streams when it is
        # stopped.
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
