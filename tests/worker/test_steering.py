"""Tests how a worker ends steered responses: while they wait, run, call tools or were restarted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from jobs.ids import item_id
from jobs.log import items
from jobs.log.codec import Event, encode_event, job_of
from jobs.log.log import LogWriter
from jobs.names import Partition
from jobs.owed import owed
from jobs.record import Job, Status
from jobs.steers import PENDING, Steer
from tests.fake_model import FakeModel
from tests.jobs.factories import run_out
from tests.worker.conftest import MakeHarness
from tests.worker.harness import Harness, begun, response
from worker.execute import Execution
from worker.stop import Stop

HANG = "mode=hang at=5"


def message(text: str, role: str = "user") -> dict[str, Any]:
    part = {"type": "input_text", "text": text}
    return {"type": "message", "role": role, "content": [part], "id": "", "status": "completed"}


async def steer(harness: Harness, id_: str, text: str = "Stop.", limit: int = 100_000) -> None:
    await harness.context.queue.steers.add(
        id_, Steer(text, [message(text)], limit), key=text, fingerprint="f", max_bytes=9000
    )


async def submit(harness: Harness, prompt: str, **more: Any) -> str:
    return await harness.submit([message(prompt)], **more)  # type: ignore[arg-type]


async def successor_of(harness: Harness, id_: str) -> Job | None:
    found = await harness.context.queue.steers.read(id_)
    if found.successor in ("", PENDING):
        return None
    data = await harness.context.pipe.call("HGET", Partition(0).job(found.successor), "job")
    return job_of(found.successor, data, harness.context.pipe.cipher)


def kinds(events: list[Event]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


async def test_a_steered_response_that_waits_ends_without_a_model_call(harness: Harness) -> None:
    id_ = await submit(harness, "mode=ok")
    await steer(harness, id_)
    await harness.execution(await harness.claim()).run()
    events = await harness.events(id_)
    assert ["created", "queued", "in_progress", "incomplete"] == kinds(events)
    ended = response(events)
    assert {"reason": "steered"} == ended["incomplete_details"]
    assert [] == harness.model.calls
    successor = await successor_of(harness, id_)
    assert successor is not None
    assert ["mode=ok"] == [item["content"][0]["text"] for item in successor.context]
    assert ended["holdline"]["successor_id"] == successor.id


async def test_a_steer_keeps_the_text_so_far_and_the_successor_is_next(harness: Harness) -> None:
    id_ = await submit(harness, HANG)
    execution: Execution = harness.execution(await harness.claim())
    running = asyncio.create_task(execution.run())
    await harness.until_text(id_)
    waiting = await submit(harness, "mode=ok")
    await steer(harness, id_, "mode=ok")
    execution.steer()
    await running
    ended = response(await harness.events(id_))
    assert "incomplete" == ended["output"][0]["status"]
    successor = await successor_of(harness, id_)
    assert successor is not None
    grant = await harness.claim()
    assert (successor.id, 0) == (grant.response_id, grant.steers)
    assert waiting == (await harness.claim()).response_id
    await harness.execution(grant).run()
    sent = [one["content"] for one in harness.model.calls[-1].body["messages"]]
    assert [HANG, ended["output"][0]["content"][0]["text"], "mode=ok"] == sent


async def test_after_the_death_of_its_worker_a_steered_response_keeps_the_text_in_its_log(
    harness: Harness,
) -> None:
    id_ = await submit(harness, HANG)
    running = await begun(harness)
    await harness.until_text(id_)
    running.cancel()
    await steer(harness, id_)
    await run_out(harness.context.pipe, id_)
    await harness.execution(await harness.claim()).run()
    events = await harness.events(id_)
    assert "holdline:restarted" not in kinds(events)
    assert response(events)["output"][0]["content"][0]["text"]
    assert await successor_of(harness, id_) is not None
    assert 1 == len(harness.model.calls)


async def test_after_the_death_of_its_worker_a_steer_waits_for_the_result_of_a_finished_call(
    harness: Harness,
) -> None:
    id_ = await submit(harness, "mode=ok")
    grant = await harness.claim()
    writer = LogWriter(harness.context.pipe, id_, grant.claim, grant.length)
    call = items.function_call(item_id("fc", id_, 1, 0), "completed", "c", "f", "{}")
    events = [items.added(0, {**call, "status": "in_progress"}), *items.done(0, call)]
    await writer.append([encode_event(event) for event in events])
    await steer(harness, id_)
    await run_out(harness.context.pipe, id_)
    await harness.execution(await harness.claim()).run()
    ended = (await harness.events(id_))[-1]["response"]
    assert ("completed", [call]) == (ended["status"], ended["output"])
    assert 1 == ended["holdline"]["pending_steers"]
    assert PENDING == (await harness.context.queue.steers.read(id_)).successor
    assert [] == harness.model.calls


async def test_a_cancellation_gives_the_steers_back(harness: Harness) -> None:
    id_ = await submit(harness, HANG)
    execution = harness.execution(await harness.claim())
    running = asyncio.create_task(execution.run())
    await harness.until_text(id_)
    await steer(harness, id_)
    execution.steer()
    execution.stop(Stop.CANCEL)
    await running
    assert Status.CANCELLED is (await harness.view(id_)).status
    assert await successor_of(harness, id_) is None


async def test_steers_are_given_back_if_the_successor_would_be_too_large(harness: Harness) -> None:
    id_ = await submit(harness, "mode=ok")
    await steer(harness, id_, limit=10)
    await harness.execution(await harness.claim()).run()
    assert "successor_id" not in response(await harness.events(id_))["holdline"]
    assert "" == (await harness.context.queue.steers.read(id_)).successor


async def test_a_steer_that_arrives_just_before_the_end_is_not_lost(harness: Harness) -> None:
    id_ = await submit(harness, "mode=ok")
    grant = await harness.claim()
    await steer(harness, id_)  # the worker gets no notification
    await harness.execution(grant).run()
    ended = response(await harness.events(id_))
    assert "completed" == ended["status"]
    successor = await successor_of(harness, id_)
    assert successor is not None
    assert successor.context[-1] == ended["output"][0]


@pytest.mark.parametrize(
    ("item", "stub"),
    [
        (
            {"type": "function_call", "call_id": "c", "name": "f", "status": "completed"},
            {"type": "function_call_output", "call_id": "c", "name": "f"},
        ),
        (
            {"type": "custom_tool_call", "call_id": "c", "name": "f"},
            {"type": "custom_tool_call_output", "call_id": "c"},
        ),
        (
            {"type": "shell_call", "call_id": "c", "status": "completed"},
            {"type": "shell_call_output", "call_id": "c"},
        ),
        (
            {"type": "tool_search_call", "call_id": "c", "execution": "client"},
            {"type": "tool_search_output", "call_id": "c", "execution": "client"},
        ),
        (
            {"type": "mcp_approval_request", "id": "a"},
            {"type": "mcp_approval_response", "approval_request_id": "a"},
        ),
        ({"type": "tool_search_call", "call_id": "c", "execution": "server"}, None),
        ({"type": "function_call", "call_id": "c", "name": "f", "status": "incomplete"}, None),
        ({"type": "message", "id": "m"}, None),
    ],
)
def test_a_client_owes_a_result_for_each_of_its_calls(item: Any, stub: Any) -> None:
    assert ([] if stub is None else [stub]) == owed([item])


def test_a_call_that_the_provider_has_executed_is_not_owed() -> None:
    call = {"type": "shell_call", "call_id": "c"}
    assert [] == owed([call, {"type": "shell_call_output", "call_id": "c"}])


async def test_a_model_with_the_responses_api_gets_its_interrupted_message_back(
    make_harness: MakeHarness, model: FakeModel, tmp_path: Path
) -> None:
    path = tmp_path / "models.toml"
    path.write_text(f'[models.m]\nbase_url = "{model.url}"\napi = "responses"\n')
    async with make_harness(HOLDLINE_MODELS=str(path)) as harness:
        id_ = await submit(harness, "mode=slow tokens=400 pace=0.05")
        execution = harness.execution(await harness.claim())
        running = asyncio.create_task(execution.run())
        await harness.until_text(id_)
        await steer(harness, id_, "mode=ok")
        execution.steer()
        await running
        ended = response(await harness.events(id_))
        assert "incomplete" == ended["output"][0]["status"]
        await harness.execution(await harness.claim()).run()
        successor = await successor_of(harness, id_)
        assert successor is not None
        assert Status.COMPLETED is (await harness.view(successor.id)).status
    assert model.calls[0].closed_by_client is not None
    first, answer, second = model.calls[1].body["input"]
    assert ["user", "assistant", "user"] == [first["role"], answer["role"], second["role"]]
    assert ended["output"][0]["content"][0]["text"] == answer["content"][0]["text"]
