"""Tests that the protocol reference's example requests return the documented errors and headers."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
from openai import AsyncOpenAI

from tests.paths.conftest import Shared
from tests.system import CODE, EXTENSIONS, System

ROOT = Path(__file__).parent.parent.parent
REFERENCE = (ROOT / "docs/protocol-reference.md").read_text()
(REFUSALS,) = re.findall(r"^```text\n(.*?)^```", REFERENCE, re.MULTILINE | re.DOTALL)
LINE = re.compile(r"^(GET|POST|WS)(?: (/\S+))?(?: (\{.*?))?(?: -> (\d+)(?: (\w+))?)?$")
HEADERS = REFERENCE.split("\n## Headers\n")[1].split("\n## ")[0]
SITE = "https://shop.example"


async def test_the_documented_errors_are_returned(shared: Shared, client: AsyncOpenAI) -> None:
    done = await client.responses.create(input=shared.prompt("tokens=1"), model="m")
    slow = await client.responses.create(
        input=shared.prompt("mode=hang tokens=2"), model="m", background=True
    )
    named = {"{done}": done.id, "{slow}": slow.id, "<2000000 characters>": "x" * 2_000_000}
    json_body = {"Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession(headers=json_body) as http,
        http.ws_connect(shared.server.ws_url) as ws,
    ):
        for line in REFUSALS.splitlines():
            match = LINE.fullmatch(line)
            assert match is not None, line
            method, path, body, status, code = match.groups()
            for name, value in named.items():
                path, body = (text and text.replace(name, value) for text in (path, body))
            if method == "WS":
                await ws.send_str(body)
                if status is None:
                    continue
                found = await refusal(ws)
            else:
                found = await asked(http, method, shared.server.url + path, body)
            assert (line, int(status), code) == (line, *found)
    await client.responses.cancel(slow.id)


async def refusal(ws: aiohttp.ClientWebSocketResponse) -> tuple[int, str | None]:
    """Returns the status and the code of the socket's next error."""
    while (event := await ws.receive_json(timeout=20))["type"] != "error":
        pass
    return event["status"], event["error"]["code"]


async def asked(
    http: aiohttp.ClientSession, method: str, url: str, body: str | None
) -> tuple[int, str | None]:
    """Returns an answer's status and error code.

    If the stream has already started, an event contains the status and the code.
    """
    content = None if body is None else BytesIO(body.encode())
    async with http.request(method, url, data=content) as answer:
        if answer.content_type == "text/event-stream":
            (data,) = re.findall(r"^event: error\ndata: (.+)$", await answer.text(), re.MULTILINE)
            told = json.loads(data)
            return told["status"], told["error"]["code"]
        told = await answer.json()
        return answer.status, (told.get("error") or {}).get("code")


def documented(of: str) -> set[str]:
    """Returns the documented headers of requests or of responses."""
    rows = re.findall(r"^\| (`.+?) \| (.+?) \|", HEADERS, re.MULTILINE)
    return {name for names, side in rows if of in side for name in re.findall(r"`(.+?)`", names)}


def test_every_header_is_documented() -> None:
    known = set[str]()
    for path in (CODE / "server").rglob("*.py"):
        if path.name not in ("openapi.py", "origins.py"):
            known |= set(re.findall(r'"([A-Z][A-Za-z]*(?:-[A-Z][A-Za-z]*)+)"', path.read_text()))
    known |= set(
        re.findall(r"Access-Control-[A-Za-z-]+", (CODE / "server/http/origins.py").read_text())
    )
    sides = documented("request") | documented("response") | documented("refusal")
    one_word = {"Allow", "Authorization", "Connection", "Origin", "Upgrade"}
    assert known | one_word == sides


async def test_every_documented_response_header_is_sent(beside: System, shared: Shared) -> None:
    limits = {"HOLDLINE_TENANT_REQUESTS_PER_MINUTE": "100", "HOLDLINE_TENANT_TOKENS_PER_DAY": "1e6"}
    server, guarded = await asyncio.gather(
        beside.server(HOLDLINE_ALLOWED_ORIGINS=SITE, HOLDLINE_MAX_SOCKETS="2", **limits),
        beside.server(HOLDLINE_API_KEYS="redis"),
    )
    seen: set[str] = set()

    @asynccontextmanager
    async def noted(answer: Any) -> AsyncIterator[Any]:
        async with answer as found:
            seen.update(getattr(found, "headers", None) or found._response.headers)
            yield found

    failing = {"messages": [{"role": "user", "content": shared.prompt("mode=400")}]}
    leave = {"Origin": SITE, "Access-Control-Request-Method": "POST"}
    body = {"input": shared.prompt("tokens=9 pace=0.5"), "model": "m", "stream": True}
    async with (
        aiohttp.ClientSession(server.url) as http,
        noted(http.ws_connect("/v1/responses", protocols=EXTENSIONS)),
        noted(http.post("/v1/responses", json=body, headers={"Origin": SITE})) as stream,
        noted(http.get("/v1/responses", headers={"Upgrade": "websocket", "Connection": "upgrade"})),
        noted(http.options("/v1/responses", headers=leave)),
        noted(http.post("/v1/chat/completions", json={"model": "m", **failing})),
        noted(http.put("/v1/responses")),
        noted(http.get("/v1/responses")),
        noted(http.post("/v1/responses", headers={"Content-Encoding": "zstd"})),
        noted(http.get("/")),
        noted(http.get(f"{guarded.url}/v1/models")),
    ):
        await stream.read()
    assert set() == documented("response") - seen
