"""Tests that the most expensive requests allowed by default do not delay other clients."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import aiohttp
import pytest

from tests.fake_model import FakeModel
from tests.system import Process, Server, System

from .worst_case import BODY_BYTES, CASES, LARGE, QUICK

MAX_RSS = 300 * 1_000_000
MAX_SECONDS = 0.5


def peak(process: Process) -> int:
    """Returns the peak resident memory of a process, in bytes."""
    status = Path(f"/proc/{process.popen.pid}/status").read_text()
    return 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])


def queued_seconds(task: str) -> float:
    """Returns the seconds that a task has waited for a processor. `task` is its path in /proc."""
    return int(Path(f"/proc/{task}/schedstat").read_text().split()[1]) / 1e9


@contextmanager
def other_client(server: Server) -> Iterator[list[float]]:
    """Requests `/livez` repeatedly as another client and records how long each request takes.

    The client has its own thread, because the attacking event loop is busy. The recorded times
    exclude the time that the server or the client waited for a processor, so that other programs on
    the machine have no effect.
    """
    waits, over = list[float](), threading.Event()

    def now() -> float:
        queued = queued_seconds(str(server.popen.pid)) + queued_seconds("thread-self")
        return time.monotonic() - queued

    def poll() -> None:
        connection = HTTPConnection(server.url.removeprefix("http://"), timeout=30)
        while not over.wait(0.02):
            began = now()
            connection.request("GET", "/livez")
            connection.getresponse().read()
            waits.append(now() - began)
        connection.close()

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield waits
    finally:
        over.set()
        thread.join(30)


async def stored_item(http: aiohttp.ClientSession, url: str) -> str:
    """Returns the id of a 900 KB item of a finished response."""
    body = {"input": f"tokens=1 {LARGE}", "model": "m"}
    async with http.post(f"{url}/v1/responses", json=body) as answer:
        assert 200 == answer.status, await answer.text()
        response_id = (await answer.json())["id"]
    async with http.get(f"{url}/v1/responses/{response_id}/input_items") as answer:
        item_id: str = (await answer.json())["data"][0]["id"]
        return item_id


async def attack(http: aiohttp.ClientSession, server: Server, name: str, at_once: int) -> float:
    """Sends one case's requests concurrently. Returns another client's longest wait in seconds."""
    body, status = CASES[name]
    sent = body(await stored_item(http, server.url) if "references" in name else "")
    assert len(sent) < BODY_BYTES
    headers = {"Content-Encoding": "gzip"} if sent.startswith(b"\x1f\x8b") else {}

    async def post() -> None:
        url = f"{server.url}/v1/responses"
        async with http.post(url, data=sent, headers=headers) as answer:
            # A server under load rejects large requests that it could not process in time.
            assert answer.status in (status, 503), (name, await answer.text())

    with other_client(server) as waits:
        await asyncio.gather(*(post() for _ in range(at_once)))
        await asyncio.sleep(0.1)  # wait for the last request to `/livez`
    return max(waits)


async def check_bounded(redis_url: str, folder: Path, names: tuple[str, ...], at_once: int) -> None:
    async with FakeModel() as model, System(redis_url, folder) as system:
        server, worker = await asyncio.gather(system.server(), system.worker(model.url))
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:
            for name in names:
                assert await attack(http, server, name, at_once) < MAX_SECONDS, name
                for process in (server, worker):
                    assert peak(process) < MAX_RSS, (name, process.name, peak(process))
                    assert process.popen.poll() is None, process.output


@pytest.mark.timeout(180)
async def test_the_costliest_requests_of_one_tenant_do_not_delay_other_clients(
    redis_url: str, tmp_path: Path
) -> None:
    await check_bounded(redis_url, tmp_path, QUICK, at_once=4)


@pytest.mark.heavy
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CASES)
async def test_a_hundred_of_the_costliest_requests_do_not_delay_other_clients(
    redis_url: str, tmp_path: Path, name: str
) -> None:
    await check_bounded(redis_url, tmp_path, (name,), at_once=100)
