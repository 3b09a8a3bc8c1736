"""Runs one turn of a conversation over each transport and checks every event and response."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.paths.compliance.schema import EVENTS, SOCKET_ERROR, check_event, check_response
from tests.system import Server

SECONDS = 20
TERMINAL = {"response.completed", "response.failed", "response.incomplete"}


@dataclass
class Turn:
    """The result of a request: its events if it was streamed, and the response or the error."""

    response: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, Any] = field(default_factory=dict)

    @property
    def kinds(self) -> list[str]:
        """The turn's event types, without Holdline's extensions."""
        return [kind for event in self.events if (kind := event["type"]) in EVENTS]

    def add_event(self, event: dict[str, Any]) -> bool:
        """Checks an event and adds it to the turn. Returns whether the event is terminal."""
        check_event(event)
        self.events.append(event)
        if event["type"] in TERMINAL:
            self.response = check_response(event["response"])
        return event["type"] in TERMINAL

    def check_complete(self) -> None:
        """Asserts that the events are numbered without gaps and in the order of the standard."""
        numbers = [event["sequence_number"] for event in self.events if "sequence_number" in event]
        assert list(range(len(numbers))) == numbers
        open_items: set[str] = set()
        for event in self.events:
            match event["type"]:
                case "response.output_item.added":
                    open_items.add(event["item"]["id"])
                case "response.output_item.done":
                    open_items.remove(event["item"]["id"])
                case _:
                    assert event.get("item_id") in (None, *open_items)
        assert set() == open_items
        done = [e["item"] for e in self.events if e["type"] == "response.output_item.done"]
        assert done == self.response["output"]


Ask = Callable[[dict[str, Any]], Awaitable[Turn]]


@asynccontextmanager
async def plain(server: Server) -> AsyncIterator[Ask]:
    """Sends a POST whose response is a single object."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(SECONDS)) as http:

        async def ask(body: dict[str, Any]) -> Turn:
            async with http.post(f"{server.url}/v1/responses", json=body) as answer:
                assert "application/json" == answer.content_type
                told = await answer.json()
            if answer.status != 200:
                return Turn(error=told["error"])
            return Turn(check_response(told))

        yield ask


@asynccontextmanager
async def streamed(server: Server) -> AsyncIterator[Ask]:
    """Sends a POST whose response is a stream of server-sent events."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(SECONDS)) as http:

        async def ask(body: dict[str, Any]) -> Turn:
            turn = Turn()
            async with http.post(
                f"{server.url}/v1/responses", json={**body, "stream": True}
            ) as answer:
                if answer.status != 200:
                    return Turn(error=(await answer.json())["error"])
                assert "text/event-stream" == answer.content_type
                *events, end, after = (await answer.text()).split("\n\n")
            assert ("data: [DONE]", "") == (end, after)
            for event in events:
                fields = dict(
                    line.split(": ", 1) for line in event.splitlines() if not line.startswith(":")
                )
                if fields:
                    assert {"event", "data"} == set(fields)
                    data = json.loads(fields["data"])
                    assert fields["event"] == data["type"]
                    turn.add_event(data)
            return turn

        yield ask


@asynccontextmanager
async def socket(server: Server) -> AsyncIterator[Ask]:
    """Sends `response.create` messages over a single WebSocket, one after another."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(server.ws_url) as ws,
    ):

        async def ask(body: dict[str, Any]) -> Turn:
            turn = Turn()
            await ws.send_json({"type": "response.create", **body})
            while True:
                event = await ws.receive_json(timeout=SECONDS)
                if event["type"] == "error":
                    SOCKET_ERROR.model_validate(event)
                    turn.error = event["error"]
                    return turn
                if turn.add_event(event):
                    return turn

        yield ask


async def compact(server: Server, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Sends a `POST /v1/responses/compact`. Returns the status and the body of its response."""
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(SECONDS)) as http,
        http.post(f"{server.url}/v1/responses/compact", json=body) as answer,
    ):
        return answer.status, await answer.json()


TRANSPORTS = {"plain": plain, "streamed": streamed, "socket": socket}
