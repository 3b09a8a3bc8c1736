"""A running system that end-to-end tests share: two servers, a worker, a model and a Redis.

It runs in a thread with its own event loop, because starting processes for each test would take
longer than the tests themselves. A test that breaks something starts its own `system`.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from openai import AsyncOpenAI
from openai.lib.responses_websocket import ResponsesWebSocketLimits

from command.up.redis import embedded_redis_sync
from tests.browser import (  # noqa: F401 - fixtures
    browser,
    chromium,
    open_page,
    serve_app,
    serve_site,
)
from tests.fake_model import FakeModel
from tests.fake_wire import Call
from tests.system import START_SECONDS, Server, System

# Limits of the official SDK's lanes that no test reaches.
LIMITS = ResponsesWebSocketLimits(
    max_lanes=8,
    max_events_per_lane=2_000,
    max_events=10_000,
    max_bytes_per_lane=10_000_000,
    max_bytes=50_000_000,
)
_COUNT = itertools.count()
# A model with a chat-completions endpoint, and one whose endpoint has tools of its own. Sessions of
# the Agents SDK are compacted only by models whose names begin like those of OpenAI.
CHAT, HOSTED = "gpt-chat", "gpt-hosted"
MODELS = """
default = "gpt-chat"
[models.gpt-chat]
base_url = "{url}"
[models.gpt-hosted]
base_url = "{url}"
api = "responses"
"""


@dataclass
class Shared:
    """The running system that all end-to-end tests share."""

    server: Server
    other: Server
    model: FakeModel
    redis_url: str

    def prompt(self, script: str = "") -> str:
        """Returns a prompt that no other test uses. `script` controls the fake model."""
        return f"journey={next(_COUNT)} {script}".strip()

    def calls(self, prompt: str) -> list[Call]:
        """Returns the model calls for a prompt."""
        return [call for call in list(self.model.calls) if call.prompt == prompt]

    def answer_to(self, prompt: str) -> str:
        """Returns the model's answer to a prompt.

        Fails unless the model was called exactly once.
        """
        calls = self.calls(prompt)
        assert 1 == len(calls)
        return calls[0].sent.strip()


async def _run(
    url: str,
    folder: Path,
    models: str,
    ready: list[Shared],
    started: threading.Event,
    stop: asyncio.Event,
) -> None:
    async with FakeModel() as model, System(url, folder) as system:
        environ = {}
        if models:
            file = folder / "models.toml"
            file.write_text(models.format(url=model.url))
            environ = {"HOLDLINE_MODELS": str(file), "HOLDLINE_MODEL": ""}
        server, other, _ = await asyncio.gather(
            system.server(**environ),
            system.server(**environ),
            system.worker(model.url, **environ),
        )
        ready.append(Shared(server, other, model, url))
        started.set()
        await stop.wait()


@contextmanager
def running_system(folder: Path, models: str = "") -> Iterator[Shared]:
    """Runs a system in a thread. In `models`, a models file, `{url}` is the fake model's URL."""
    started, ready = threading.Event(), list[Shared]()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def run(url: str) -> None:
        try:
            loop.run_until_complete(_run(url, folder, models, ready, started, stop))
        finally:
            started.set()
            loop.close()

    with embedded_redis_sync() as url:
        thread = threading.Thread(target=run, args=(url,))
        thread.start()
        started.wait(60)
        try:
            yield ready[0]
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(30)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with running_system(tmp_path_factory.mktemp("shared")) as shared:
        yield shared


@pytest.fixture(scope="session")
def upstreams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """A running system like `shared`, with the models CHAT and HOSTED."""
    with running_system(tmp_path_factory.mktemp("upstreams"), MODELS) as running:
        yield running


@pytest.fixture
async def beside(shared: Shared, tmp_path: Path) -> AsyncIterator[System]:
    """Starts further servers on the shared Redis, for which the shared worker calls the model."""
    async with System(shared.redis_url, tmp_path) as system:
        yield system


@pytest.fixture
async def client(shared: Shared) -> AsyncIterator[AsyncOpenAI]:
    async with sdk(shared.server) as client:
        yield client


@pytest.fixture
async def elsewhere(shared: Shared) -> AsyncIterator[AsyncOpenAI]:
    """Yields a client of the other server in the same system."""
    async with sdk(shared.other) as client:
        yield client


def sdk(server: Server) -> AsyncOpenAI:
    """Returns the official client, configured with only the server's base URL.

    Some tests start a worker while a request waits for its response.
    """
    timeout = 20 + START_SECONDS
    return AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0, timeout=timeout)
