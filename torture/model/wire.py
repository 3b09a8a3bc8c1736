"""Sends one reply of the simulated model, and records what it has sent."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from torture.model.record import Call


class Cut(Exception):
    """The script resets the connection."""


class Wire:
    """The reply to one call: an event stream, or one body."""

    def __init__(self, request: web.Request, call: Call) -> None:
        self._request = request
        self._call = call
        self._reply = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )

    async def begin(self) -> None:
        """Sends the status and the headers of an event stream."""
        await self._reply.prepare(self._request)

    async def event(self, data: dict[str, Any], name: str = "") -> None:
        """Sends an event."""
        prefix = f"event: {name}\n" if name else ""
        await self.raw(f"{prefix}data: {json.dumps(data, ensure_ascii=False)}\n\n")

    async def raw(self, text: str) -> None:
        """Sends text as it is."""
        content = text.encode()
        await self._reply.write(content)
        self._call.sent_bytes += len(content)

    async def finish(self) -> web.StreamResponse:
        """Ends the body."""
        await self._reply.write_eof()
        return self._reply

    def body(
        self, status: int, data: dict[str, Any] | str, headers: dict[str, str] | None = None
    ) -> web.StreamResponse:
        """Returns a reply with one body."""
        kind = "text/html" if isinstance(data, str) else "application/json"
        text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
        self._call.sent_bytes += len(text.encode())
        return web.Response(status=status, text=text, content_type=kind, headers=headers)
