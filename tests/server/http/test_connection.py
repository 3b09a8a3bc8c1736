"""Tests how a server that is shutting down treats the connections that a proxy keeps open."""

from __future__ import annotations

import asyncio
import signal
import socket

import aiohttp
from aiohttp import web

from server.api.close_codes import CloseCode
from server.http.connection import listen, stop_listening
from tests.system import EXTENSIONS, System, wait_until


async def test_connections_that_the_kernel_has_accepted_are_served() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="served")

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        listener = await listen(runner, "127.0.0.1", 0)
        address = listener.sockets[0].getsockname()
        # The event loop has not run since the connection was opened, so the server has not yet
        # accepted the connection when it stops listening.
        with socket.create_connection(address) as waiting:
            waiting.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            await stop_listening(runner, listener)
            waiting.setblocking(False)
            reply = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(waiting, 4096), 5)
        assert reply.startswith(b"HTTP/1.1 200")
        with socket.socket() as late:
            assert 0 != late.connect_ex(address)
    finally:
        await runner.cleanup()


async def test_a_delayed_stop_accepts_requests_and_reports_itself_unready(system: System) -> None:
    server = await system.server(HOLDLINE_SHUTDOWN_DELAY_SECONDS="30")
    body = {"input": "x", "model": "m", "background": True}
    async with aiohttp.ClientSession() as http:

        async def unready() -> bool:
            async with http.get(f"{server.url}/readyz") as answer:
                return answer.status == 503

        server.signal(signal.SIGTERM)
        await wait_until(unready)
        async with http.post(f"{server.url}/v1/responses", json=body) as answer:
            assert (200, "close") == (answer.status, answer.headers["Connection"])
        async with http.ws_connect(f"{server.url}/v1/responses", protocols=EXTENSIONS) as ws:
            assert "holdline:welcome" == (await ws.receive_json(timeout=5))["type"]
            # A second signal skips the shutdown delay.
            server.signal(signal.SIGTERM)
            assert CloseCode.RESTARTING == (await ws.receive(timeout=5)).data
    assert 0 == await server.wait()
