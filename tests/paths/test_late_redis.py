"""Tests servers and workers that start before their Redis: they answer, wait and then work."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from runtime.command_line import FAILED
from tests.fake_model import FakeModel
from tests.paths.redis_faults import store as stores
from tests.paths.redis_faults.clients import socket_client
from tests.service_manager import Manager
from tests.system import START_SECONDS, Process, Server, System, free_port, wait_until

# A start takes seconds of processor time, on cores that are shared with other tests.
pytestmark = pytest.mark.timeout(180)
WAITING = "READY=1\nSTATUS=waiting for Redis"
READY = "READY=1\nSTATUS=ready"
PROGRAMS = pytest.mark.parametrize("program", ["server", "worker"])
PROCESSES = pytest.mark.parametrize("processes", ["1", pytest.param("2", marks=pytest.mark.heavy)])


@pytest.fixture
async def store() -> AsyncIterator[stores.Store]:
    """A Redis that does not run yet."""
    async with stores.running(tcp=True) as store:
        await store.kill()
        yield store


@pytest.fixture
async def system(store: stores.Store, tmp_path: Path) -> AsyncIterator[System]:
    async with System(store.url, tmp_path) as system:
        yield system


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify"))
    yield manager
    manager.close()


async def asked(url: str, **options: Any) -> tuple[int, Any]:
    """Returns the status and the JSON body of a reply, or 0 and None if nothing listens."""
    method = "POST" if options else "GET"
    try:
        async with (
            aiohttp.ClientSession() as http,
            http.request(method, url, **options) as response,
        ):
            return response.status, await response.json()
    except aiohttp.ClientConnectionError:
        return 0, None


async def waiting(system: System, program: str, **environ: str) -> Server:
    """Starts a program, and waits until it answers without a Redis."""
    setting = {"server": "HOLDLINE_PORT", "worker": "HOLDLINE_WORKER_PORT"}[program]
    port = str(free_port())
    process = system._start(Server, program, {setting: port, **environ})
    process.url = f"http://127.0.0.1:{port}"

    async def alive() -> bool:
        assert process.popen.poll() is None, process.output
        return (200, {"status": "ok"}) == await asked(f"{process.url}/livez")

    await wait_until(alive, START_SECONDS)
    return process


async def is_ready(process: Server) -> bool:
    assert process.popen.poll() is None, process.output
    return (await asked(f"{process.url}/readyz"))[0] == 200


async def test_a_server_refuses_requests_until_redis_is_there_and_then_works(
    system: System, store: stores.Store
) -> None:
    async with FakeModel() as model:
        server = await waiting(system, "server", HOLDLINE_REQUEST_LOG="on")
        worker = system.start("worker", OPENAI_BASE_URL=model.url)
        began = time.monotonic()
        status, found = await asked(f"{server.url}/readyz")
        assert 503 == status
        assert ("not ready", False) == (found["status"], found["redis"])
        assert time.monotonic() - began < 5
        assert 200 == (await asked(f"{server.url}/v1/models"))[0]
        async with socket_client(server) as client:
            await client.wait_for_degraded(True)
            prompt = {"input": "x", "model": "m"}
            status, body = await asked(f"{server.url}/v1/responses", json=prompt)
            assert (503, "service_unavailable") == (status, body["error"]["holdline"]["error_code"])
            assert "server ready" not in server.output
            assert "server listening" in server.output

            await store.start()
            await client.wait_for_degraded(False, 20)
            await wait_until(lambda: is_ready(server), START_SECONDS)
            await wait_until(lambda: "worker ready" in worker.output, START_SECONDS)
            answer = await client.ask("tokens=3")
            await answer.wait_for_end()
            assert answer.code is None
        assert "server ready" in server.output
        assert await store.call("GET", "holdline:{0}:format") is not None
        assert 1 == await store.call("ZCARD", "holdline:{0}:servers")

        status, during = await _refused_in_an_outage(server, store)
        assert (503, body) == (status, during)


async def _refused_in_an_outage(server: Server, store: stores.Store) -> tuple[int, Any]:
    await store.kill()
    return await asked(f"{server.url}/v1/responses", json={"input": "x", "model": "m"})


@PROCESSES
@PROGRAMS
async def test_an_unsuitable_redis_ends_a_program_that_has_waited_for_it(
    system: System, store: stores.Store, program: str, processes: str
) -> None:
    process = await waiting(system, program, HOLDLINE_PROCESSES=processes)
    await store.start("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru")
    assert FAILED == await process.wait(START_SECONDS), process.output
    assert f"{program}: maxmemory-policy is allkeys-lru" in process.output
    assert "Traceback" not in process.output


@PROCESSES
@PROGRAMS
async def test_a_program_that_waits_for_redis_can_be_stopped(
    system: System, program: str, processes: str
) -> None:
    process = await waiting(system, program, HOLDLINE_PROCESSES=processes)
    process.signal(signal.SIGTERM)
    assert 0 == await process.wait(START_SECONDS), process.output
    assert "Traceback" not in process.output


@pytest.mark.heavy
@PROGRAMS
async def test_the_service_manager_does_not_wait_for_redis(
    system: System, store: stores.Store, manager: Manager, program: str
) -> None:
    """systemd ends a service that is not ready after `TimeoutStartSec=`."""
    process = await waiting(system, program, NOTIFY_SOCKET=manager.address)
    await wait_until(lambda: WAITING in manager.read(), START_SECONDS)
    assert READY not in manager.received
    await store.start()
    await wait_until(lambda: READY in manager.read(), START_SECONDS)
    await wait_until(lambda: is_ready(process), START_SECONDS)


@PROGRAMS
async def test_a_port_in_use_is_reported_before_redis_is_there(
    system: System, program: str
) -> None:
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as listener:
        port = str(listener.sockets[0].getsockname()[1])
        environ = {"HOLDLINE_PORT": port, "HOLDLINE_WORKER_PORT": port}
        process: Process = system.start(program, **environ)
        assert FAILED == await process.wait(START_SECONDS)
    assert "cannot listen" in process.output
