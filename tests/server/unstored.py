"""A prompt and an answer for requests with `store: false`, and a check that both are deleted."""

from __future__ import annotations

import asyncio

from jobs.redis.pipe import Pipe
from tests.jobs.dump import dump

SECRET, ANSWER = "what nobody may keep", "what was said"


async def gone(pipe: Pipe) -> None:
    """Returns when Redis holds neither the prompt nor the answer nor any key of the response."""
    async with asyncio.timeout(5):
        left = str(await dump(pipe))
        while any(word in left for word in (SECRET, ANSWER, ":key:", ":job:", ":log:")):
            left = str(await dump(pipe))
