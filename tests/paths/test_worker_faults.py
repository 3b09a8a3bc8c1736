"""Tests that an answer arrives once and complete even if workers die, pause, hang or stop."""

from __future__ import annotations

import asyncio
import re
import resource
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from openai import AsyncOpenAI

from jobs.ids import new_response_id
from jobs.log.codec import decode_event
from jobs.log.log import read_all
from jobs.names import Partition
from jobs.redis.pipe import Pipe
from tests.fake_model import FakeModel
from tests.paths.conftest import sdk
from tests.system import System, wait_until

# The timeout is long: each test starts up to seven processes, each of which needs seconds on shared
# cores.
pytestmark = pytest.mark.timeout(120)
RESTARTED = "holdline:restarted"
SLOW = "mode=slow tokens=60 pace=0.03"


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel() as model:
        yield model


@pytest.fixture
async def ask(system: System) -> AsyncIterator[AsyncOpenAI]:
    async with sdk(await system.server()) as client:
        yield client


async def events_until_end(client: AsyncOpenAI, response_id: str) -> list[Any]:
    """Streams all events of a response until its end."""
    return [event async for event in await client.responses.retrieve(response_id, stream=True)]


def kinds(events: list[Any], *wanted: str) -> list[str]:
    return [event.type for event in events if event.type in wanted]


def calls_in(text: str) -> set[str]:
    """Returns the call numbers of the fake model that appear in a text's tokens."""
    return set(re.findall(r"c(\d+)t\d+", text))


def text_since_restart(events: list[Any]) -> str:
    last = max(i for i, e in enumerate(events) if e.type in ("response.created", RESTARTED))
    said: list[str] = [e.delta for e in events[last:] if e.type == "response.output_text.delta"]
    return "".join(said)


async def start(
    client: AsyncOpenAI, model: FakeModel, prompt: str = SLOW, tokens: int = 5, **more: Any
) -> str:
    """Starts a response and waits until the model has sent some tokens. Returns its id."""
    response = await client.responses.create(input=prompt, model="m", background=True, **more)
    await wait_until(lambda: model.calls and len(model.calls[-1].sent.split()) >= tokens)
    return str(response.id)


@pytest.mark.heavy
async def test_after_a_worker_is_killed_before_the_first_token_the_answer_restarts(
    system: System, model: FakeModel, ask: AsyncOpenAI
) -> None:
    worker = await system.worker(model.url)
    response = await ask.responses.create(input="mode=silent times=1", model="m", background=True)
    await wait_until(lambda: model.calls)
    await worker.kill()
    await system.worker(model.url)
    events = await events_until_end(ask, response.id)
    assert [RESTARTED] == kinds(events, RESTARTED)
    assert "response.completed" == events[-1].type
    assert 2 == len(model.calls)


async def test_after_a_worker_is_killed_in_mid_answer_the_restart_is_announced_and_never_spliced(
    system: System, model: FakeModel, ask: AsyncOpenAI
) -> None:
    worker = await system.worker(model.url)
    id_ = await start(ask, model)
    await worker.kill()
    await system.worker(model.url)
    events = await events_until_end(ask, id_)
    assert "response.completed" == events[-1].type
    assert list(range(len(events))) == [event.sequence_number for event in events]
    assert [RESTARTED] == kinds(events, RESTARTED)
    assert {"2"} == calls_in(events[-1].response.output_text)
    assert events[-1].response.output_text == text_since_restart(events)
    assert 2 == len(model.calls)


@pytest.mark.heavy
async def test_a_resumed_worker_that_lost_its_lease_writes_nothing_and_closes_its_call(
    system: System, model: FakeModel, ask: AsyncOpenAI
) -> None:
    paused = await system.worker(model.url)
    # The first call never ends, so it is still open however long the second worker takes to start.
    id_ = await start(ask, model, "mode=hang tokens=150 at=150 pace=0.03 times=1")
    paused.signal(signal.SIGSTOP)
    await system.worker(model.url)
    await wait_until(lambda: len(model.calls) == 2 and len(model.calls[1].sent.split()) > 5)
    paused.signal(signal.SIGCONT)
    await wait_until(lambda: model.calls[0].closed_by_client is not None)
    events = await events_until_end(ask, id_)
    after = [e.type for e in events].index(RESTARTED)
    late = "".join(e.delta for e in events[after:] if e.type == "response.output_text.delta")
    assert {"2"} == calls_in(late)
    assert {"2"} == calls_in(events[-1].response.output_text)
    assert 2 == len(model.calls)


