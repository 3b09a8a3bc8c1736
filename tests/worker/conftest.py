"""Fixtures: a fake model, and a harness that submits jobs to the queue and executes them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

import pytest

from jobs.notifications import subscriber
from jobs.queue import Queue
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from tests.fake_model import FakeModel
from tests.worker.continuing import going as going  # noqa: PLC0414 - a fixture, used by its name
from tests.worker.harness import Harness, configured
from worker.append_interval import AppendInterval
from worker.compactor import Compactor
from worker.context import WorkerContext
from worker.outcome import Policy
from worker.rescue import Rescue
from worker.upstream.router import Router
from worker.worker import Worker

MakeHarness: TypeAlias = Callable[..., contextlib.AbstractAsyncContextManager[Harness]]


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel() as model:
        yield model


@pytest.fixture
def make_harness(pipe: Pipe, redis_url: str, model: FakeModel) -> MakeHarness:
    @contextlib.asynccontextmanager
    async def make(**environ: str) -> AsyncIterator[Harness]:
        config = configured(redis_url, model, **environ)
        async with Router(config) as router, Compactor() as compactor:
            policy = Policy(config.shared.max_attempts, first_delay_ms=20)
            queue = Queue(pipe, config.shared)
            interval = AppendInterval(time.monotonic())
            context = WorkerContext(config, pipe, queue, router, policy, compactor, interval)
            yield Harness(context, model)

    return make


@pytest.fixture
async def harness(make_harness: MakeHarness) -> AsyncIterator[Harness]:
    async with make_harness() as harness:
        yield harness


class Running:
    """A worker in the test's own process."""

    def __init__(self, worker: Worker, quiet: asyncio.Event, stop: asyncio.Event) -> None:
        self.worker = worker
        self.quiet = quiet
        self.stop = stop
        self.task: asyncio.Task[None] | None = None


Work: TypeAlias = Callable[[Harness], contextlib.AbstractAsyncContextManager[Running]]


@pytest.fixture
def work(redis: Redis) -> Work:
    @contextlib.asynccontextmanager
    async def work(harness: Harness) -> AsyncIterator[Running]:
        context: WorkerContext = harness.context
        quiet, stop = asyncio.Event(), asyncio.Event()
        partitions = context.config.shared.partitions
        async with (
            subscriber(redis, context.pipe, partitions) as notifications,
            Rescue(context) as rescue,
        ):
            running = Running(Worker(context, notifications, rescue, quiet, stop), quiet, stop)
            running.task = asyncio.create_task(running.worker.run())
            try:
                yield running
            finally:
                quiet.set()
                stop.set()
                await running.task

    return work
