"""Tests servers that die, restart or face a reconnect storm, and clients that never read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import socket as sockets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from jobs.ids import new_response_id
from jobs.log.events import lifecycle
from jobs.log.log import LogWriter
from jobs.queue import Queue
from jobs.record import Job, SharedSettings, Status
from jobs.redis.pipe import Pipe
from server.api.close_codes import CloseCode
from server.http.timeouts import STUCK_SECONDS
from tests.fake_model import FakeModel
from tests.system import Server, System, wait_until

TERMINAL = ("response.completed", "response.failed", "response.incomplete", "error")


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel() as model:
        yield model


@pytest.fixture(autouse=True)
async def _no_debugging() -> None:
    """Disables asyncio's debug mode, because it would make the clients in this process too slow."""
    asyncio.get_running_loop().set_debug(False)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


class Client:
    """A client that resumes on any server until it has received the complete answer."""

    def __init__(self, http: aiohttp.ClientSession, prompt: str, servers: list[str]) -> None:
        self.http = http
        self.prompt = prompt
        self.servers = servers
        self.events: list[dict[str, Any]] = []
        self.connections = 0
        self.drained = 0
        self._key = f"{prompt} {random.random()}"

    @property
    def text(self) -> str:
        return "".join(
            event["delta"] for event in self.events if event["type"].endswith("text.delta")
        )

    @property
    def is_complete(self) -> bool:
        """Whether each event arrived once, in order, and the deltas add up to the final text."""
        numbers = [event["sequence_number"] for event in self.events]
        said = self.events[-1]["response"]["output"][0]["content"][0]["text"]
        return numbers == list(range(len(numbers))) and said == self.text

    async def run(self) -> None:
        while not self.events or self.events[-1]["type"] not in TERMINAL:
            try:
                await self._once(random.choice(self.servers))
            except (aiohttp.ClientError, TimeoutError, ConnectionError):
                await asyncio.sleep(random.uniform(0.02, 0.2))

    async def _once(self, url: str) -> None:
        async with self.http.ws_connect(url, timeout=aiohttp.ClientWSTimeout(ws_close=1)) as ws:
            self.connections += 1
            await ws.send_json(self._ask())
            async for message in ws:
                event = json.loads(message.data)
                if "sequence_number" in event:
                    self.events.append(event)
                if event["type"] in TERMINAL:
                    assert event["type"] != "error", event
                    return
            self.drained += ws.close_code == CloseCode.RESTARTING

    def _ask(self) -> dict[str, Any]:
        if self.events:
            return {
                "type": "holdline:resume",
                "response_id": self.events[0]["response"]["id"],
                "starting_after": self.events[-1]["sequence_number"],
            }
        return {
            "type": "response.create",
            "input": self.prompt,
            "model": "m",
            "idempotency_key": self._key,
        }


@pytest.mark.heavy
async def test_killing_a_server_with_200_sockets_loses_no_event_and_causes_no_call(
    system: System, model: FakeModel, http: aiohttp.ClientSession
) -> None:
    doomed, other = await asyncio.gather(system.server(), system.server())
    await system.worker(model.url, HOLDLINE_CONCURRENCY="200")
    servers = [doomed.ws_url, other.ws_url]
    prompt = "mode=slow tokens=30 pace=0.1"
    clients = [Client(http, prompt, servers) for _ in range(200)]
    running = [asyncio.create_task(client.run()) for client in clients]
    await wait_until(lambda: all(client.text for client in clients), 20)
    await doomed.kill()
    servers.remove(doomed.ws_url)
    await asyncio.gather(*running)
    assert [True] * 200 == [client.is_complete for client in clients]
    assert sum(client.connections for client in clients) > 200
    assert 200 == len(model.calls)


@pytest.mark.heavy
@pytest.mark.timeout(120)
async def test_a_rolling_restart_under_load_loses_no_event(
    system: System, model: FakeModel, http: aiohttp.ClientSession
) -> None:
    old = await asyncio.gather(system.server(), system.server())
    await system.worker(model.url)
    servers = [server.ws_url for server in old]
    # The answers take longer than two restarts on a busy machine.
    clients = [Client(http, "mode=slow tokens=300 pace=0.1", servers) for _ in range(50)]
    running = [asyncio.create_task(client.run()) for client in clients]
    await wait_until(lambda: all(client.text for client in clients), 20)
    for server in old:
        server.signal(signal.SIGTERM)
        assert 0 == await server.wait()
        servers.remove(server.ws_url)
        servers.append((await system.server()).ws_url)
    await asyncio.gather(*running)
    assert [True] * 50 == [client.is_complete for client in clients]
    assert 50 <= sum(client.drained for client in clients)
    assert 50 == len(model.calls)


