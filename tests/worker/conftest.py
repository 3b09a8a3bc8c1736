"""A model, and a desk in front of the queue."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

import pytest

from jobs.pipe import Pipe
from jobs.queue import Queue
from tests.fake_model import FakeModel
from tests.worker.desk import Desk, configured
from worker.means import Means
from worker.models import Models
from worker.outcome import Policy

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
        async with Models(config) as models:
            policy = Policy(config.terms.max_attempts, first_ms=20)
            queue = Queue(pipe, config.terms)
            means = Means(config, pipe, queue, models, policy, patience=2.0)
            yield Desk(means, model)

    return make


@pytest.fixture
async def desk(make_desk: MakeDesk) -> AsyncIterator[Desk]:
    async with make_desk() as desk:
        yield desk
