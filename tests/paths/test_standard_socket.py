"""Tests that a client of the standard receives only the standard's events on its WebSocket.

Each test goes through a fault or a limit, records every frame, and checks it against the union of
events in the official SDK. `holdline:restarted` is the only other event.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket as sockets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, get_args

import aiohttp
import pytest
from openai import AsyncOpenAI
from openai.lib.responses_websocket import AsyncResponsesWebSocketSession
from openai.types.responses import ResponsesServerEvent
from openai.types.websocket_reconnection import ReconnectingEvent, ReconnectingOverrides
from pydantic import BaseModel

from holdline_client import mint_token
from jobs.log.events import RESTARTED
from server.api.close_codes import CloseCode
from tests.fake_model import FakeModel
from tests.paths.compliance.schema import SOCKET_ERROR, check_event
from tests.paths.conftest import LIMITS, Shared, sdk
from tests.paths.redis_faults import store as stores
from tests.paths.redis_faults.deployment import deploy
from tests.system import Server, System, wait_until

pytestmark = pytest.mark.timeout(120)

_UNION: Final = get_args(get_args(ResponsesServerEvent)[0])
EVENTS: Final[dict[str, type[BaseModel]]] = {
    kind: event for event in _UNION for kind in get_args(event.model_fields["type"].annotation)
}
TERMINAL: Final = {"response.completed", "response.failed", "response.incomplete"}
SLOW: Final = "mode=slow tokens=60 pace=0.05"
WEATHER: Final = {"type": "function", "name": "weather", "parameters": {"type": "object"}}


def check(frame: dict[str, Any]) -> None:
    """Fails if the frame is neither an event of the standard nor the restart announcement."""
    if frame["type"] == RESTARTED:
        return
    EVENTS[frame["type"]].model_validate(frame)
    if frame["type"] == "error":
        SOCKET_ERROR.model_validate(frame)
    else:
        check_event({name: value for name, value in frame.items() if name != "stream_id"})


class Recorder:
    """A WebSocket without a subprotocol, all frames that arrived on it, and its end."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self.frames: list[dict[str, Any]] = []
        self.close: tuple[int, str] | None = None

    async def ask(self, prompt: str, **fields: Any) -> None:
        message = {"type": "response.create", "input": prompt, "model": "m", **fields}
        await self.ws.send_json(message)

    async def read(self) -> None:
        """Records and checks frames until the socket is closed."""
        while True:
            frame = await self.ws.receive()
            if frame.type is not aiohttp.WSMsgType.TEXT:
                if frame.type is aiohttp.WSMsgType.CLOSE:
                    self.close = frame.data, frame.extra or ""
                return
            self.frames.append(json.loads(frame.data))

    def kinds(self, lane: str | None = None) -> list[str]:
        return [frame["type"] for frame in self.frames if frame.get("stream_id") == lane]

    def ended(self) -> int:
        return sum(frame["type"] in TERMINAL for frame in self.frames)

    async def has(self, kind: str, count: int = 1, seconds: float = 30) -> None:
        """Waits until this many frames of a type have arrived."""

        def there() -> bool:
            return [frame["type"] for frame in self.frames].count(kind) >= count

        await wait_until(there, seconds)

    async def has_ended(self, count: int = 1, seconds: float = 40) -> None:
        """Waits until this many responses have ended."""
        await wait_until(lambda: self.ended() >= count, seconds)


@asynccontextmanager
async def recorded(server: Server, **how: Any) -> AsyncIterator[Recorder]:
    """Yields a socket of the standard; at the end, checks every frame that arrived."""
    async with aiohttp.ClientSession() as http, http.ws_connect(server.ws_url, **how) as ws:
        recorder = Recorder(ws)
        reading = asyncio.create_task(recorder.read())
        try:
            yield recorder
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
    assert recorder.frames
    for frame in recorder.frames:
        check(frame)


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel() as model:
        yield model


