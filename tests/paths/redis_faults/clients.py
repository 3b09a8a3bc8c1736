"""Clients that record each event that they receive over one socket or as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from tests.error_codes import own_code
from tests.system import EXTENSIONS, Server, wait_until

Event = dict[str, Any]
TERMINAL = {"response.completed", "response.failed", "response.incomplete"}


class Answer:
    """All events that a client received for one response, in order."""

    def __init__(self, prompt: str) -> None:
        self.prompt = prompt
        self.events: list[Event] = []
        self.problem: Event | None = None
        self.over = False

    def take(self, event: Event) -> None:
        if event["type"] == "error":
            self.problem = event
        elif "sequence_number" in event:
            self.events.append(event)

    def forget(self) -> None:
        """Drops the received events, so that the response can be followed from its start again."""
        self.events, self.problem = [], None

    @property
    def id(self) -> str:
        id_: str = self.events[0]["response"]["id"]
        return id_

    @property
    def ended(self) -> bool:
        return bool(self.events) and self.events[-1]["type"] in TERMINAL

    @property
    def code(self) -> str | None:
        """The code of the error that ended the event stream, if any."""
        if self.problem is None:
            return None
        return own_code(self.problem["error"])

    @property
    def text(self) -> str:
        """The text received since the last restart."""
        said = ""
        for event in self.events:
            if event["type"] == "holdline:restarted":
                said = ""
            elif event["type"] == "response.output_text.delta":
                said += event["delta"]
        return said

    async def wait_for_tokens(self, tokens: int, seconds: float = 8.0) -> None:
        """Waits until the given number of tokens has been received."""
        await wait_until(lambda: self.text.count(" ") >= tokens, seconds)

    async def wait_for_end(self, seconds: float = 10.0) -> None:
        """Waits for the terminal event or an error."""
        await wait_until(lambda: self.ended or self.problem, seconds)


class SocketClient:
    """A client with a single socket that sends each prompt on its own `stream_id`."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self._ws = ws
        self._lanes: dict[str, Answer] = {}
        self._count = itertools.count()
        self.degraded: list[tuple[float, bool]] = []

    @property
    def open(self) -> bool:
        return not self._ws.closed

    async def ask(self, prompt: str) -> Answer:
        """Sends a prompt and returns its answer, to which `read` adds each event that arrives."""
        lane = f"lane{next(self._count)}"
        answer = self._lanes[lane] = Answer(prompt)
        await self._ws.send_json(
            {"type": "response.create", "input": prompt, "model": "m", "stream_id": lane}
        )
        return answer

    async def follow_again(self, answer: Answer) -> None:
        """Discards the events received for an answer, and streams it again from its beginning."""
        id_ = answer.id
        answer.forget()
        lane = f"lane{next(self._count)}"
        self._lanes[lane] = answer
        resume = {"type": "holdline:resume", "response_id": id_, "starting_after": -1}
        await self._ws.send_json({**resume, "stream_id": lane})

    async def cancel(self, answer: Answer) -> None:
        """Cancels the response. The answer then receives its terminal event."""
        await self._ws.send_json({"type": "response.cancel", "response_id": answer.id})

    async def wait_for_degraded(self, degraded: bool, seconds: float = 8.0) -> float:
        """Waits for a `holdline:degraded` message with this value; returns its arrival time."""
        await wait_until(lambda: self.degraded and self.degraded[-1][1] is degraded, seconds)
        return self.degraded[-1][0]

    async def read(self) -> None:
        """Receives messages until the socket is closed."""
        async for message in self._ws:
            event = json.loads(message.data)
            if event["type"] == "holdline:degraded":
                self.degraded.append((time.monotonic(), event["degraded"]))
            elif event.get("stream_id") in self._lanes:
                self._lanes[event["stream_id"]].take(event)


@contextlib.asynccontextmanager
async def socket_client(server: Server) -> AsyncIterator[SocketClient]:
    """Opens a socket that must stay open until the block ends."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(server.ws_url, protocols=EXTENSIONS) as ws,
    ):
        client = SocketClient(ws)
        reading = asyncio.create_task(client.read())
        try:
            yield client
            assert client.open, "the server closed the socket"
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


@contextlib.asynccontextmanager
async def streamed(server: Server, prompt: str) -> AsyncIterator[Answer]:
    """Streams the answer to a prompt as server-sent events while the block runs."""
    answer = Answer(prompt)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as http:
        reading = asyncio.create_task(_stream(http, server, answer))
        try:
            yield answer
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def _stream(http: aiohttp.ClientSession, server: Server, answer: Answer) -> None:
    body = {"input": answer.prompt, "model": "m", "stream": True}
    async with http.post(f"{server.url}/v1/responses", json=body) as response:
        async for line in response.content:
            if line == b"data: [DONE]\n":
                answer.over = True
            elif line.startswith(b"data: "):
                answer.take(json.loads(line[6:]))


async def rejected_prompt(server: Server) -> tuple[int, str | None]:
    """Sends a prompt that must be rejected. Returns the reply's status and Retry-After."""
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{server.url}/v1/responses", json={"input": "x", "model": "m"}) as response,
    ):
        return response.status, response.headers.get("Retry-After")
