"""Chaos clients that use WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time

import aiohttp

from tests.chaos.clients import (
    PING_SECONDS,
    SEND_SECONDS,
    SILENT_SECONDS,
    TICK_SECONDS,
    Client,
    Request,
    Workload,
    decode,
    encode,
)
from tests.chaos.history import Event
from tests.error_codes import own_code


class SocketClient(Client):
    """A client with one WebSocket at a time. If `most` > 1, each answer has its own lane."""

    async def connect(self) -> None:
        server = self.url()
        self.record("open", {"server": server})
        async with self.workload.socket(server) as ws:
            await self._talk(ws)

    async def _talk(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        for request in self.requests:
            request.asked = False
        heard = pinged = ticked = time.monotonic()
        leave_at = heard + self.rng.expovariate(1 / 6)
        while True:
            now = time.monotonic()
            if now - ticked >= TICK_SECONDS:
                ticked = now
                self.next_request()
                for request in list(self.requests):
                    if not request.asked and now >= request.retry_at:
                        await self._ask(ws, request)
                if now - pinged >= PING_SECONDS:
                    pinged = now
                    await self._send(ws, {"type": "holdline:ping", "id": self.socket})
                if now - heard > SILENT_SECONDS:
                    raise TimeoutError
                if (now > leave_at and not self.workload.closing) or (
                    self.workload.closing and self.idle
                ):
                    return
            try:
                message = await ws.receive(timeout=TICK_SECONDS)
            except TimeoutError:
                continue
            if message.type is not aiohttp.WSMsgType.TEXT:
                return
            heard = time.monotonic()
            self._on_message(ws, decode(message.data))

    async def _ask(self, ws: aiohttp.ClientWebSocketResponse, request: Request) -> None:
        request.asked = True
        if request.response_id:
            id_ = request.response_id
            message = {"type": "holdline:resume", "response_id": id_, **request.place()}
        else:
            message = {"type": "response.create", **request.body}
        if request.lane is not None:
            message["stream_id"] = request.lane
        await self._send(ws, message)

    async def _send(self, ws: aiohttp.ClientWebSocketResponse, message: Event) -> None:
        self.record("sent", message)
        async with asyncio.timeout(SEND_SECONDS):
            await ws.send_str(encode(message).decode())

    def _on_message(self, ws: aiohttp.ClientWebSocketResponse, event: Event) -> None:
        self.record("received", event)
        lane = event.get("stream_id")
        request = next((w for w in self.requests if w.lane == lane), None)
        if request is None:
            return
        if event["type"] == "error":
            self.on_error(request, own_code(event["error"]))
        elif "sequence_number" in event:
            self.on_event(request, event)
            if (
                request.cancel_at is not None
                and request.last >= request.cancel_at
                and request.response_id
            ):
                request.cancel_at = None
                self.spawn(self._cancel(ws, request))

    async def _cancel(self, ws: aiohttp.ClientWebSocketResponse, request: Request) -> None:
        # An error repeats this lane. Without a lane of its own, the error would seem to end the
        # answer, which the server still follows, or the next request, if the answer has ended.
        message = {
            "type": "response.cancel",
            "response_id": request.response_id,
            "stream_id": f"cancel-{request.marker}",
        }
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            await self._send(ws, message)

    def make_request(self) -> Request | None:
        request = super().make_request()
        if request is not None and self.most > 1:
            request.lane = request.marker
        return request


class Joiner(SocketClient):
    """A client that follows answers requested by other clients, like a second device."""

    def __init__(self, name: str, workload: Workload, rng: random.Random, most: int) -> None:
        super().__init__(name, workload, rng, most)
        self._joined: set[str] = set()

    def make_request(self) -> Request | None:
        if not self.workload.joinable:
            return None
        other = self.rng.choice(self.workload.joinable)
        if other.response_id in self._joined:
            return None
        self._joined.add(other.response_id)
        # A client that has received the terminal event does not resume, since no events would
        # follow.
        most = other.last - 1 if other.done else other.last
        last = -1 if self.rng.random() < 0.6 else self.rng.randint(-1, most)
        return Request(other.marker, {}, other.response_id, last, lane=other.marker)
