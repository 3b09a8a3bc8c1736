"""Shared fixtures: a real Redis, emptied before each test and checked for leaks after it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import settings

from command.up.redis import embedded_redis_sync
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from tests.keys_without_ttl import keys_without_ttl
from tests.system import System

# Hypothesis has no deadline here, because an example's duration depends on the machine's load, and
# each test has a timeout anyway.
settings.register_profile("house", deadline=None)
settings.register_profile("few", deadline=None, max_examples=20)
settings.load_profile("house")


SLOW = (
    "test_chaos",
    "test_redis_",
    "test_worker_faults",
    "test_server_faults",
    "test_widget",
    "test_review",
)
# The folders whose tests start processes and browsers. A file takes up to minutes, and one of the
# other folders seconds.
END_TO_END = (
    "attacks",
    "bench",
    "deploy",
    "dev",
    "frontends",
    "paths",
    "programs",
    "proxies",
    "torture",
)


@pytest.fixture(scope="session")
def _server_url() -> Iterator[str]:
    with embedded_redis_sync() as url:
        yield url


@pytest.fixture
async def redis_url(_server_url: str) -> AsyncIterator[str]:
    """Returns the URL of an empty Redis. Each key that a test leaves in it must have a TTL."""
    async with Pipe(Redis(_server_url)) as pipe:
        await pipe.call("FLUSHALL")
    yield _server_url
    async with Pipe(Redis(_server_url)) as pipe:
        assert [] == await keys_without_ttl(pipe)


@pytest.fixture
def redis(redis_url: str) -> Redis:
    return Redis(redis_url)


@pytest.fixture
async def pipe(redis: Redis) -> AsyncIterator[Pipe]:
    async with Pipe(redis) as pipe:
        yield pipe


@pytest.fixture
async def system(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """Starts real server and worker processes on the test's Redis and ends them after the test."""
    async with System(redis_url, tmp_path_factory.mktemp("system")) as system:
        yield system


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """Starts processes that all tests of a file share, on a Redis of their own.

    Tests that use it run in the file's event loop: see `in_module_loop`.
    """
    with embedded_redis_sync() as url:
        async with System(url, tmp_path_factory.mktemp("system")) as system:
            yield system
            async with Pipe(Redis(url)) as pipe:
                assert [] == await keys_without_ttl(pipe)


@pytest.fixture(autouse=True)
async def _no_leaked_tasks() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)
    leaked = {task for task in asyncio.all_tasks() - before if not task.done()}
    leaked.discard(asyncio.current_task())
    assert set() == leaked


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs the slowest files first, so that the run does not end with one worker still busy."""

    def place(item: pytest.Item) -> tuple[bool, bool]:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        return not item.path.name.startswith(SLOW), folder not in END_TO_END

    items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turns a skipped test into a failure in CI, where every test must run."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report
