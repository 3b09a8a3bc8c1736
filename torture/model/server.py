"""The HTTP server of the simulated model."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Self

from aiohttp import web

from torture.model import text
from torture.model.formats import Chat, Format, Responses
from torture.model.record import Call, Records
from torture.model.script import Script, all_text, last_user_text, read
from torture.model.wire import Cut, Wire

NAME: Final = "simulation"
# A hung or held call ends after this time, so that no call lasts forever.
_MAX_HANG_SECONDS: Final = 600
_MAX_BODY_BYTES: Final = 64 * 2**20
_PAGE: Final = "<html><head><title>502 Bad Gateway</title></head><body>502</body></html>"


class Model:
    """The simulated model. It is an async context manager, and `url` is its base URL."""

    def __init__(self, seed: int, port: int = 0, host: str = "127.0.0.1") -> None:
        self.seed = seed
        self.url = ""
        self.records = Records()
        self._port = port
        self._host = host
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/responses", self._responses)
        # A caller that closes its connection cancels the handler, which records it.
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        port: int = self._runner.addresses[0][1]
        self.url = f"http://{self._host}:{port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _models(self, _request: web.Request) -> web.StreamResponse:
        model = {"id": NAME, "object": "model", "created": 1, "owned_by": "torture"}
        return web.json_response({"object": "list", "data": [model]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        return await self._answer(request, "chat completions", body, body.get("messages") or [])

    async def _responses(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        return await self._answer(request, "responses", body, body.get("input") or [])

    async def _answer(
        self, request: web.Request, api: str, body: dict[str, Any], messages: Any
    ) -> web.StreamResponse:
        script = read(last_user_text(messages))
        peer = request.transport.get_extra_info("peername") if request.transport else None
        port = peer[1] if peer else 0
        call = self.records.begin(script, port, api, body, all_text(messages))
        call_id = f"{script.id or 'none'}x{call.number}"
        kind = Responses if api == "responses" else Chat
        wire = Wire(request, call)
        try:
            reply = await self._run(wire, kind(call_id, body), script, call)
        except asyncio.CancelledError:
            self.records.end(call, "closed by the caller")
            raise
        except (Cut, ConnectionError) as error:
            cut = isinstance(error, Cut)
            self.records.end(call, "stopped" if cut else "closed by the caller")
            if request.transport is not None:
                request.transport.abort()
            raise web.HTTPInternalServerError from None  # the client cannot receive it
        whole = call.pieces == script.pieces and script.act(call.number) == "ok"
        self.records.end(call, "whole" if whole else "stopped")
        return reply

    async def _run(
        self, wire: Wire, answer: Format, script: Script, call: Call
    ) -> web.StreamResponse:
        act = script.act(call.number)
        if act in {"error", "html"}:
            return await self._refuse(wire, script, call)
        if call.body.get("stream"):
            return await self._stream(wire, answer, script, call)
        pieces, stop = script.pieces, ""
        for number in range(script.pieces + 1):
            if await self._before(script, act, number):
                pieces, stop = number, act
                break
            call.pieces = min(number + 1, script.pieces)
        said = text.answer(self.seed, script.id, call.number, pieces, script.size)
        if act in {"empty", "garbage"}:
            return wire.body(200, "" if act == "empty" else said)
        if stop in {"end", "event"}:
            raise Cut
        return wire.body(200, answer.body(said, pieces, stop))

    async def _refuse(self, wire: Wire, script: Script, call: Call) -> web.StreamResponse:
        if script.hold >= 0:
            await self._held(script)
        if script.act(call.number) == "html":
            return wire.body(script.status, _PAGE)
        after = {"Retry-After": str(script.retry_after)} if script.retry_after >= 0 else {}
        error = {
            "message": f"The simulated model refuses this call with {script.status}.",
            "type": "invalid_request_error" if script.status < 429 else "server_error",
            "param": None,
            "code": {401: "invalid_api_key", 429: "rate_limit_exceeded"}.get(script.status),
        }
        return wire.body(script.status, {"error": error}, after)

    async def _stream(
        self, wire: Wire, answer: Format, script: Script, call: Call
    ) -> web.StreamResponse:
        act = script.act(call.number)
        await wire.begin()
        if act == "empty":
            return await wire.finish()
        for name, event in answer.first():
            await wire.event(event, name)
        said, stop = "", ""
        for number in range(script.pieces + 1):
            if await self._before(script, act, number):
                stop = act
                break
            if number == script.pieces:
                break
            piece = text.piece(self.seed, script.id, call.number, number, script.size)
            name, event = answer.piece(piece)
            await wire.event(event, name)
            said += piece
            call.pieces += 1
            self.records.watch(call, f"piece {number}")
        if stop == "event":
            name, event = answer.error("The simulated model fails in the middle.")
            await wire.event(event, name)
        elif stop == "garbage":
            await wire.raw('data: {"choices": [{"del\n\n')
        if stop in {"end", "event", "garbage"}:
            return await wire.finish()
        for name, event in answer.last(said, call.pieces, stop):
            await wire.event(event, name)
        await wire.raw(answer.end())
        return await wire.finish()

    async def _before(self, script: Script, act: str, number: int) -> bool:
        """Waits before a piece, or before the end. Returns True if the answer stops there."""
        if script.pace_ms and number < script.pieces:
            await asyncio.sleep(script.pace_ms / 1000)
        if script.hold == number:
            await self._held(script)
        if act == "ok" or number != script.at:
            return False
        if act == "hang":
            await asyncio.sleep(_MAX_HANG_SECONDS)
        if act in {"cut", "hang"}:
            raise Cut
        return True

    async def _held(self, script: Script) -> None:
        async with asyncio.timeout(_MAX_HANG_SECONDS):
            await self.records.wait_released(script.id)
