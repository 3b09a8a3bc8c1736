"""A test's WebSocket, and the messages received over it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientWebSocketResponse, WSMsgType
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

from server.app import Server
from server.websocket.socket import Socket
from tests.error_codes import own_code
from tests.server.factories import Answer
from tests.subscriptions import channels_of
from tests.system import EXTENSIONS

Client = TestClient[Request, Application]
ALL = "/v1/responses"


class Talk:
    """A WebSocket with the messages received over it."""

    def __init__(self, ws: ClientWebSocketResponse) -> None:
        self.ws = ws
        self.events: list[dict[str, Any]] = []

    async def say(self, kind: str, **fields: Any) -> None:
        await self.ws.send_json({"type": kind, **fields})

    async def next(self) -> dict[str, Any]:
        message = await self.ws.receive(timeout=8)
        assert message.type is WSMsgType.TEXT, message
        event: dict[str, Any] = json.loads(message.data)
        self.events.append(event)
        return event

    async def until(self, *kinds: str) -> dict[str, Any]:
        """Returns the next event of one of the given types."""
        while True:
            event = await self.next()
            if event["type"] in kinds:
                return event

    async def error(self) -> tuple[int, str, str | None]:
        """Returns the status, Holdline's own code and the field of the next error."""
        event = await self.until("error")
        assert {"type", "code", "message", "param"} <= event["error"].keys()
        return event["status"], own_code(event["error"]), event["error"]["param"]

    async def closed(self) -> int | None:
        """Returns the code with which the server closes the socket."""
        while (message := await self.ws.receive(timeout=8)).type is WSMsgType.TEXT:
            self.events.append(json.loads(message.data))
        return self.ws.close_code

    def logged(self, lane: str | None = None) -> list[dict[str, Any]]:
        """Returns the received events of one lane that are stored in a log."""
        return [
            event
            for event in self.events
            if "sequence_number" in event and event.get("stream_id") == lane
        ]


@asynccontextmanager
async def connected(client: Client) -> AsyncIterator[Talk]:
    async with client.ws_connect(ALL, protocols=EXTENSIONS) as ws:
        talk = Talk(ws)
        assert "holdline:welcome" == (await talk.next())["type"]
        yield talk


def sockets_of(server: Server) -> set[Socket]:
    """Returns the open sockets of the Responses API."""
    return {socket for socket in server.sockets if isinstance(socket, Socket)}


def at_rest(server: Server) -> bool:
    """Returns true while the server has no sockets and no followers."""
    return (
        not server.relay._feeds and not channels_of(server.relay.subscriber) and not server.sockets
    )


async def still_open(talk: Talk) -> bool:
    await talk.say("holdline:ping", id="still open?")
    pong = await talk.until("holdline:pong")
    return "still open?" == str(pong["id"])


def asked(answer: Answer) -> str:
    text: str = answer.job.params["input"][0]["content"][0]["text"]
    return text
