"""A small simulated server that requires tokens, and a page with a token provider."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web
from playwright.async_api import Page, expect

from server.http.static import Pages
from tests.browser import NewPage
from tests.system import EXTENSIONS


@dataclass
class TokenServer:
    """Answers clients with a valid token and closes all other sockets with 4401."""

    valid: set[str] = field(default_factory=set)
    tokens_received: list[str] = field(default_factory=list)
    sockets: list[web.WebSocketResponse] = field(default_factory=list)
    asked: int = 0
    prompts: list[tuple[str, str]] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)

    def app(self) -> web.Application:
        app = web.Application()
        Pages().add_to(app)
        app.router.add_get("/v1/responses", self._socket)
        return app

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=EXTENSIONS)
        await socket.prepare(request)
        self.sockets.append(socket)
        await socket.send_json({"type": "holdline:welcome", "limits": {}})
        known, shown = False, ""
        async for message in socket:
            if message.type != WSMsgType.TEXT:
                break
            asked = json.loads(message.data)
            if asked["type"] == "holdline:auth":
                self.tokens_received.append(asked["token"])
                shown, known = asked["token"], asked["token"] in self.valid
            if not known:
                await socket.close(code=4401, message=b"the token is not good")
            elif asked["type"] == "holdline:ping":
                await socket.send_json({"type": "holdline:pong", "id": asked["id"]})
            elif asked["type"] in {"response.create", "holdline:resume"}:
                if "input" in asked:
                    self.prompts.append((shown, asked["input"]))
                await self._answer(socket, asked)
        return socket

    async def _answer(self, socket: web.WebSocketResponse, asked: dict[str, Any]) -> None:
        """Replies to a resume with the complete log, but to a new prompt with its beginning."""
        response = {"id": "resp_1", "status": "in_progress", "model": "m"}
        if asked["type"] == "response.create":
            self.asked += 1
            self.log = [
                {"type": "response.created", "response": response},
                {"type": "response.output_text.delta", "delta": "Half, ", "item_id": "m_1"},
            ]
        else:
            part = {"type": "output_text", "text": "Half, and whole."}
            output = [{"type": "message", "id": "m_1", "content": [part]}]
            end = {**response, "status": "completed", "output": output}
            self.log.append({"type": "response.completed", "response": end})
        for number, event in enumerate(self.log):
            if number > asked.get("starting_after", -1):
                place = {"output_index": 0, "content_index": 0, "stream_id": asked["stream_id"]}
                await socket.send_json({**place, "sequence_number": number, **event})


def token(number: int, seconds: int, subject: str = "ÿ") -> str:
    """Returns a JSON Web Token with an invalid signature; the widget only reads the claims."""
    claims = json.dumps({"iat": 1_000, "exp": 1_000 + seconds, "jti": f"{number}", "sub": subject})
    return f"e30.{base64.urlsafe_b64encode(claims.encode()).decode().rstrip('=')}.s"


async def visit(url: str, open_page: NewPage, tokens: list[str]) -> Page:
    """Opens a page whose token provider returns the given tokens in order."""
    page = await open_page(f"{url}/docs/empty")
    await page.evaluate(
        """tokens => {
          window.fetched = 0;
          const chat = document.createElement("holdline-chat");
          chat.heading = "Set before";
          chat.tokenProvider = async () => tokens[Math.min(fetched++, tokens.length - 1)];
          document.body.replaceChildren(chat);
          return import("/widget.js").then(() => null);
        }""",
        tokens,
    )
    await expect(page.locator("#title")).to_have_text("Set before")
    return page
