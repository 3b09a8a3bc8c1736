"""Tests that `holdline cancel` ends a response of any tenant, and records who did it."""

from __future__ import annotations

import asyncio
import json

import pytest

from jobs.audit import AuditLog
from jobs.ids import new_response_id
from jobs.log.codec import decode_event
from jobs.log.log import read_all
from jobs.queue import Queue
from jobs.record import Status
from jobs.redis.pipe import Pipe
from jobs.timeline import StepKind
from jobs.timeline_reader import read_timeline
from tests import commands
from tests.commands import Run
from tests.jobs.factories import SETTINGS, a_job, new_claim, opening


@pytest.fixture
def run(redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("REDIS_URL", redis_url)
    return commands.runner("cancel", capsys)


@pytest.fixture
def queue(pipe: Pipe) -> Queue:
    return Queue(pipe, SETTINGS)


async def test_a_waiting_response_ends_at_once(run: Run, pipe: Pipe, queue: Queue) -> None:
    job = a_job("acme/anna", "a secret prompt")
    await queue.submit(job, opening(job))

    code, shown = await asyncio.to_thread(run, job.id)

    assert (0, f"{job.id} of the tenant acme: cancelled\n") == (code, shown)
    view = await read_all(pipe, job.id)
    assert Status.CANCELLED is view.status
    assert "response.incomplete" == decode_event(view.entries[-1])["type"]
    [change] = [each async for each in AuditLog(pipe, 1).changes()]
    assert ("cancel", f"response {job.id}", "queued of tenant acme", "cancelled", "done") == (
        change.command,
        change.target,
        change.before,
        change.after,
        change.result,
    )


async def test_the_worker_of_a_running_response_is_asked_to_end_it(
    run: Run, pipe: Pipe, queue: Queue
) -> None:
    job = a_job("acme/anna")
    await queue.submit(job, opening(job))
    await queue.leases.claim(0, new_claim(), 1, worker="w1")

    code, shown = await asyncio.to_thread(run, job.id, "--json")

    assert 0 == code
    assert {
        "response_id": job.id,
        "tenant": "acme",
        "status_before": "running",
        "cancelled": True,
    } == json.loads(shown)
    found = await read_timeline(pipe, job.id)
    assert StepKind.CANCEL_ASKED is found.steps[-1].kind


async def test_a_response_that_has_ended_stays_as_it_is(run: Run, pipe: Pipe, queue: Queue) -> None:
    job = a_job("acme/anna")
    await queue.submit(job, opening(job))
    await asyncio.to_thread(run, job.id)

    code, shown = await asyncio.to_thread(run, job.id)

    text = f"{job.id} of the tenant acme has already ended: cancelled\n"
    assert (0, text) == (code, shown)
    assert 1 == len([each async for each in AuditLog(pipe, 1).changes()])


@pytest.mark.parametrize(
    "response_id",
    [new_response_id(0), "resp_nothing", "x\x1b[2J"],
    ids=["expired", "malformed", "control character"],
)
async def test_an_unknown_response_is_named(run: Run, response_id: str) -> None:
    code, shown = await asyncio.to_thread(run, response_id)
    assert 1 == code
    assert "not found: check the id" in shown
    assert shown.isprintable() or shown.rstrip("\n").isprintable()
