"""Tests that no event is lost when subscriptions are killed, overflow or become silent."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from tests.paths.redis_faults import store as stores
from tests.paths.redis_faults.clients import socket_client, streamed
from tests.paths.redis_faults.deployment import deploy, wait_for_baseline
from tests.paths.redis_faults.journeys import SLOW, assert_answers, assert_complete, prompts
from tests.paths.redis_faults.redirecting_proxy import RedirectingProxy
from tests.system import wait_until


async def test_killing_the_subscription_every_100_ms_loses_no_event_of_50_answers(
    tmp_path: Path,
) -> None:
    async with stores.running() as store, deploy(store, tmp_path) as deployment:
        async with (
            socket_client(deployment.server) as client,
            socket_client(deployment.server) as other,
            streamed(deployment.server, SLOW) as stream,
            Pipe(Redis(store.url)) as pipe,
        ):
            answers = [
                await asker.ask(prompt)
                for prompt, asker in zip(prompts(50), [client, other] * 25, strict=True)
            ]
            answers.append(stream)
            killed = 0
            while not all(answer.ended or answer.problem for answer in answers):
                killed += await pipe.call("CLIENT", "KILL", "TYPE", "pubsub")
                await asyncio.sleep(0.1)  # the interval between two kills
            assert killed > 20
            for answer in answers:
                assert_complete(answer, deployment.model)
            await assert_answers(client, deployment.model)
        await wait_for_baseline(deployment)


async def test_an_overflowing_subscription_loses_no_terminal_event(
    tmp_path: Path,
) -> None:
    # The last events of each answer contain its text four times. This exceeds the output buffer of
    # a subscriber, but is still small enough to be sent in a notification.
    options = ("--client-output-buffer-limit", "pubsub 4096 0 0")
    async with stores.running(*options) as store, deploy(store, tmp_path) as deployment:
        async with socket_client(deployment.server) as client:
            # Send only two prompts at a time, because one disconnection affects all answers that
            # end together.
            answers, asked = [], prompts(40, "mode=fast tokens=800")
            for at in range(0, 40, 2):
                some = [await client.ask(prompt) for prompt in asked[at : at + 2]]
                await asyncio.gather(*(answer.wait_for_end(20) for answer in some))
                answers += some
            for answer in answers:
                assert_complete(answer, deployment.model)
            stats = (await store.call("INFO", "stats")).decode()
            [cut] = re.findall(r"client_output_buffer_limit_disconnections:(\d+)", stats)
            print(cut, "cuts")
            assert int(cut) >= 10
        await wait_for_baseline(deployment)


@pytest.mark.heavy
async def test_a_silent_subscription_on_an_open_connection_is_detected_by_its_probe(
    tmp_path: Path,
) -> None:
    async with (
        stores.running(tcp=True) as store,
        RedirectingProxy(store.url) as proxy,
        deploy(store, tmp_path, redis_url=proxy.url) as deployment,
    ):
        one, two = prompts(2, "mode=slow tokens=60 pace=0.03")
        async with (
            socket_client(deployment.server) as client,
            streamed(deployment.server, two) as stream,
        ):
            answers = [await client.ask(one), stream]
            await asyncio.gather(*(answer.wait_for_tokens(10) for answer in answers))
            proxy.mute_subscribers()
            had = [len(answer.events) for answer in answers]
            await wait_until(lambda: not any(call.ended is None for call in deployment.model.calls))
            await asyncio.gather(*(answer.wait_for_end(8) for answer in answers))
            for answer, before in zip(answers, had, strict=True):
                assert_complete(answer, deployment.model)
                assert before < len(answer.events)
            await assert_answers(client, deployment.model)
        await wait_for_baseline(deployment)
