"""A model, and a desk in front of the queue."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

import pytest

from jobs.names import Partition
from jobs.queue import Queue
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from jobs.redis.subscriber import Subscriber
from tests.fake_model import FakeModel
from tests.worker.harness import Desk, configured
from worker.compactor import Compactor
from worker.context import WorkerContext
from worker.outcome import Policy
from worker.rescue import Rescue
from worker.upstream.router import Router
from worker.worker import Worker

MakeDesk: TypeAlias = Callable[..., contextlib.AbstractAsyncContextManager[Desk]]


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel() as model:
        yield model


@pytest.fixture
def make_desk(pipe: Pipe, redis_url: str, model: FakeModel) -> MakeDesk:
    @contextlib.asynccontextmanager
    async def make(**environ: str) -> AsyncIterator[Desk]:
        config = configured(redis_url, model, **environ)
        async with Router(config) as models, Compactor() as sealer:
            policy = Policy(config.terms.max_attempts, first_ms=20)
            queue = Queue(pipe, config.terms)
            means = WorkerContext(config, pipe, queue, models, policy, sealer, patience=2.0)
            yield Desk(means, model)

    return make


@pytest.fixture
async def desk(make_desk: MakeDesk) -> AsyncIterator[Desk]:
    async with make_desk() as desk:
        yield desk


class Running:
    """A worker in this process."""

    def __init__(self, worker: Worker, quiet: asyncio.Event, stop: asyncio.Event) -> None:
        self.worker = worker
        self.quiet = quiet
        self.stop = stop
        self.task: asyncio.Task[None] | None = None


Work: TypeAlias = Callable[[Desk], contextlib.AbstractAsyncContextManager[Running]]


@pytest.fixture
def work(redis: Redis) -> Work:
    @contextlib.asynccontextmanager
    async def work(desk: Desk) -> AsyncIterator[Running]:
        means: WorkerContext = desk.means
        quiet, stop = asyncio.Event(), asyncio.Event()
        bell = Subscriber(
            redis,
            probe=Partition(0).probe("test"),
            publish=lambda channel, message: means.pipe.call("PUBLISH", channel, message),
        )
        async with Pipe(redis, deadline=4) as waiting, bell, Rescue(means) as rescue:
            running = Running(Worker(means, waiting, bell, rescue, quiet, stop), quiet, stop)
            running.task = asyncio.create_task(running.worker.run())
            try:
                yield running
            finally:
                quiet.set()
                stop.set()
                await running.task

    return work
