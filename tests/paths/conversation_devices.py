"""Devices that follow conversations, and the servers that they connect to."""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from openai import AsyncOpenAI

import holdline_client
from tests.fake_model import FakeModel
from tests.fake_wire import Call
from tests.system import Server, System

MESSAGE = {"type": "message", "role": "user"}


def message(content: Any) -> Any:
    """Returns a message of the user, for a method of the SDK."""
    return {**MESSAGE, "content": content}


def asked(call: Call) -> list[str]:
    """Returns the texts of all messages that a model call contains."""
    return [
        message["content"].strip()
        if isinstance(message["content"], str)
        else "".join(part["text"] for part in message["content"]).strip()
        for message in call.body["messages"]
    ]


@dataclass
class Device:
    """A WebSocket of a user, and the messages that it has received besides its first ones."""

    ws: aiohttp.ClientWebSocketResponse
    received: list[dict[str, Any]] = field(default_factory=list)

    async def send(self, kind: str, **fields: Any) -> None:
        await self.ws.send_json({"type": kind, **fields})

    async def next(self) -> dict[str, Any]:
        while True:
            message: dict[str, Any] = await self.ws.receive_json(timeout=20)
            if message["type"] not in ("holdline:welcome", "holdline:queued"):
                self.received.append(message)
                return message

    async def until(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Receives messages up to the first one of a type that has these fields."""
        while True:
            message = await self.next()
            if message["type"] == kind and fields.items() <= message.items():
                return message

    async def until_event(self) -> None:
        """Receives messages up to the next one about a conversation."""
        while "conversation" not in await self.next():
            pass

    async def follow(self, conversation: str | None = None, **cursor: Any) -> dict[str, Any]:
        about = {} if conversation is None else {"conversation": conversation}
        await self.send("holdline:follow", **about, **cursor)
        return await self.until("holdline:following")

    async def silent(self) -> bool:
        """Returns True if the server has sent nothing before it answers a ping."""
        await self.send("holdline:ping", id="silent")
        reply = await self.next()
        return str(reply["type"]) == "holdline:pong"


@dataclass
class Site:
    """Servers that require tokens, a worker and a model."""

    server: Server
    other: Server
    model: FakeModel
    signer: str

    def token(self, subject: str) -> str:
        return holdline_client.mint_token(self.signer, tenant="acme", subject=subject)

    def sdk(self, subject: str) -> AsyncOpenAI:
        url = f"{self.server.url}/v1"
        return AsyncOpenAI(base_url=url, api_key=self.token(subject), max_retries=0)

    @asynccontextmanager
    async def device(self, subject: str, *, other: bool = False) -> AsyncIterator[Device]:
        server = self.other if other else self.server
        headers = {"Authorization": f"Bearer {self.token(subject)}"}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.ws_connect(server.ws_url, protocols=("holdline.v1",)) as ws,
        ):
            yield Device(ws)


async def require_tokens(system: System, tmp_path: Path) -> str:
    """Lets a system require tokens and encrypt its content. Returns the private signing key."""
    keys = tmp_path / "keys"
    keys.write_text(b64encode(os.urandom(32)).decode())
    system.environ |= {
        "HOLDLINE_JWT_KEYS": str(tmp_path / "signers"),
        "HOLDLINE_ENCRYPTION_KEYS": str(keys),
    }
    return await system.add_signer()


@asynccontextmanager
async def running_site(system: System, tmp_path: Path) -> AsyncIterator[Site]:
    signer = await require_tokens(system, tmp_path)
    async with FakeModel() as model:
        server, other, _ = await asyncio.gather(
            system.server(), system.server(), system.worker(model.url)
        )
        yield Site(server, other, model, signer)
