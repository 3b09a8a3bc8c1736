"""Tests that answers continue after Redis was killed, stopped or full, or lost its scripts."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest

from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from tests.paths.redis_faults import store as stores
from tests.paths.redis_faults.clients import rejected_prompt, socket_client, streamed
from tests.paths.redis_faults.deployment import cpu_seconds, deploy, wait_for_baseline
from tests.paths.redis_faults.journeys import assert_answers, assert_complete, prompts
from tests.system import START_SECONDS, Process, System, wait_until


async def test_answers_continue_after_redis_is_killed_and_restarted_with_its_data(
    tmp_path: Path,
) -> None:
    async with stores.running() as store, deploy(store, tmp_path, workers=2) as deployment:
        one, two, three = prompts(3)
        async with (
            socket_client(deployment.server) as client,
            streamed(deployment.server, three) as stream,
        ):
            answers = [await client.ask(one), await client.ask(two), stream]
            await asyncio.gather(*(answer.wait_for_tokens(10) for answer in answers))
            await store.kill()
            await client.wait_for_degraded(True)
            await asyncio.sleep(1.5)  # wait for longer than a lease
            await store.start()
            await client.wait_for_degraded(False)
            await asyncio.gather(*(answer.wait_for_end() for answer in answers))
            for answer in answers:
                assert_complete(answer, deployment.model)
            await wait_until(lambda: stream.over)
            await assert_answers(client, deployment.model)
            assert [True, False] == [degraded for _, degraded in client.degraded]
        await wait_for_baseline(deployment)


@pytest.mark.heavy
async def test_answers_continue_when_a_full_redis_has_room_again(
    tmp_path: Path,
) -> None:
    async with stores.running() as store, deploy(store, tmp_path, workers=2) as deployment:
        one, two = prompts(2)
        async with (
            socket_client(deployment.server) as client,
            streamed(deployment.server, two) as stream,
        ):
            answers = [await client.ask(one), stream]
            await asyncio.gather(*(answer.wait_for_tokens(10) for answer in answers))
            await store.call("CONFIG", "SET", "maxmemory", 1)
            full = asyncio.create_task(asyncio.sleep(2))  # longer than a lease
            assert (503, "5") == await rejected_prompt(deployment.server)
            meanwhile = await client.ask("meanwhile")
            await meanwhile.wait_for_end()
            assert "storage_full" == meanwhile.code
            await full
            said = [answer.text for answer in answers]
            await store.call("CONFIG", "SET", "maxmemory", 0)
            await asyncio.gather(*(answer.wait_for_end() for answer in answers))
            for answer, before in zip(answers, said, strict=True):
                assert_complete(answer, deployment.model)
                assert len(before) < len(answer.text)
            await assert_answers(client, deployment.model)
        await wait_for_baseline(deployment)


@pytest.mark.heavy
async def test_answers_continue_after_redis_is_stopped_for_12_seconds(tmp_path: Path) -> None:
    async with stores.running() as store, deploy(store, tmp_path, workers=2) as deployment:
        one, two = prompts(2)
        async with (
            socket_client(deployment.server) as client,
            streamed(deployment.server, two) as stream,
        ):
            answers = [await client.ask(one), stream]
            await asyncio.gather(*(answer.wait_for_tokens(10) for answer in answers))
            store.signal(signal.SIGSTOP)
            stopped = time.monotonic()
            try:
                await asyncio.sleep(12)  # the duration of the outage in seconds
            finally:
                store.signal(signal.SIGCONT)
            assert [True] == [degraded for _, degraded in client.degraded]
            # Once a second, the server checks whether a subscriber's last probe is more than 5 s
            # old.
            assert client.degraded[0][0] - stopped < 6.5
            await client.wait_for_degraded(False)
            await asyncio.gather(*(answer.wait_for_end() for answer in answers))
            for answer in answers:
                assert_complete(answer, deployment.model)
            await assert_answers(client, deployment.model)
            assert [True, False] == [degraded for _, degraded in client.degraded]
        await wait_for_baseline(deployment)


@pytest.mark.heavy
@pytest.mark.timeout(180)
@pytest.mark.parametrize("away", [8.0, 60.0])
async def test_a_long_redis_outage_uses_little_cpu_and_closes_no_socket(
    tmp_path: Path, away: float
) -> None:
    async with stores.running() as store, deploy(store, tmp_path, workers=2) as deployment:
        [prompt] = prompts(1, f"mode=slow tokens={2 * away + 10:.0f} pace=0.5")
        async with socket_client(deployment.server) as client:
            answer = await client.ask(prompt)
            await answer.wait_for_tokens(3)
            await store.kill()
            before = [cpu_seconds(process) for process in deployment.processes]
            await asyncio.sleep(away)
            spent = [cpu_seconds(process) for process in deployment.processes]
            shares = [(now - then) / away for now, then in zip(spent, before, strict=True)]
            print("CPU of server, worker, worker:", shares)
            assert max(shares) < 0.05
            await store.start()
            await client.wait_for_degraded(False)
            await answer.wait_for_end(30)
            assert_complete(answer, deployment.model)
            await assert_answers(client, deployment.model)
        await wait_for_baseline(deployment)


@pytest.mark.heavy
async def test_answers_are_complete_although_scripts_are_flushed_repeatedly(
    tmp_path: Path,
) -> None:
    async with stores.running() as store, deploy(store, tmp_path) as deployment:
        async with socket_client(deployment.server) as client, Pipe(Redis(store.url)) as pipe:
            answers = []
            for prompt in prompts(20, "mode=slow tokens=40 pace=0.05"):
                await pipe.call("SCRIPT", "FLUSH")
                answers.append(await client.ask(prompt))
            while not all(answer.ended or answer.problem for answer in answers):
                await pipe.call("SCRIPT", "FLUSH")
                await asyncio.sleep(0.05)  # the interval between two flushes
            for answer in answers:
                assert_complete(answer, deployment.model)
        await wait_for_baseline(deployment)


async def test_server_and_worker_refuse_to_start_on_a_redis_that_evicts_keys(
    tmp_path: Path,
) -> None:
    async with (
        stores.running("--maxmemory-policy", "allkeys-lru") as store,
        System(store.url, tmp_path) as system,
    ):
        started = [
            system._start(Process, "server", {"HOLDLINE_PORT": "0"}),
            system._start(Process, "worker", {}),
        ]
        assert [1, 1] == [await process.wait(START_SECONDS) for process in started]
        for process in started:
            assert "maxmemory-policy is allkeys-lru" in process.output
            assert "CONFIG SET maxmemory-policy noeviction" in process.output
