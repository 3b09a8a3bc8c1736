"""Tests that answers pause while Redis rejects commands, and continue with the same model call."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from tests.paths.redis_faults import store as stores
from tests.paths.redis_faults.clients import rejected_prompt, socket_client, streamed
from tests.paths.redis_faults.deployment import Deployment, deploy, wait_for_baseline
from tests.paths.redis_faults.journeys import assert_answers, assert_complete, prompts
from tests.system import wait_until

# Longer than several leases, so answers would restart if a rescue ran before the first renewals.
TROUBLE_SECONDS = 3.0

Trouble: TypeAlias = Callable[[Pipe], contextlib.AbstractAsyncContextManager[None]]


@contextlib.asynccontextmanager
async def too_few_replicas(control: Pipe) -> AsyncIterator[None]:
    """Makes all writes fail with NOREPLICAS."""
    await control.call("CONFIG", "SET", "min-replicas-to-write", "1")
    yield
    await control.call("CONFIG", "SET", "min-replicas-to-write", "0")


@contextlib.asynccontextmanager
async def failed_snapshot(control: Pipe) -> AsyncIterator[None]:
    """Makes all writes fail with MISCONF, by a folder at the path of the snapshot file."""
    _, folder = await control.call("CONFIG", "GET", "dir")
    _, name = await control.call("CONFIG", "GET", "dbfilename")
    file = Path(folder.decode()) / name.decode()
    file.unlink(missing_ok=True)
    file.mkdir()
    await control.call("CONFIG", "SET", "save", "3600 1000000")
    await save(control, b"err")
    yield
    file.rmdir()
    await save(control, b"ok")


async def save(control: Pipe, status: bytes) -> None:
    """Takes snapshots until one ends with the given status."""

    async def saved() -> bool:
        with contextlib.suppress(Exception):  # another snapshot is already running
            await control.call("BGSAVE")
        return b"rdb_last_bgsave_status:" + status in await control.call("INFO", "persistence")

    await wait_until(saved)


@contextlib.asynccontextmanager
async def long_script(control: Pipe) -> AsyncIterator[None]:
    """Makes all commands fail with BUSY."""
    await control.call("CONFIG", "SET", "busy-reply-threshold", "10")
    loop = "local over = os.clock() + ARGV[1] while os.clock() < over do end"
    running = asyncio.create_task(control.call("EVAL", loop, 0, str(TROUBLE_SECONDS)))
    yield
    await running


@contextlib.asynccontextmanager
async def no_free_connection(control: Pipe) -> AsyncIterator[None]:
    """Closes all connections and makes new ones fail with `ERR max number of clients reached`."""
    _, most = await control.call("CONFIG", "GET", "maxclients")
    await control.call("CONFIG", "SET", "maxclients", "1")
    await control.call("CLIENT", "KILL", "TYPE", "pubsub")
    await control.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    yield
    await control.call("CONFIG", "SET", "maxclients", most)


TROUBLES = (
    failed_snapshot,
    *(
        pytest.param(one, marks=pytest.mark.heavy)
        for one in (too_few_replicas, long_script, no_free_connection)
    ),
)


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_answers_pause_while_redis_rejects_commands_and_need_one_model_call(
    tmp_path: Path, trouble: Trouble
) -> None:
    async with (
        stores.running() as store,
        Pipe(Redis(store.url), deadline=20) as control,
        deploy(store, tmp_path, workers=2) as deployment,
    ):
        one, two = prompts(2)
        async with (
            socket_client(deployment.server) as client,
            streamed(deployment.server, two) as stream,
        ):
            answers = [await client.ask(one), stream]
            await asyncio.gather(*(answer.wait_for_tokens(10, 20) for answer in answers))
            async with trouble(control):
                passed = asyncio.create_task(asyncio.sleep(TROUBLE_SECONDS))
                if trouble is too_few_replicas:
                    assert (503, "2") == await rejected_prompt(deployment.server)
                await passed
            await asyncio.gather(*(answer.wait_for_end(20) for answer in answers))
            for answer in answers:
                assert_complete(answer, deployment.model)
            await assert_answers(client, deployment.model)
        assert_no_restart(deployment)
        await wait_for_baseline(deployment)


def assert_no_restart(deployment: Deployment) -> None:
    """Asserts that no worker has abandoned, lost or rescued a job."""
    output = "".join(worker.output for worker in deployment.workers)
    for line in ("job abandoned", "lease lost", "rescued", "Redis lost entries"):
        assert line not in output


@pytest.mark.heavy
async def test_a_job_is_abandoned_after_the_configured_retry_time(tmp_path: Path) -> None:
    async with (
        stores.running() as store,
        Pipe(Redis(store.url), deadline=20) as control,
        deploy(store, tmp_path, HOLDLINE_REDIS_RETRY_SECONDS="1") as deployment,
    ):
        [prompt] = prompts(1)
        async with socket_client(deployment.server) as client:
            answer = await client.ask(prompt)
            await answer.wait_for_tokens(10, 20)
            [worker] = deployment.workers
            async with too_few_replicas(control):
                await wait_until(lambda: "job abandoned: Redis unavailable" in worker.output)
            await answer.wait_for_end(20)
            assert_complete(answer, deployment.model, calls=2)
        await wait_for_baseline(deployment)