async def test_answers_of_every_kind_on_parallel_lanes(shared: Shared) -> None:
    scripts = ["", "mode=think", "mode=refuse", "mode=cite", "mode=length", "mode=400", "mode=call"]
    async with recorded(shared.server) as socket:
        for number, script in enumerate(scripts):
            lane = f"lane-{number}"
            await socket.ask(shared.prompt(script), stream_id=lane, tools=[WEATHER])
            await socket.ask(shared.prompt(script), stream_id=lane, tools=[WEATHER], store=False)
        await socket.ask("Be brief.", generate=False)
        await socket.has_ended(2 * len(scripts) + 1)
    assert "response.failed" in socket.kinds("lane-5")
    assert "response.function_call_arguments.delta" in socket.kinds("lane-6")
    assert ["response.created", "response.in_progress", "response.completed"] == socket.kinds()


async def test_refusals_and_a_cancelled_response(shared: Shared) -> None:
    refused: list[dict[str, Any]] = [
        {"stream_id": "a b"},
        {"stream_id": "x", "temperature": 9},
        {"previous_response_id": "resp_1"},
        {"background": True},
        {"nonsense": 1},
    ]
    async with recorded(shared.server) as socket:
        for fields in refused:
            await socket.ask("x", **fields)
        await socket.ws.send_str("{")
        await socket.ws.send_bytes(b"\x80")
        await socket.ws.send_json({"type": "response.what"})
        await socket.ws.send_json({"type": "response.cancel", "response_id": "resp_1"})
        await socket.has("error", 9)
        await socket.ask(shared.prompt("mode=hang tokens=4"))
        await socket.has("response.output_text.delta")
        created = next(frame for frame in socket.frames if "response" in frame)
        await socket.ws.send_json(
            {"type": "response.cancel", "response_id": created["response"]["id"]}
        )
        await socket.has_ended()


async def test_prompts_that_wait_in_a_full_queue(system: System, model: FakeModel) -> None:
    server = await system.server(HOLDLINE_MAX_WAITING="2")
    async with recorded(server) as socket:
        for number in range(4):
            await socket.ask("x", stream_id=f"{number}")
        await socket.has("error", 2)
        await asyncio.sleep(2.5)  # with the extensions, two positions would have been sent by now
        await system.worker(model.url)
        await socket.has_ended(2)
    codes = {frame["error"]["code"] for frame in socket.frames if frame["type"] == "error"}
    assert {"rate_limit_exceeded"} == codes


async def test_an_expired_token(shared: Shared, beside: System, tmp_path: Path) -> None:
    beside.environ |= {"HOLDLINE_JWT_KEYS": str(tmp_path / "signers")}
    signer = await beside.add_signer("one")
    server = await beside.server(HOLDLINE_AUTH_GRACE_SECONDS="0.5")
    token = mint_token(signer, tenant="acme", subject="anna", seconds=4)
    async with recorded(server, protocols=[f"bearer.{token}"]) as socket:
        await socket.ask(shared.prompt("mode=slow tokens=400 pace=0.05"))
        await socket.has("response.output_text.delta")
        await wait_until(lambda: socket.close)
    assert (CloseCode.UNAUTHENTICATED, "invalid_token") == socket.close
    last = socket.frames[-1]
    assert ("error", 401, "invalid_api_key") == (
        last["type"],
        last["status"],
        last["error"]["code"],
    )


async def test_a_drain_in_mid_answer(shared: Shared, beside: System) -> None:
    server = await beside.server()
    async with recorded(server) as socket:
        await socket.ask(shared.prompt(SLOW))
        await socket.has("response.output_text.delta")
        server.signal(signal.SIGTERM)
        await wait_until(lambda: socket.close)
    assert (CloseCode.RESTARTING, "the server is restarting; retry_after_ms=500") == socket.close


