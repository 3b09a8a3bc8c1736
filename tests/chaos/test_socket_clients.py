"""Tests how the chaos clients read a socket's messages."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import aiohttp

from tests.chaos.clients import Workload, decode
from tests.chaos.history import Event
from tests.chaos.segments import TraceReader
from tests.chaos.socket_clients import SocketClient

RESPONSE = "resp_000" + "a" * 32


class _Socket:
    """Records the messages that a client sends."""

    def __init__(self) -> None:
        self.sent: list[Event] = []

    async def send_str(self, text: str) -> None:
        self.sent.append(decode(text))


def _error(code: str, status: int, **about: str) -> Event:
    return {"type": "error", "status": status, "error": {"code": code}, **about}


async def test_a_refused_cancellation_does_not_end_the_answer() -> None:
    """Otherwise, the client would assign the error that ends the answer to its next request."""
    socket: Any = _Socket()
    async with aiohttp.ClientSession() as http:
        client = SocketClient("one", Workload([], http), random.Random(1), 1)
        request = client.next_request()
        assert request is not None
        request.cancel_at, request.delete_at = 0, None
        await client._ask(socket, request)
        response = {"id": RESPONSE, "metadata": {"marker": request.marker}}
        created = {"type": "response.created", "sequence_number": 0, "response": response}
        client._on_message(socket, created)
        await asyncio.gather(*client._tasks)
        _, cancel = socket.sent
        lane = {key: cancel[key] for key in ("stream_id",) if key in cancel}
        refused = _error("response_not_found", 404, response_id=RESPONSE, **lane)
        client._on_message(socket, refused)

        assert [request] == client.requests
        client._on_message(socket, _error("response_gone", 410, response_id=RESPONSE))
        assert [] == client.requests

    summary = TraceReader(client.trace, {}).summary
    assert [] == summary.anomalies
    assert [["response_not_found", "response_gone"]] == [one.codes for one in summary.segments]
