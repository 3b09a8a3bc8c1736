"""Requests background responses over HTTP; a worker produces them, and no client follows them."""

from __future__ import annotations

import asyncio
import time

import aiohttp

from jobs.names import Partition

from .processes import BenchError
from .rig import Rig

AT_ONCE = 50
UNDER_WAY = {b"queued", b"running"}


async def in_background(port: int, answers: int, prompt: str) -> list[str]:
    """Requests background responses to a prompt, and returns their ids once all are accepted."""
    body = {"input": prompt, "background": True}
    gate = asyncio.Semaphore(AT_ONCE)
    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    async with aiohttp.ClientSession(connector=connector) as http:

        async def one() -> str:
            async with (
                gate,
                http.post(f"http://127.0.0.1:{port}/v1/responses", json=body) as response,
            ):
                response.raise_for_status()
                return str((await response.json())["id"])

        return list(await asyncio.gather(*(one() for _ in range(answers))))


async def all_completed(rig: Rig, ids: list[str], seconds: float = 120.0) -> None:
    """Waits until all responses are completed.

    Raises: BenchError if a response fails or the time runs out.
    """
    names, deadline = Partition(0), time.monotonic() + seconds
    left = ids
    while left:
        states = await asyncio.gather(
            *(rig.control.call("HGET", names.job(id_), "status") for id_ in left)
        )
        found = dict(zip(left, states, strict=True))
        left = [id_ for id_, status in found.items() if status in UNDER_WAY]
        if ended := set(found.values()) - UNDER_WAY - {b"completed"}:
            raise BenchError(f"some responses did not complete; their states are {ended}")
        if left and time.monotonic() > deadline:
            raise BenchError(f"{len(left)} responses did not complete in time")
        await asyncio.sleep(0.02 if left else 0)
