"""Tests that writes lost by Redis are either repeated or reported as lost."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from openai import APIError, AsyncOpenAI
from openai.types.responses import ResponseStreamEvent

import holdline_client
from holdline_client import events
from server.api.frames import item_id_of
from tests.node import WEB_TESTS, node_22
from tests.paths.conftest import sdk
from tests.paths.redis_faults import store as stores
from tests.paths.redis_faults.clients import socket_client, streamed
from tests.paths.redis_faults.deployment import Deployment, deploy, wait_for_baseline
from tests.paths.redis_faults.journeys import assert_answers, assert_complete, calls_of, prompts
from tests.system import wait_until


async def test_an_empty_redis_after_a_restart_ends_all_answers_with_response_gone(
    tmp_path: Path,
) -> None:
    async with (
        stores.running() as store,
        deploy(store, tmp_path, HOLDLINE_CONCURRENCY="1") as deployment,
    ):
        one, two = prompts(2, "mode=slow tokens=400 pace=0.05")
        async with socket_client(deployment.server) as client:
            runs = await client.ask(one)
            await runs.wait_for_tokens(5)
            waits = await client.ask(two)
            await wait_until(lambda: waits.events)
            await store.kill()
            store.delete_data()
            await store.start()
            await asyncio.gather(runs.wait_for_end(6), waits.wait_for_end(6))
            assert ["response_gone"] * 2 == [runs.code, waits.code]
            [call] = calls_of(deployment.model, one)
            await wait_until(lambda: call.closed_by_client is not None)
            assert [] == calls_of(deployment.model, two)
            await assert_answers(client, deployment.model)
        await wait_for_baseline(deployment)


async def test_a_flush_ends_all_answers_with_response_gone(tmp_path: Path) -> None:
    async with (
        stores.running() as store,
        deploy(store, tmp_path, HOLDLINE_CONCURRENCY="1") as deployment,
    ):
        one, two = prompts(2, "mode=slow tokens=400 pace=0.05")
        async with socket_client(deployment.server) as client:
            runs = await client.ask(one)
            await runs.wait_for_tokens(5)
            waits = await client.ask(two)
            await wait_until(lambda: waits.events)
            async with streamed(deployment.server, "a third") as stream:
                await wait_until(lambda: stream.events)
                await store.call("FLUSHALL")
                await asyncio.gather(
                    runs.wait_for_end(6), waits.wait_for_end(6), stream.wait_for_end(6)
                )
            assert ["response_gone"] * 3 == [runs.code, waits.code, stream.code]
            assert not stream.over
            [call] = calls_of(deployment.model, one)
            await wait_until(lambda: call.closed_by_client is not None)
            assert [] == calls_of(deployment.model, two)
            await assert_answers(client, deployment.model)
            assert [] == client.degraded
        await wait_for_baseline(deployment)


async def test_a_worker_appends_again_the_events_that_redis_lost(
    tmp_path: Path,
) -> None:
    async with stores.running() as store, deploy(store, tmp_path, workers=2) as deployment:
        async with socket_client(deployment.server) as client:
            answers = [await client.ask(prompt) for prompt in prompts(3)]
            await asyncio.gather(*(answer.wait_for_tokens(25) for answer in answers))
            await store.kill()
            store.truncate(4000)
            await store.start()
            await asyncio.gather(*(answer.wait_for_end() for answer in answers))
            for answer in answers:
                assert_complete(answer, deployment.model)
            await assert_answers(client, deployment.model)
        await wait_for_baseline(deployment)


@pytest.mark.heavy
async def test_events_that_redis_and_the_worker_lost_end_with_response_rolled_back(
    tmp_path: Path,
) -> None:
    async with stores.running() as store, deploy(store, tmp_path) as deployment:
        async with socket_client(deployment.server) as client:
            answer = await client.ask(prompts(1)[0])
            await answer.wait_for_tokens(25)
            await asyncio.gather(store.kill(), deployment.workers[0].kill())
            store.truncate(2000)
            await store.start()
            had = len(answer.events)
            deployment.workers.append(await deployment.system.worker(deployment.model.url))
            await answer.wait_for_end()
            assert "response_rolled_back" == answer.code
            assert had == len(answer.events)  # no wrong event preceded the error
            await client.follow_again(answer)
            await answer.wait_for_end()
            assert_complete(answer, deployment.model, calls=2)
        await wait_for_baseline(deployment)


@pytest.mark.heavy
# The timeout is long, because the test starts several processes twice.
@pytest.mark.timeout(120)
@pytest.mark.skipif(node_22() is None, reason="Node 22 is not installed: make check installs it")
async def test_a_log_that_was_rolled_back_and_regrew_past_the_cursor_is_never_spliced(
    tmp_path: Path,
) -> None:
    """Holdline's clients end up with only the text of the second attempt.

    The official SDK sends only a sequence number. Its user can recognize the second attempt's
    events by their item ids, and the last event contains the complete response.
    """
    async with (
        stores.running() as store,
        # The lease is long, so that a suspended worker keeps its claims.
        deploy(store, tmp_path, HOLDLINE_LEASE_SECONDS="60") as deployment,
    ):
        model, server, [worker] = deployment.model, deployment.server, deployment.workers
        async with holdline_client.connect(server.url) as client, sdk(server) as official:
            asked = prompts(3)
            worker.signal(signal.SIGSTOP)
            answer = client.ask(asked[0])
            showing = asyncio.create_task(texts_by_attempt(answer))
            node = await asyncio.create_subprocess_exec(
                str(node_22()),
                *(str(WEB_TESTS / "alone.mjs"), f"{server.url}/v1/responses", asked[1]),
                stdout=subprocess.PIPE,
            )
            plain = await official.responses.create(input=asked[2], model="m", background=True)

            async def three_are_open() -> bool:
                return bool(await store.call("ZCARD", stores.NAMES.open) >= 3)

            await wait_until(three_are_open)
            snapshot = await store.snapshot()
            worker.signal(signal.SIGCONT)
            seen = await follow(official, plain.id, most=15)
            await crash_and_roll_back(deployment, snapshot, asked)
            had = answer.last
            await wait_until(lambda: answer.last != had)
            rest = asyncio.create_task(follow(official, plain.id, starting_after=len(seen) - 1))
            deployment.workers[0].signal(signal.SIGCONT)
            first = calls_of(model, asked[0])[0].sent

            dead, whole = await showing
            second = [calls_of(model, prompt)[1].sent for prompt in asked]
            assert dead
            assert first.startswith(dead)
            assert (second[0], True) == (whole, answer.verified)
            output, _ = await asyncio.wait_for(node.communicate(), 20)
            told: dict[str, Any] = json.loads(output)
            assert (second[1], "completed", True) == (
                told["text"],
                told["status"],
                told["verified"],
            )
            more = await rest
            assert not items_of(seen) & items_of(more)
            assert "response.completed" == more[-1].type
            assert second[2] == more[-1].response.output_text
            with pytest.raises(APIError) as rolled_back:
                [item] = items_of(seen)
                await follow(
                    official,
                    plain.id,
                    starting_after=len(seen) - 1,
                    extra_query={"item_id": item},
                )
            assert "response_rolled_back" == rolled_back.value.code


async def texts_by_attempt(answer: holdline_client.Answer) -> list[str]:
    """Returns the text of each attempt that a caller received."""
    texts = [""]
    async for event in answer.events():
        match event:
            case events.TextDelta(text):
                texts[-1] += text
            case events.Restarted():
                texts.append("")
            case _:
                pass
    return texts


async def crash_and_roll_back(
    deployment: Deployment, snapshot: stores.Snapshot, asked: list[str]
) -> None:
    """Kills the server and the worker mid-answer, and restarts both after a rollback of Redis.

    When the server restarts, each answer's second attempt is already longer than its first one, and
    the worker of the second attempts is suspended.
    """
    model, server, store = deployment.model, deployment.server, deployment.store

    def said(number: int, prompt: str) -> int:
        calls = calls_of(model, prompt)
        return len(calls[number].sent.split()) if len(calls) > number else 0

    await wait_until(lambda: all(said(0, prompt) > 15 for prompt in asked))
    await asyncio.gather(*(process.kill() for process in deployment.processes))
    await store.restore(snapshot)
    deployment.workers = [await deployment.system.worker(model.url)]
    await wait_until(lambda: all(said(1, prompt) > said(0, prompt) + 5 for prompt in asked))
    deployment.workers[0].signal(signal.SIGSTOP)
    port = server.url.rpartition(":")[2]
    deployment.server = await deployment.system.server(HOLDLINE_PORT=port)


async def follow(
    client: AsyncOpenAI, response_id: str, most: int = 1000, **query: Any
) -> list[ResponseStreamEvent]:
    """Follows a response and returns its events up to its end, but no more than `most`."""
    found = []
    async with await client.responses.retrieve(response_id, stream=True, **query) as stream:
        async for event in stream:
            found.append(event)
            if len(found) == most:
                break
    return found


def items_of(some: list[ResponseStreamEvent]) -> set[str]:
    """Returns the item ids of the events."""
    return {item for event in some if (item := item_id_of(event.to_dict()))}