async def finished_response(pipe: Pipe, tokens: int, token_bytes: int = 0) -> str:
    """Writes a finished response to Redis without a server or worker. Returns its id."""
    from jobs.log.codec import encode_event
    from jobs.log.events import terminal
    from tests.jobs.factories import message_added, message_done, text_delta

    queue = Queue(pipe, SharedSettings())
    job = Job(new_response_id(0), "public", 0, {"model": "m", "input": []})
    await queue.submit(job, [lifecycle(job, "response.created", "queued")])
    (grant,) = await queue.leases.claim(0, job.id, 1)
    writer = LogWriter(pipe, job.id, grant.claim, grant.length)
    words = [f"w{index} ".ljust(token_bytes) for index in range(tokens)]
    done = message_done("msg_1", 0, "".join(words), "completed")
    end = terminal(
        job,
        Status.COMPLETED,
        output=[done[-1]["item"]],
        attempts=1,
        timing={},
        completed_at=0,
    )
    events = [*message_added("msg_1", 0), *(text_delta("msg_1", 0, word) for word in words)]
    await writer.finish(
        Status.COMPLETED,
        [encode_event(event) for event in [*events, *done, end]],
        retention_ms=60_000,
    )
    return job.id


@pytest.mark.heavy
@pytest.mark.timeout(120)
async def test_3000_clients_that_reconnect_at_once_receive_their_complete_answers(
    system: System, pipe: Pipe, http: aiohttp.ClientSession
) -> None:
    server = await system.server()
    ids = [await finished_response(pipe, 50) for _ in range(20)]
    missed = 40

    async def reconnect(index: int) -> list[int]:
        while True:
            try:
                async with http.ws_connect(server.ws_url) as ws:
                    await ws.send_json(
                        {
                            "type": "holdline:resume",
                            "response_id": ids[index % len(ids)],
                            "starting_after": missed,
                        }
                    )
                    numbers: list[int] = []
                    async for message in ws:
                        event = json.loads(message.data)
                        if "sequence_number" in event:
                            numbers.append(event["sequence_number"])
                        if event["type"] in TERMINAL:
                            return numbers
            except aiohttp.ClientError:
                await asyncio.sleep(random.uniform(0.1, 1))

    started = time.monotonic()
    # pytest's own timeout raises an exception, which would be lost in a callback of the event loop.
    async with asyncio.timeout(100):
        got = await asyncio.gather(*(reconnect(index) for index in range(3000)))
    print(f"3000 clients had complete answers after {time.monotonic() - started:.1f} s")
    assert [list(range(missed + 1, 57))] * 3000 == got


async def wait_for_metric(server: Server, name: str, expected: float) -> None:
    """Waits until one of the server's metrics has the given value."""

    async def becomes() -> bool:
        return expected == await server.metric(name)

    await wait_until(becomes, 12)


def rss(server: Server) -> int:
    """Returns the resident memory of a server in bytes."""
    return int(Path(f"/proc/{server.popen.pid}/statm").read_text().split()[1]) * 4096


async def open_raw_socket(server: Server) -> sockets.socket:
    """Opens a raw socket, upgraded to WebSocket, with a small receive buffer.

    The test never reads from it.
    """
    raw = sockets.socket()
    raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    raw.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(raw, ("127.0.0.1", int(server.url.rpartition(":")[2])))
    await loop.sock_sendall(
        raw,
        b"GET /v1/responses HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        b"Sec-WebSocket-Protocol: holdline.v1\r\n\r\n",
    )
    head = b""
    while b"holdline:welcome" not in head:
        head += await loop.sock_recv(raw, 65536)
    return raw


def client_frame(message: dict[str, Any]) -> bytes:
    """Returns a client's text frame."""
    data = json.dumps(message).encode()
    assert len(data) < 126
    return bytes([0x81, 0x80 | len(data), 0, 0, 0, 0]) + data


