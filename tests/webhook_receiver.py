"""A receiver of webhooks, which verifies them with the official SDK."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from openai import OpenAI

SECRET = "whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0"


class Receiver:
    """Verifies webhooks with the SDK, and answers the first `refuse` webhooks with status 500.

    `told` has the type and the response id of each accepted webhook, and `ids` its webhook id.
    `feedback` has the data of each webhook about feedback, and `pushed` the type, the device and
    the response id of each push for an app.
    """

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.feedback: list[dict[str, Any]] = []
        self.pushed: list[tuple[str, str, str]] = []
        self.refuse = 0
        self.environ: dict[str, str] = {}

    async def post(self, request: web.Request) -> web.Response:
        body = await request.read()
        event: Any = OpenAI(api_key="any").webhooks.unwrap(body, request.headers, secret=SECRET)
        if event.type == "holdline.push":
            data = json.loads(body)["data"]
            self.pushed.append((event.type, data["device"], data["id"]))
            return web.Response(status=204)
        if event.type == "holdline.feedback":
            self.feedback.append(json.loads(body)["data"])
            return web.Response(status=204)
        if self.refuse:
            self.refuse -= 1
            return web.Response(status=500)
        self.told.append((event.type, event.data.id))
        self.ids.append(request.headers["webhook-id"])
        return web.Response(status=204)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """Runs a receiver. Its `environ` has the settings with which workers send webhooks to it."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.post)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.environ = {
        "HOLDLINE_WEBHOOK_URL": f"http://127.0.0.1:{runner.addresses[0][1]}/hook",
        "HOLDLINE_WEBHOOK_SECRET": SECRET,
        "HOLDLINE_WEBHOOK_ALLOW_PRIVATE": "1",
    }
    try:
        yield receiver
    finally:
        await runner.cleanup()
