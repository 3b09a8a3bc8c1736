"""Tests a server and worker with several processes: shared port, restarts and joint shutdown."""

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
    """Returns the child processes of a process."""
    pid = process.popen.pid
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(child) for child in found.split()]


def alive(pid: int) -> bool:
    """Returns whether a process is running; a zombie is not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except FileNotFoundError:
        return False
    return stat.rpartition(") ")[2][0] != "Z"


async def wait_until_ready(process: Process, times: int) -> None:
    """Waits until the given number of children has logged that it is ready.

    Dead children count, too.
    """
    await wait_until(lambda: process.output.count(f"{process.name} ready") >= times, 30)


async def ask(url: str) -> str:
    """Requests an answer over a new connection and returns the answer's status."""
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/v1/responses", json={"input": "tokens=5"}) as response,
    ):
        assert 200 == response.status, await response.text()
        return str((await response.json())["status"])


@pytest.mark.heavy
async def test_two_server_and_two_worker_processes_answer_and_shut_down(
    system: System, model: FakeModel
) -> None:
    server = await system.server(HOLDLINE_PROCESSES="2")
    worker = await system.worker(model.url, HOLDLINE_PROCESSES="2")
    await wait_until_ready(server, 2)
    await wait_until_ready(worker, 2)
    assert (2, 2) == (len(children(server)), len(children(worker)))
    assert ["completed"] * 12 == await asyncio.gather(*(ask(server.url) for _ in range(12)))

    kept = children(server) + children(worker)
    for process in (server, worker):
        process.signal(signal.SIGTERM)
    assert [0, 0] == [await server.wait(20), await worker.wait(20)]
    assert not any(map(alive, kept))
    assert 2 == server.output.count("shutting down")


async def test_a_dead_child_process_is_replaced(system: System, model: FakeModel) -> None:
    server = await system.server(HOLDLINE_PROCESSES="2")
    worker = await system.worker(model.url, HOLDLINE_PROCESSES="2")
    await wait_until_ready(server, 2)
    await wait_until_ready(worker, 2)
    for process in (server, worker):
        first, second = children(process)
        os.kill(first, signal.SIGKILL)
        await wait_until_ready(process, 3)
        assert second in children(process)
        assert first not in children(process)
        assert "child process died: starting another one" in process.output
    assert ["completed"] * 6 == await asyncio.gather(*(ask(server.url) for _ in range(6)))
    server.signal(signal.SIGINT)
    assert 0 == await server.wait(20)


@pytest.mark.heavy
async def test_child_processes_end_with_their_parent(system: System, model: FakeModel) -> None:
    server = await system.server(HOLDLINE_PROCESSES="2")
    worker = await system.worker(model.url, HOLDLINE_PROCESSES="2")
    await wait_until_ready(server, 2)
    await wait_until_ready(worker, 2)
    kept = children(server) + children(worker)
    await server.kill()
    await worker.kill()
    await wait_until(lambda: not any(map(alive, kept)), 20)


async def test_a_port_in_use_is_reported_once(system: System) -> None:
    server = await system.server()
    port = server.url.rpartition(":")[2]
    result = await asyncio.to_thread(
        run_module, "server", "--processes", "2", REDIS_URL=system.redis_url, HOLDLINE_PORT=port
    )
    assert (1, 1) == (result.returncode, result.stderr.count("cannot listen"))


@pytest.mark.parametrize("module", ["server", "worker"])
async def test_if_one_child_process_cannot_start_all_are_stopped(
    pipe: Pipe, redis_url: str, module: str
) -> None:
    await pipe.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        environ = {"REDIS_URL": redis_url, "OPENAI_API_KEY": "x", "HOLDLINE_PORT": "0"}
        result = await asyncio.to_thread(run_module, module, "--processes", "2", **environ)
    finally:
        await pipe.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert (1, True) == (result.returncode, "maxmemory-policy" in result.stderr)


@pytest.mark.parametrize("module", ["server", "worker"])
def test_an_invalid_number_of_processes_is_rejected(module: str) -> None:
    wrong = {"REDIS_URL": "redis://127.0.0.1:1/0", "OPENAI_API_KEY": "x"}
    result = run_module(module, "--processes", "nine", **wrong)
    assert (2, True) == (result.returncode, "'nine' is not a whole number" in result.stderr)
    result = run_module(module, "--processes", "65", **wrong)
    assert (2, True) == (result.returncode, "65 is not in the range 1<=x<=64" in result.stderr)
