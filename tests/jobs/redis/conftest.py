from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from tests.jobs.proxy import Proxy


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(redis_url) as proxy:
        yield proxy


@pytest.fixture
async def through(proxy: Proxy) -> AsyncIterator[Pipe]:
    """Yields a pipe that connects to Redis through the proxy."""
    async with Pipe(Redis(proxy.url), deadline=3) as pipe:
        await pipe.call("PING")
        yield pipe
