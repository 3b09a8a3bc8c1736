"""WebSockets that receive Holdline's own messages, for several tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.system import EXTENSIONS, Server

TERMINAL = {"response.completed", "response.failed", "response.incomplete", "error"}


@asynccontextmanager
async def socket(server: Server) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """Opens a WebSocket and receives its welcome message."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(server.ws_url, protocols=EXTENSIONS) as ws,
    ):
        welcome = await ws.receive_json(timeout=5)
        assert "holdline:welcome" == welcome["type"]
        yield ws


async def until(ws: aiohttp.ClientWebSocketResponse, *kinds: str) -> list[dict[str, Any]]:
    """Receives and returns events, up to the first event that has one of the given types."""
    events: list[dict[str, Any]] = []
    while not events or events[-1]["type"] not in kinds:
        events.append(await ws.receive_json(timeout=12))
    return events
