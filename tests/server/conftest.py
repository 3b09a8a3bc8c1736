"""Fixtures: a server in the test's own process, and a worker that the test controls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp.test_utils import TestServer

from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from server.app import SERVER, Server, create_app
from server.config import Config
from tests.server.factories import Worker
from tests.server.talk import Client as Client  # noqa: PLC0414 - imported from here as well
from tests.server.talk import Talk, connected
from tests.system import wait_until

Serve = Callable[..., Awaitable[Client]]


@pytest.fixture
def serve(redis_url: str, aiohttp_client: Serve) -> Serve:
    """Starts a server.

    Settings are passed by their lower-case names without the HOLDLINE_ prefix.
    """

    async def start(url: str = redis_url, **settings: str) -> Client:
        environ = {f"HOLDLINE_{name.upper()}": value for name, value in settings.items()}
        environ = {"HOLDLINE_SHUTDOWN_GRACE_SECONDS": "0", **environ}
        environ = {"REDIS_URL": url, "HOLDLINE_MODEL": "simulation", **environ}
        server = TestServer(create_app(Config.from_environ(environ)))
        await server.start_server(auto_decompress=False)
        client = await aiohttp_client(server)
        relay = client.app[SERVER].relay
        # The first check for losses makes every feed read its log.
        await wait_until(lambda: relay.subscriber.healthy and relay._epochs)
        return client

    return start


@pytest.fixture
async def client(serve: Serve) -> Client:
    return await serve()


@pytest.fixture
def server(client: Client) -> Server:
    return client.app[SERVER]


@pytest.fixture
async def worker(redis: Redis) -> AsyncIterator[Worker]:
    async with Pipe(redis) as pipe:
        yield Worker(pipe)


@pytest.fixture
async def talk(client: Client) -> AsyncIterator[Talk]:
    async with connected(client) as talk:
        yield talk