@pytest.mark.heavy
async def test_a_job_longer_than_many_leases_runs_once(
    system: System, model: FakeModel, ask: AsyncOpenAI
) -> None:
    lease = {"HOLDLINE_LEASE_SECONDS": "0.6"}
    await asyncio.gather(system.worker(model.url, **lease), system.worker(model.url, **lease))
    # This answer lasts as long as ten leases.
    id_ = await start(ask, model, "mode=slow tokens=130 pace=0.05")
    events = await events_until_end(ask, id_)
    assert "response.completed" == events[-1].type
    assert [] == kinds(events, RESTARTED)
    assert 1 == len(model.calls)


@pytest.mark.heavy
async def test_a_worker_death_can_fail_the_response_and_keeps_its_text(
    system: System, model: FakeModel, ask: AsyncOpenAI
) -> None:
    worker = await system.worker(model.url)
    id_ = await start(ask, model, metadata={"holdline_on_worker_death": "fail"})
    await worker.kill()
    await system.worker(model.url)
    events = await events_until_end(ask, id_)
    end = events[-1].response
    assert ("response.failed", "failed") == (events[-1].type, end.status)
    assert ("server_error", "worker_lost") == (end.error.code, end.holdline["error_code"])
    assert {"1"} == calls_in(end.output_text)
    assert 1 == len(model.calls)


@pytest.mark.heavy
async def test_a_job_that_kills_its_workers_fails_and_moves_to_the_dead_list(
    system: System, model: FakeModel, ask: AsyncOpenAI, pipe: Pipe
) -> None:
    system.environ |= {"HOLDLINE_LEASE_SECONDS": "0.3", "HOLDLINE_MAX_ATTEMPTS": "2"}
    response = await ask.responses.create(input="mode=hang tokens=8", model="m", background=True)
    for turn in (1, 2):
        worker = await system.worker(model.url)
        await wait_until(lambda turn=turn: len(model.calls) == turn)  # type: ignore[misc]
        await worker.kill()
    await system.worker(model.url)
    other = await ask.responses.create(input="tokens=2", model="m")
    assert "completed" == other.status
    events = await events_until_end(ask, response.id)
    assert "worker_lost" == events[-1].response.holdline["error_code"]
    assert 2 == len([call for call in model.calls if "hang" in call.prompt])
    assert [response.id.encode()] == await pipe.call("LRANGE", Partition(0).dead, 0, -1)

    asked = system.run("dead", "again", response.id)
    again = re.findall(r"resp_\w+", await asked)[-1]
    assert response.id != again
    assert "0 entries in the dead list" in await system.run("dead", "list")
    assert "cancelled" == (await ask.responses.cancel(again)).status


async def test_an_undecodable_job_moves_to_the_dead_list_and_the_worker_continues(
    system: System, model: FakeModel, ask: AsyncOpenAI, pipe: Pipe
) -> None:
    names = Partition(0)
    stranger = new_response_id(0)
    waiting = await ask.responses.create(input="tokens=2", model="m", background=True)
    await pipe.call("HSET", names.job(waiting.id), "job", msgpack.packb([1, "damaged"]))
    await pipe.call("LPUSH", names.waiting_prefix + "public", b"\x00garbage", stranger)
    await system.worker(model.url)
    events = await events_until_end(ask, waiting.id)
    assert "undecodable" == events[-1].response.holdline["error_code"]
    assert "completed" == (await ask.responses.create(input="tokens=2", model="m")).status
    dead = await pipe.call("LRANGE", names.dead, 0, -1)
    assert {b"\x00garbage", waiting.id.encode()} == set(dead)
    assert 1 == len(model.calls)


