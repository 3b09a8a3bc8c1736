"""Redis that loses what it acknowledged: the loss is reported, or written again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.paths.redis_faults import store as stores
from tests.paths.redis_faults.clients import socket_client, streamed
from tests.paths.redis_faults.deployment import back_to_baseline, deploy
from tests.paths.redis_faults.journeys import assert_whole, calls_of, can_answer, prompts
from tests.system import wait_until

pytestmark = pytest.mark.timeout(60)


async def test_a_redis_that_comes_back_empty_is_said_to_have_lost_what_ran_and_what_waited(
    tmp_path: Path,
) -> None:
    async with (
        stores.running() as store,
        deploy(store, tmp_path, HOLDLINE_CONCURRENCY="1") as deployment,
    ):
        one, two = prompts(2, "mode=slow tokens=400 pace=0.05")
        async with socket_client(deployment.server) as client:
            runs = await client.ask(one)
            await runs.says(5)
            waits = await client.ask(two)
            await wait_until(lambda: waits.events)
            await store.kill()
            store.forget()
            await store.start()
            await asyncio.gather(runs.ends(6), waits.ends(6))
            assert ["response_gone"] * 2 == [runs.code, waits.code]
            [call] = calls_of(deployment.model, one)
            await wait_until(lambda: call.closed_by_client is not None)
            assert [] == calls_of(deployment.model, two)
            await can_answer(client, deployment.model)
        await back_to_baseline(deployment)


async def test_a_flush_is_said_to_have_lost_what_ran_and_what_waited(tmp_path: Path) -> None:
    async with (
        stores.running() as store,
        deploy(store, tmp_path, HOLDLINE_CONCURRENCY="1") as deployment,
    ):
        one, two = prompts(2, "mode=slow tokens=400 pace=0.05")
        async with socket_client(deployment.server) as client:
            runs = await client.ask(one)
            await runs.says(5)
            waits = await client.ask(two)
            await wait_until(lambda: waits.events)
            async with streamed(deployment.server, "a third") as stream:
                await wait_until(lambda: stream.events)
                await store.call("FLUSHALL")
                await asyncio.gather(runs.ends(6), waits.ends(6), stream.ends(6))
            assert ["response_gone"] * 3 == [runs.code, waits.code, stream.code]
            assert not stream.over
            [call] = calls_of(deployment.model, one)
            await wait_until(lambda: call.closed_by_client is not None)
            assert [] == calls_of(deployment.model, two)
            await can_answer(client, deployment.model)
            assert [] == client.degraded
        await back_to_baseline(deployment)


async def test_a_tail_that_redis_lost_is_written_again_by_the_worker_that_has_it(
    tmp_path: Path,
) -> None:
    async with stores.running() as store, deploy(store, tmp_path, workers=2) as deployment:
        async with socket_client(deployment.server) as client:
            answers = [await client.ask(prompt) for prompt in prompts(3)]
            await asyncio.gather(*(answer.says(25) for answer in answers))
            await store.kill()
            store.cut(4000)
            await store.start()
            await asyncio.gather(*(answer.ends() for answer in answers))
            for answer in answers:
                assert_whole(answer, deployment.model)
            await can_answer(client, deployment.model)
        await back_to_baseline(deployment)


async def test_a_tail_that_nobody_has_any_more_is_said_to_be_lost(tmp_path: Path) -> None:
    async with stores.running() as store, deploy(store, tmp_path) as deployment:
        async with socket_client(deployment.server) as client:
            answer = await client.ask(prompts(1)[0])
            await answer.says(25)
            await asyncio.gather(store.kill(), deployment.workers[0].kill())
            store.cut(2000)
            await store.start()
            had = len(answer.events)
            deployment.workers.append(await deployment.system.worker(deployment.model.url))
            await answer.ends()
            assert "response_rolled_back" == answer.code
            assert had == len(answer.events)  # and nothing wrong came before it
            await client.follow_again(answer)
            await answer.ends()
            assert_whole(answer, deployment.model, calls=2)
        await back_to_baseline(deployment)