async def test_the_sdk_reconnects_after_a_drain(beside: System) -> None:
    server = await beside.server(HOLDLINE_PORT="")
    port = server.url.rpartition(":")[2]
    codes: list[int] = []

    def reconnecting(event: ReconnectingEvent) -> ReconnectingOverrides | None:
        codes.append(event.close_code)
        return None

    async with (
        sdk(server) as client,
        client.responses.connect(on_reconnecting=reconnecting, max_retries=20) as connection,
    ):
        first = await answer(connection, "say=one")
        server.signal(signal.SIGTERM)
        assert 0 == await server.wait()
        await beside.server(HOLDLINE_PORT=port)
        second = await answer(connection, "say=two", previous_response_id=first.id)
    assert ("one", "two") == (first.output_text, second.output_text)
    assert {CloseCode.RESTARTING} == set(codes[:1])


async def answer(connection: Any, prompt: str, **fields: Any) -> Any:
    """Sends a prompt over one of the SDK's connections, and returns the response."""
    asking = asyncio.create_task(connection.response.create(input=prompt, model="m", **fields))
    async for event in connection:
        check(event.to_dict(mode="json"))
        if event.type == "response.completed":
            await asking
            return event.response
    raise AssertionError("no answer")


async def test_the_death_of_a_worker(system: System, model: FakeModel) -> None:
    server = await system.server()
    doomed = await system.worker(model.url)
    async with recorded(server) as socket:
        await socket.ask(SLOW)
        await socket.has("response.output_text.delta", 3)
        await doomed.kill()
        await system.worker(model.url)
        await socket.has_ended()
    numbers = [frame["sequence_number"] for frame in socket.frames]
    assert list(range(len(numbers))) == numbers
    assert 1 == socket.kinds().count(RESTARTED)


@pytest.mark.heavy
async def test_an_outage_of_redis(tmp_path: Path) -> None:
    async with (
        stores.running() as store,
        deploy(store, tmp_path) as deployment,
        recorded(deployment.server) as socket,
    ):
        await socket.ask(SLOW, stream_id="a")
        await socket.has("response.output_text.delta", 3)
        await store.kill()
        await socket.ask("x", stream_id="b")
        await socket.has("error")
        await store.start()
        await socket.has_ended()
        await socket.ask("x", stream_id="c")
        await socket.has_ended(2)
    [error] = [frame for frame in socket.frames if frame["type"] == "error"]
    assert (503, "server_error", "b") == (
        error["status"],
        error["error"]["code"],
        error["stream_id"],
    )
    assert "Retry-After" in error["error"]["headers"]


@pytest.mark.heavy
async def test_a_client_that_reads_slowly(system: System, model: FakeModel) -> None:
    server = await system.server()
    await system.worker(model.url)

    def small(info: Any) -> sockets.socket:
        made = sockets.socket(info[0], info[1], info[2])
        made.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        return made

    connector = aiohttp.TCPConnector(socket_factory=small)
    async with (
        aiohttp.ClientSession(connector=connector) as http,
        http.ws_connect(server.ws_url, max_msg_size=0) as ws,
    ):
        slow = Recorder(ws)
        await slow.ask("mode=fast tokens=40000")

        async def stuck() -> bool:
            return await server.metric("holdline_slow_sockets") == 1

        await wait_until(stuck)
        await slow.ask("x", stream_id="b")
        reading = asyncio.create_task(slow.read())
        await slow.has_ended(2, 60)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    for frame in slow.frames:
        check(frame)


async def test_the_sdk_receives_only_events_that_it_knows(
    shared: Shared, client: AsyncOpenAI
) -> None:
    async with client.responses.connect() as connection:
        await answer(connection, shared.prompt())
        await answer(connection, shared.prompt("mode=think"), stream_id="a")


async def test_a_lane_of_the_sdk_ignores_the_restart_announcement(
    shared: Shared, client: AsyncOpenAI
) -> None:
    prompt = shared.prompt("mode=eof times=1")
    async with (
        client.responses.connect() as connection,
        AsyncResponsesWebSocketSession(connection, limits=LIMITS) as session,
    ):
        lane = session.lane("a")
        await lane.send({"type": "response.create", "input": prompt, "model": "m"})
        done = await lane.get_final_response()
    assert 2 == len(shared.calls(prompt))
    assert shared.calls(prompt)[-1].sent.strip() == done.output_text.strip()
