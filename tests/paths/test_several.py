"""Server and worker as several processes: one port, one death that nobody notices, one end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from jobs.redis.pipe import Pipe
from tests.fake_model import FakeModel
from tests.system import Process, System, run_module, wait_until

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel() as model:
        yield model


def children(process: Process) -> list[int]:
    """The processes that this one keeps."""
    pid = process.popen.pid
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(child) for child in found.split()]


def alive(pid: int) -> bool:
    """Gone, or a zombie that nobody has to wait for any more."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except FileNotFoundError:
        return False
    return stat.rpartition(") ")[2][0] != "Z"


async def ready(process: Process, times: int) -> None:
    """So many children have said that they are ready, the dead ones included."""
    await wait_until(lambda: process.said.count(f"{process.name} ready") >= times, 30)


async def ask(url: str) -> str:
    """A whole answer over a connection of its own."""
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/v1/responses", json={"input": "tokens=5"}) as response,
    ):
        assert 200 == response.status, await response.text()
        return str((await response.json())["status"])


async def test_two_servers_and_two_workers_answer_and_end_well(
    system: System, model: FakeModel
) -> None:
    server = await system.server(HOLDLINE_PROCESSES="2")
    worker = await system.worker(model.url, HOLDLINE_PROCESSES="2")
    await ready(server, 2)
    await ready(worker, 2)
    assert (2, 2) == (len(children(server)), len(children(worker)))
    assert ["completed"] * 12 == await asyncio.gather(*(ask(server.url) for _ in range(12)))

    kept = children(server) + children(worker)
    for process in (server, worker):
        process.signal(signal.SIGTERM)
    assert [0, 0] == [await server.wait(20), await worker.wait(20)]
    assert not any(map(alive, kept))
    assert 2 == server.said.count("draining")


async def test_whoever_dies_is_followed_by_another(system: System, model: FakeModel) -> None:
    server = await system.server(HOLDLINE_PROCESSES="2")
    worker = await system.worker(model.url, HOLDLINE_PROCESSES="2")
    await ready(server, 2)
    await ready(worker, 2)
    for process in (server, worker):
        first, second = children(process)
        os.kill(first, signal.SIGKILL)
        await ready(process, 3)
        assert second in children(process)
        assert first not in children(process)
        assert "a process died" in process.said
    assert ["completed"] * 6 == await asyncio.gather(*(ask(server.url) for _ in range(6)))
    server.signal(signal.SIGINT)
    assert 0 == await server.wait(20)


async def test_children_do_not_outlive_their_parent(system: System, model: FakeModel) -> None:
    server = await system.server(HOLDLINE_PROCESSES="2")
    worker = await system.worker(model.url, HOLDLINE_PROCESSES="2")
    await ready(server, 2)
    await ready(worker, 2)
    kept = children(server) + children(worker)
    await server.kill()
    await worker.kill()
    await wait_until(lambda: not any(map(alive, kept)), 20)


async def test_a_port_that_is_taken_is_told_once(system: System) -> None:
    server = await system.server()
    port = server.url.rpartition(":")[2]
    said = await asyncio.to_thread(
        run_module, "server", "--processes", "2", REDIS_URL=system.redis_url, HOLDLINE_PORT=port
    )
    assert (1, 1) == (said.returncode, said.stderr.count("cannot listen"))


@pytest.mark.parametrize("module", ["server", "worker"])
async def test_where_one_cannot_start_none_is_kept(pipe: Pipe, redis_url: str, module: str) -> None:
    await pipe.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        environ = {"REDIS_URL": redis_url, "OPENAI_API_KEY": "x", "HOLDLINE_PORT": "0"}
        said = await asyncio.to_thread(run_module, module, "--processes", "2", **environ)
    finally:
        await pipe.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert (1, True) == (said.returncode, "maxmemory-policy" in said.stderr)


@pytest.mark.parametrize("module", ["server", "worker"])
def test_a_wrong_number_of_processes_is_refused(module: str) -> None:
    wrong = {"REDIS_URL": "redis://127.0.0.1:1/0", "OPENAI_API_KEY": "x"}
    said = run_module(module, "--processes", "nine", **wrong)
    assert (1, True) == (said.returncode, "HOLDLINE_PROCESSES must be a number" in said.stderr)
    said = run_module(module, "--processes", "65", **wrong)
    assert (1, True) == (said.returncode, "between 1 and 64" in said.stderr)
