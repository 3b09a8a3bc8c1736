"""Tests one attempt with a model that behaves correctly: events, items and limits."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest
from structlog.testing import capture_logs

from jobs.log.response_state import ResponseState
from jobs.record import Status
from tests.system import wait_until
from tests.worker.conftest import MakeHarness
from tests.worker.harness import Harness, begun, numbered, response, said


async def test_an_answer_consists_of_the_standards_events_in_order(harness: Harness) -> None:
    view = await harness.execute("mode=ok")
    assert Status.COMPLETED is view.status
    events = await harness.events(harness.only)
    kinds = [event["type"].removeprefix("response.") for event in events]
    deltas = kinds.count("output_text.delta")
    assert [
        "created",
        "queued",
        "in_progress",
        "output_item.added",
        "content_part.added",
        *["output_text.delta"] * deltas,
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ] == kinds
    assert numbered(1) == said(events)


async def test_a_completed_answer_has_its_checksum_timings_and_usage(harness: Harness) -> None:
    with capture_logs() as logs:
        await harness.execute("mode=ok")
    [line] = [line for line in logs if line["event"] == "model call attempt ended"]
    # A client chose the name of the model, which is not configured.
    assert ("other", "stop", None) == (line["model"], line["cause"], line["error"])
    ended = response(await harness.events(harness.only))
    text = numbered(1).encode()
    assert ("completed", None, None) == (
        ended["status"],
        ended["error"],
        ended["incomplete_details"],
    )
    assert 27 == ended["usage"]["total_tokens"]
    trailer = ended["holdline"]
    assert (1, hashlib.sha256(text).hexdigest(), len(text)) == (
        trailer["attempts"],
        trailer["sha256"],
        trailer["bytes"],
    )
    assert {"queued_ms", "first_token_ms", "model_ms", "total_ms"} == set(trailer["timing"])


async def test_an_output_index_is_never_used_twice(harness: Harness) -> None:
    await harness.execute("mode=rst times=2", attempts=3)
    events = await harness.events(harness.only)
    added = [event for event in events if event["type"] == "response.output_item.added"]
    done = [event for event in events if event["type"] == "response.output_item.done"]
    assert [0, 1, 2] == [event["output_index"] for event in added]
    assert [0, 1, 2] == [event["output_index"] for event in done]
    assert ["incomplete", "incomplete", "completed"] == [event["item"]["status"] for event in done]
    assert 3 == len({event["item"]["id"] for event in added})


@pytest.mark.parametrize(
    ("mode", "status", "reason", "text"),
    [
        ("length", Status.INCOMPLETE, "max_output_tokens", numbered(1)),
        ("filtered", Status.INCOMPLETE, "content_filter", numbered(1, 10)),
        ("empty", Status.COMPLETED, None, ""),
        ("fast tokens=3000", Status.COMPLETED, None, numbered(1, 3000)),
        ("slow pace=0.001", Status.COMPLETED, None, numbered(1)),
        ("emoji", Status.COMPLETED, None, "a👩‍👩‍👧é🇩🇪ü"),
        ("resetbeforeusage", Status.COMPLETED, None, numbered(1)),
    ],
)
async def test_a_stop_reason_sets_the_status_of_the_response(
    harness: Harness, mode: str, status: Status, reason: str | None, text: str
) -> None:
    view = await harness.execute(f"mode={mode}")
    assert status is view.status
    events = await harness.events(harness.only)
    assert text == said(events)
    ended = response(events)
    assert ({"reason": reason} if reason else None) == ended["incomplete_details"]
    assert 1 == len(ended["output"])


async def test_an_oversized_answer_is_truncated_at_the_limit(harness: Harness) -> None:
    await harness.execute("mode=giant")
    events = await harness.events(harness.only)
    ended = response(events)
    assert ("failed", "output_too_long") == (ended["status"], ended["error"]["code"])
    assert 1_000_000 == ended["holdline"]["bytes"]
    assert max(len(event.get("delta", "")) for event in events) <= 4096
    await wait_until(lambda: harness.model.calls[0].closed_by_client)


async def test_an_oversized_delta_is_truncated_at_the_limit(make_harness: MakeHarness) -> None:
    async with make_harness(HOLDLINE_MAX_OUTPUT_BYTES="7") as harness:
        await harness.execute("say=aaaäää")
        assert "aaaää" == said(await harness.events(harness.only))


async def test_input_that_the_model_cannot_take_fails_the_response(harness: Harness) -> None:
    audio: dict[str, Any] = {"role": "user", "content": [{"type": "input_audio"}]}
    response_id = await harness.submit("", input=[audio])
    await harness.execution(await harness.claim()).run()
    ended = response(await harness.events(response_id))
    assert "unsupported_input" == ended["error"]["code"]
    assert [] == harness.model.calls


async def test_the_first_delta_is_written_before_the_second_arrives(harness: Harness) -> None:
    response_id = await harness.submit("mode=hang at=1")
    running = await begun(harness)
    await harness.until_said(response_id, "c1t0 ")
    state = ResponseState(await harness.events(response_id))
    assert "c1t0 " == state.output[0]["content"][0]["text"]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_deltas_are_batched_while_redis_is_slow(harness: Harness) -> None:
    await harness.execute("mode=fast tokens=20000")
    events = await harness.events(harness.only)
    assert numbered(1, 20_000) == said(events)
    assert len(events) < 2000


async def test_concurrent_answers_are_never_mixed(harness: Harness) -> None:
    ids = [await harness.submit(f"say=mine{index}_") for index in range(50)]
    grants = [await harness.claim() for _ in ids]
    await asyncio.gather(*(harness.execution(grant).run() for grant in grants))
    for index, response_id in enumerate(ids):
        assert f"mine{index} " == said(await harness.events(response_id))