async def test_a_client_that_never_reads_uses_little_memory_and_is_disconnected(
    system: System, pipe: Pipe, http: aiohttp.ClientSession
) -> None:
    server = await system.server(HOLDLINE_PING_SECONDS="4")
    # The response is several megabytes long.
    id_ = await finished_response(pipe, 40_000)
    loop = asyncio.get_running_loop()
    before = rss(server)
    raws = [await open_raw_socket(server) for _ in range(20)]
    try:
        for raw in raws:
            await loop.sock_sendall(
                raw,
                client_frame({"type": "holdline:resume", "response_id": id_, "starting_after": -1}),
            )
        await wait_for_metric(server, "holdline_slow_sockets", 20)
        assert rss(server) - before < 60_000_000
        # Meanwhile, a client that reads is served normally.
        resume = {"type": "holdline:resume", "response_id": id_, "starting_after": 39_990}
        async with http.ws_connect(server.ws_url) as ws:
            await ws.send_json(resume)
            async for message in ws:
                if json.loads(message.data)["type"] in TERMINAL:
                    break
        # The clients that do not read send no pongs, so they are disconnected and their state is
        # freed.
        await wait_for_metric(server, "holdline_sockets", 0)
        await wait_for_metric(server, "holdline_followers", 0)
        await wait_for_metric(server, "holdline_slow_sockets", 0)
    finally:
        for raw in raws:
            raw.close()


@pytest.mark.parametrize(
    "seconds",
    [
        3,
        pytest.param(
            40, marks=[pytest.mark.heavy, pytest.mark.timeout(120)]
        ),  # long enough to reach the server's write deadline
    ],
)
@pytest.mark.parametrize(
    "way",
    [
        pytest.param("plain", marks=pytest.mark.heavy),
        pytest.param("stream", marks=pytest.mark.heavy),
        "socket",
    ],
)
async def test_clients_that_never_read_share_one_copy_of_a_large_answer_and_are_disconnected(
    system: System, pipe: Pipe, http: aiohttp.ClientSession, seconds: int, way: str
) -> None:
    server = await system.server()
    id_ = await finished_response(pipe, 400, 10_000)  # 4 MB of text
    before_end = 400 + 5  # the sequence number of the second to last event
    host, port = server.url.removeprefix("http://").split(":")
    files = Path(f"/proc/{server.popen.pid}/fd")
    before = len(list(files.iterdir()))
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        for _ in range(150):
            if way == "socket":
                raw = stack.enter_context(await open_raw_socket(server))
                resume = {"type": "holdline:resume", "response_id": id_}
                await loop.sock_sendall(raw, client_frame({**resume, "starting_after": before_end}))
                continue
            raw = stack.enter_context(sockets.socket())
            raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
            raw.setblocking(False)
            await loop.sock_connect(raw, (host, int(port)))
            query = f"?stream=true&starting_after={before_end}" if way == "stream" else ""
            ask = f"GET /v1/responses/{id_}{query} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"
            await loop.sock_sendall(raw, ask.encode())
        await wait_until(lambda: len(list(files.iterdir())) >= before + 150)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            asked = time.monotonic()
            async with http.get(f"{server.url}/livez") as response:
                assert 200 == response.status
            assert time.monotonic() - asked < 0.5
            assert rss(server) < 300_000_000
            await asyncio.sleep(0.1)  # the interval between two checks
        if seconds > STUCK_SECONDS:
            assert len(list(files.iterdir())) <= before + 2
    async with http.get(f"{server.url}/v1/responses/{id_}") as response:
        text = (await response.json())["output"][0]["content"][0]["text"]
    assert 4_000_000 == len(text)


@pytest.mark.parametrize(
    ("after", "status", "code"),
    [
        ("999", 200, "starting_after_beyond_end"),
        ("-2", 400, "invalid_value"),
        ("x", 400, "invalid_value"),
        ("18446744073709551616", 400, "invalid_value"),
    ],
)
async def test_an_impossible_starting_after_is_rejected(
    system: System, pipe: Pipe, http: aiohttp.ClientSession, after: str, status: int, code: str
) -> None:
    server = await system.server()
    id_ = await finished_response(pipe, 3)
    url = f"{server.url}/v1/responses/{id_}?stream=true&starting_after={after}"
    async with http.get(url) as response:
        assert status == response.status
        assert code in await response.text()


async def test_an_expired_response_is_not_found(
    system: System, pipe: Pipe, http: aiohttp.ClientSession
) -> None:
    server = await system.server()
    id_ = await finished_response(pipe, 3)
    await pipe.call("PEXPIRE", f"holdline:{{0}}:job:{id_}", 0)
    await pipe.call("PEXPIRE", f"holdline:{{0}}:log:{id_}", 0)
    async with http.get(f"{server.url}/v1/responses/{id_}") as response:
        assert 404 == response.status
        assert "response_not_found" == (await response.json())["error"]["code"]