async def test_sigterm_lets_running_answers_finish(
    system: System, model: FakeModel, ask: AsyncOpenAI
) -> None:
    worker = await system.worker(model.url)
    id_ = await start(ask, model, "mode=slow tokens=40 pace=0.02")
    worker.signal(signal.SIGTERM)
    assert 0 == await worker.wait()
    events = await events_until_end(ask, id_)
    assert "response.completed" == events[-1].type
    assert 1 == len(model.calls)


@pytest.mark.heavy
async def test_after_the_grace_period_sigterm_returns_unfinished_jobs_to_the_queue(
    system: System, model: FakeModel, ask: AsyncOpenAI
) -> None:
    system.environ |= {"HOLDLINE_SHUTDOWN_GRACE_SECONDS": "0.2", "HOLDLINE_LEASE_SECONDS": "30"}
    worker = await system.worker(model.url)
    # The first call never ends, so it is unfinished however long the second worker takes to start.
    id_ = await start(ask, model, "mode=hang times=1")
    await system.worker(model.url)
    asked = time.monotonic()
    worker.signal(signal.SIGTERM)
    await wait_until(lambda: len(model.calls) == 2)
    assert time.monotonic() - asked < 3  # the takeover did not wait for the 30 s lease to expire
    assert 0 == await worker.wait()
    events = await events_until_end(ask, id_)
    assert "response.completed" == events[-1].type
    assert {"2"} == calls_in(events[-1].response.output_text)


async def test_a_cancel_closes_the_connection_of_a_silent_model_within_250_ms(
    system: System, model: FakeModel, ask: AsyncOpenAI
) -> None:
    await system.worker(model.url, HOLDLINE_LEASE_SECONDS="30")
    response = await ask.responses.create(input="mode=silent", model="m", background=True)
    await wait_until(lambda: model.calls)
    asked = time.monotonic()
    assert "cancelled" == (await ask.responses.cancel(response.id)).status
    await wait_until(lambda: model.calls[0].closed_by_client is not None)
    closed = model.calls[0].closed_by_client
    assert closed is not None
    assert closed - asked < 0.25


async def test_the_log_has_one_attempt_per_model_call(
    system: System, model: FakeModel, ask: AsyncOpenAI, pipe: Pipe
) -> None:
    await system.worker(model.url)
    response = await ask.responses.create(
        input="mode=eof times=2", model="m", extra_body={"idempotency_key": "k"}
    )
    view = await read_all(pipe, response.id)
    told = [decode_event(entry)["type"] for entry in view.entries]
    attempts = told.count("response.in_progress") + told.count(RESTARTED)
    assert (3, 3) == (attempts, len(model.calls))
    assert 1 == sum(kind in ("response.completed", "response.failed") for kind in told)


@pytest.mark.heavy
async def test_a_worker_without_free_file_descriptors_returns_jobs_and_fails_none(
    system: System, ask: AsyncOpenAI, model: FakeModel
) -> None:
    worker = await system.worker(model.url, HOLDLINE_CONCURRENCY="40")
    taken = len(list(Path(f"/proc/{worker.popen.pid}/fd").iterdir()))
    _, most = resource.prlimit(worker.popen.pid, resource.RLIMIT_NOFILE)
    # Leave file descriptors for six model calls.
    resource.prlimit(worker.popen.pid, resource.RLIMIT_NOFILE, (taken + 6, most))
    prompt = "mode=slow tokens=10 pace=0.03"
    async with asyncio.TaskGroup() as group:
        made = [
            group.create_task(ask.responses.create(input=prompt, model="m", background=True))
            for _ in range(12)
        ]
    ended = [await events_until_end(ask, task.result().id) for task in made]
    assert ["response.completed"] * 12 == [events[-1].type for events in ended]
    assert "job claims paused: no free file descriptors or memory" in worker.output
    # The calls that failed for lack of file descriptors were not reported as provider failures.
    assert "upstream_unavailable" not in worker.output
    assert 12 == len(model.calls)
