"""Tests the proxy configurations in `deploy/` in front of a real server."""

from __future__ import annotations

import asyncio
import io
import time
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from tests.attacks.raw import Raw
from tests.fake_model import FakeModel
from tests.proxies.fronted import PROXIES, run_proxy
from tests.system import EXTENSIONS, System

pytestmark = pytest.mark.timeout(90)
METRICS = ("/metrics", "//metrics", "/%6Detrics", "/metrics?x")


@pytest.mark.parametrize("proxy", PROXIES)
async def test_sockets_streams_and_subpaths_work_through_a_proxy(
    system: System, tmp_path: Path, proxy: str
) -> None:
    async with FakeModel() as model:
        server = await system.server(HOLDLINE_PING_SECONDS="0.5")
        await system.worker(model.url)
        port = int(server.url.rpartition(":")[2])
        async with run_proxy(proxy, port, tmp_path) as url, aiohttp.ClientSession() as http:
            await _socket(http, url)
            await _stream(http, url)
            await _origins(url)
            for path in (*METRICS, "/healthz/service", "/healthz//service", "/healthz/%73ervice"):
                async with http.get(URL(f"{url}{path}", encoded=True)) as answer:
                    assert 404 == answer.status, path
            async with http.get(f"{url}/") as answer:
                assert "text/html" in answer.headers["Content-Type"]
            too_large = io.BytesIO(b"a" * 2_000_000)
            async with http.post(f"{url}/v1/responses", data=too_large) as answer:
                # Caddy 2.6 truncates the body itself, and then returns status 502.
                assert answer.status in (413, 502)


async def _socket(http: aiohttp.ClientSession, url: str) -> None:
    """Checks that the upgrade works and that a socket idle for several pings stays open."""
    async with http.ws_connect(f"{url}/v1/responses", heartbeat=None, protocols=EXTENSIONS) as ws:
        assert "holdline:welcome" == (await ws.receive_json(timeout=10))["type"]
        # The client answers pings while it waits.
        receiving = asyncio.create_task(ws.receive_json(timeout=20))
        await asyncio.sleep(1.5)  # leaves the socket idle for three pings
        assert not receiving.done()
        await ws.send_json({"type": "response.create", "input": "tokens=3", "model": "m"})
        kinds = [(await receiving)["type"]]
        while kinds[-1] != "response.completed":
            kinds.append((await ws.receive_json(timeout=10))["type"])


async def _stream(http: aiohttp.ClientSession, url: str) -> None:
    """Checks that events arrive one by one. A buffering proxy would deliver them all at the end."""
    body = {"input": "mode=slow pace=0.3 tokens=6", "model": "m", "stream": True}
    async with http.post(f"{url}/v1/responses", json=body) as answer:
        assert 200 == answer.status
        delta = b"event: response.output_text.delta"
        arrived = [time.monotonic() async for line in answer.content if line.startswith(delta)]
    assert len(arrived) >= 4
    assert arrived[-1] - arrived[0] > 0.6


async def _origins(url: str) -> None:
    """Checks that the server receives the browser's host name and accepts same-site pages."""
    place, path = url.removesuffix("/chat"), "/chat/v1/responses"
    async with Raw(url) as raw:
        assert 101 == (await raw.upgrade(f"Origin: {place}", path=path))[0]
    async with Raw(url) as raw:
        assert 403 == (await raw.upgrade("Origin: http://evil.example", path=path))[0]


@pytest.mark.parametrize("proxy", PROXIES)
async def test_a_proxy_replaces_a_forged_x_forwarded_for(tmp_path: Path, proxy: str) -> None:
    forwarded_for: list[str] = []

    async def record(request: web.Request) -> web.Response:
        forwarded_for.append(request.headers.get("X-Forwarded-For", ""))
        return web.Response()

    async def remove_server_header(request: web.Request, response: web.StreamResponse) -> None:
        # Holdline's server does not send this header either.
        response.headers.pop("Server", None)

    app = web.Application()
    app.on_response_prepare.append(remove_server_header)
    app.router.add_get("/{tail:.*}", record)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with run_proxy(proxy, runner.addresses[0][1], tmp_path) as url:
            forwarded_for.clear()
            forged = {"X-Forwarded-For": "6.6.6.6"}
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"{url}/livez?mine", headers=forged) as answer,
            ):
                assert 200 == answer.status
    finally:
        await runner.cleanup()
    assert "127.0.0.1" in forwarded_for
    assert not any("6.6.6.6" in word for word in forwarded_for)
