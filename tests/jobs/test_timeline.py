"""Tests the timeline of a response, on a real Redis."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from dataclasses import replace

import pytest

from jobs.cipher import Cipher
from jobs.deliveries import Deliveries
from jobs.errors import UnknownResponse
from jobs.ids import new_response_id
from jobs.log.codec import encode_event
from jobs.log.events import begins, restarted
from jobs.log.log import LogWriter
from jobs.queue import Queue
from jobs.record import Status
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from jobs.replies import Grant
from jobs.timeline import Step, StepKind, Timeline
from jobs.timeline_reader import read_timeline
from jobs.worker_registry import RunningRecord, WorkerRecord, WorkerRegistry, WorkerState
from tests.jobs.factories import (
    NAMES,
    SETTINGS,
    a_job,
    ending,
    fall_due,
    new_claim,
    opening,
    run_out,
    submitted,
)

Kinds = list[tuple[str, int, str, str]]


async def claim(queue: Queue, worker: str) -> Grant:
    [grant] = await queue.leases.claim(0, new_claim(), 1, worker=worker)
    return grant


def kinds(found: Timeline) -> Kinds:
    return [(str(step.kind), step.attempt, step.worker, step.code) for step in found.steps]


def only(found: Timeline, kind: StepKind) -> Step:
    [step] = [step for step in found.steps if step.kind is kind]
    return step


START: Kinds = [("submitted", 0, "", ""), ("queued", 0, "", "default tier")]


async def test_each_transition_is_a_dated_step_with_its_attempt_worker_and_reason(
    pipe: Pipe, queue: Queue
) -> None:
    job = await submitted(queue, "acme/anna")
    assert START == kinds(await read_timeline(pipe, job.id))

    one = await claim(queue, "w1")
    await queue.leases.retry(job.id, one.claim, 1_500, "upstream_busy", http_status=429)
    await fall_due(pipe, job.id)
    two = await claim(queue, "w2")
    await queue.leases.give_back(job.id, two.claim, "draining")
    await claim(queue, "w3")
    await run_out(pipe, job.id)
    await queue.leases.rescue(0, new_claim())
    last = await claim(queue, "w1")
    assert not await queue.cancel(job.id, 2, [])
    assert not await queue.cancel(job.id, 2, [])
    writer = LogWriter(pipe, job.id, last.claim, 2)
    end = ending(job, Status.FAILED, cause="upstream_timeout")
    for _ in range(2):  # a repeated end adds no step
        writer.length = 2
        await writer.finish(
            Status.FAILED, [encode_event(end)], retention_ms=60_000, http_status=504
        )

    found = await read_timeline(pipe, job.id)

    assert [
        *START,
        ("claimed", 1, "w1", ""),
        ("http_error", 1, "w1", "429"),
        ("delayed", 1, "w1", "upstream_busy"),
        ("claimed", 2, "w2", ""),
        ("given_back", 2, "w2", "draining"),
        ("claimed", 3, "w3", ""),
        ("worker_lost", 3, "w3", ""),
        ("claimed", 4, "w1", ""),
        ("cancel_asked", 4, "w1", ""),
        ("http_error", 4, "w1", "504"),
        ("ended", 4, "", "failed: upstream_timeout"),
    ] == kinds(found)
    assert ("failed", "acme", 4, 2, True) == (
        found.status,
        found.tenant,
        found.attempts,
        found.failures,
        found.complete,
    )
    assert 1_500 == only(found, StepKind.DELAYED).wait_ms
    assert [step.at for step in found.steps] == sorted(step.at for step in found.steps)
    assert all(step.since_ms == step.at - found.steps[0].at for step in found.steps)


async def test_a_restart_has_the_reason_in_the_log_and_the_time_of_its_attempt(
    pipe: Pipe, queue: Queue
) -> None:
    job = await submitted(queue)
    one = await claim(queue, "w1")
    await LogWriter(pipe, job.id, one.claim, 2).append([encode_event(begins(job))])
    await run_out(pipe, job.id)
    await queue.leases.rescue(0, new_claim())
    two = await claim(queue, "w2")
    await LogWriter(pipe, job.id, two.claim, 3).append(
        [encode_event(restarted(job, 2, "worker_lost"))]
    )

    found = await read_timeline(pipe, job.id)

    restart = only(found, StepKind.RESTARTED)
    second = [step for step in found.steps if step.kind is StepKind.CLAIMED][1]
    assert (2, "w2", "worker_lost", second.at) == (
        restart.attempt,
        restart.worker,
        restart.code,
        restart.at,
    )


async def test_the_first_token_of_a_finished_response_comes_from_its_last_event(
    pipe: Pipe, queue: Queue
) -> None:
    job = await submitted(queue)
    grant = await claim(queue, "w1")
    end = ending(job, text="secret text")
    timing = {"queued_ms": 5, "first_token_ms": 30, "model_ms": 100, "total_ms": 110}
    end["response"]["holdline"]["timing"] = timing
    await pipe.call("HINCRBY", NAMES.job(job.id), "submitted", -1_000)
    writer = LogWriter(pipe, job.id, grant.claim, 2)
    await writer.finish(Status.COMPLETED, [encode_event(end)], retention_ms=60_000)
    await queue.seen(job.id, 60_000)

    found = await read_timeline(pipe, job.id)

    assert 40 == only(found, StepKind.FIRST_TOKEN).since_ms
    assert ["claimed", "ended", "seen"] == [
        str(step.kind) for step in found.steps if step.since_ms >= 1_000
    ]
    shown = json.dumps(found.as_dict())
    assert "secret" not in shown
    assert "Why?" not in shown
    assert "completed" == json.loads(shown)["steps"][-2]["code"]


async def test_the_first_token_of_a_running_response_comes_from_its_worker(
    pipe: Pipe, queue: Queue
) -> None:
    job = await submitted(queue)
    await claim(queue, "w1")
    assert StepKind.FIRST_TOKEN not in {s.kind for s in (await read_timeline(pipe, job.id)).steps}
    running = (RunningRecord(job.id, "m", 1, 50, 20),)
    record = WorkerRecord("host", 1, "1", 9, 4, (), WorkerState.READY, "", 1, running)
    registry = WorkerRegistry(pipe, 60_000)
    await registry.register("w1", record)

    found = await read_timeline(pipe, job.id)

    [worker] = await registry.all()
    assert worker.seen_at - 20 == only(found, StepKind.FIRST_TOKEN).at


async def test_a_webhook_is_shown_while_it_waits_and_when_it_was_sent(pipe: Pipe) -> None:
    queue = Queue(pipe, replace(SETTINGS, webhooks=True))
    job = await submitted(queue)
    grant = await claim(queue, "w1")
    writer = LogWriter(pipe, job.id, grant.claim, 2)
    await writer.finish(Status.COMPLETED, [encode_event(ending(job))], retention_ms=60_000)
    hooks = Deliveries(pipe)
    [hook] = await hooks.claim(0, "sender", 5, 60_000)

    waiting = only(await read_timeline(pipe, job.id), StepKind.WEBHOOK_WAITING)
    assert (1, "") == (waiting.tries, waiting.code)

    await hooks.settle(hook, "sender")
    found = await read_timeline(pipe, job.id)
    assert "sent" == only(found, StepKind.WEBHOOK_ENDED).code
    assert StepKind.WEBHOOK_WAITING not in {step.kind for step in found.steps}


async def test_a_response_that_no_worker_claimed_was_queued_if_it_needed_one(
    pipe: Pipe, queue: Queue
) -> None:
    job, completed = await submitted(queue), a_job()
    await queue.cancel(job.id, 2, [ending(job, Status.CANCELLED)])
    await queue.submit_completed(completed, [ending(completed)])

    assert [*START, ("ended", 0, "", "cancelled")] == kinds(await read_timeline(pipe, job.id))
    assert [START[0], ("ended", 0, "", "completed")] == kinds(
        await read_timeline(pipe, completed.id)
    )


async def test_a_job_that_no_worker_may_run_again_is_ending(pipe: Pipe, queue: Queue) -> None:
    job = a_job()
    await queue.submit(job, opening(job), fail_on_worker_death=True)
    await claim(queue, "w1")
    await run_out(pipe, job.id)
    await queue.leases.rescue(0, new_claim())

    found = await read_timeline(pipe, job.id)

    assert "worker_lost" == only(found, StepKind.ENDING).code


async def test_the_steps_are_bounded_and_the_timeline_says_so(pipe: Pipe, queue: Queue) -> None:
    job = await submitted(queue)
    for number in range(40):
        grant = await claim(queue, f"worker-{number:09}")
        await queue.leases.give_back(job.id, grant.claim, "draining")

    steps = await pipe.call("HGET", NAMES.job(job.id), "steps")
    found = await read_timeline(pipe, job.id)

    assert 1_500 < len(steps) <= 2_000
    assert not found.complete
    assert ("given_back", 40, "worker-000000039", "draining") == kinds(found)[-1]


async def test_a_step_of_a_newer_version_is_left_out(pipe: Pipe, queue: Queue) -> None:
    job = a_job()
    await queue.submit(job, opening(job))
    await claim(queue, "one")
    key = NAMES.job(job.id)
    steps = (await pipe.call("HGET", key, "steps")).decode()
    await pipe.call("HSET", key, "steps", f"rested 7 long\n{steps}")
    found = await read_timeline(pipe, job.id)
    assert [*START, ("claimed", 1, "one", "")] == kinds(found)


async def test_another_call_of_the_same_worker_counts_once(pipe: Pipe, queue: Queue) -> None:
    job = await submitted(queue)
    grant = await claim(queue, "w1")
    for _ in range(2):
        await queue.leases.begin_again(job.id, grant.claim, 2)

    assert [("claimed", 1, "w1", ""), ("called_again", 2, "w1", "")] == kinds(
        await read_timeline(pipe, job.id)
    )[2:]


async def test_a_log_that_cannot_be_decrypted_leaves_the_recorded_steps(
    redis_url: str, pipe: Pipe
) -> None:
    key = b64encode(os.urandom(32)).decode()
    async with Pipe(Redis(redis_url, Cipher(key))) as encrypting:
        queue = Queue(encrypting, SETTINGS)
        job = await submitted(queue)
        await claim(queue, "w1")

    found = await read_timeline(pipe, job.id)

    assert [*START, ("claimed", 1, "w1", "")] == kinds(found)
    assert not found.complete


async def test_a_response_of_another_owner_is_unknown(pipe: Pipe, queue: Queue) -> None:
    job = await submitted(queue, "acme/anna")

    assert "acme" == (await read_timeline(pipe, job.id, viewer="acme/*")).tenant
    for response_id, viewer in ((job.id, "other/*"), (new_response_id(0), "")):
        with pytest.raises(UnknownResponse):
            await read_timeline(pipe, response_id, viewer=viewer)
