"""Helpers that call the response routes and parse their replies."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

from tests.error_codes import own_code
from tests.server.factories import Worker

Client = TestClient[Request, Application]
ALL = "/v1/responses"


async def background(client: Client, **body: Any) -> str:
    """Submits a background request and returns the response id."""
    async with client.post(ALL, json={"input": "Why?", "background": True, **body}) as response:
        assert response.status == 200, await response.text()
        id_: str = (await response.json())["id"]
        return id_


async def answered(client: Client, worker: Worker, *pieces: str) -> str:
    """Submits a request, has the worker answer it, and returns the response id."""
    id_ = await background(client)
    await worker.answer(*pieces)
    return id_


async def events_of(response: ClientResponse) -> tuple[list[dict[str, Any]], bool]:
    """Returns the events of a stream, and whether the stream ended with `[DONE]`."""
    events, done = [], False
    async for line in response.content:
        if line == b"data: [DONE]\n":
            done = True
        elif line.startswith(b"data: "):
            events.append(json.loads(line[6:]))
    return events, done


async def refusal(response: ClientResponse) -> tuple[int, str, str | None]:
    """Returns the status, Holdline's own code and the field of an error reply."""
    body = await response.json()
    assert {"error"} == body.keys()
    assert {"type", "code", "message", "param"} == body["error"].keys() - {
        "holdline",
        "response_id",
    }
    assert "nosniff" == response.headers["X-Content-Type-Options"]
    return response.status, own_code(body["error"]), body["error"]["param"]
