"""Tests what becomes of the function calls of an attempt that fails, as a client may run them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobs.log.codec import Event
from jobs.log.events import RESTARTED
from tests.fake_model import FakeModel
from tests.system import wait_until
from tests.worker.conftest import MakeHarness
from tests.worker.harness import Harness, response

TOOLS = [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}]


@pytest.fixture
async def harness(
    make_harness: MakeHarness, model: FakeModel, tmp_path: Path
) -> AsyncIterator[Harness]:
    """A harness whose model has the Responses API."""
    path = tmp_path / "models.toml"
    path.write_text(f'[models.m]\nbase_url = "{model.url}"\napi = "responses"\n')
    async with make_harness(HOLDLINE_MODELS=str(path)) as harness:
        yield harness


def restarts(events: list[Event]) -> int:
    return sum(event["type"] == RESTARTED for event in events)


async def test_a_call_that_was_cut_off_is_void_and_the_response_names_it(harness: Harness) -> None:
    await harness.execute("mode=cutcall times=1", attempts=2, tools=TOOLS)
    events = await harness.events(harness.only)
    ended = response(events)
    assert ("completed", 1, 2) == (ended["status"], restarts(events), len(harness.model.calls))
    assert ["message"] == [item["type"] for item in ended["output"]]
    assert ["call_0"] == ended["holdline"]["void_calls"]


async def test_a_response_without_void_calls_names_none(harness: Harness) -> None:
    await harness.execute("mode=eof times=1", attempts=2, tools=TOOLS)
    assert "void_calls" not in response(await harness.events(harness.only))["holdline"]


async def test_a_stream_that_breaks_after_a_finished_call_is_never_completed_without_a_new_call(
    harness: Harness,
) -> None:
    await harness.execute("mode=cutcalls", attempts=3, tools=TOOLS)
    ended = (await harness.events(harness.only))[-1]["response"]
    assert ("failed", 3) == (ended["status"], len(harness.model.calls))
    assert "upstream_truncated" == ended["error"]["code"]


async def lose_worker(harness: Harness, prompt: str) -> None:
    """Kills the worker of an attempt whose call is in the log."""
    await harness.submit(prompt, tools=TOOLS)
    running = asyncio.create_task(harness.execution(await harness.claim()).run())

    async def called() -> bool:
        kinds = [event["type"] for event in await harness.events(harness.only)]
        return kinds.count("response.output_item.done") > 1

    await wait_until(called)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_after_a_finished_call_the_response_of_a_lost_worker_ends_with_it(
    harness: Harness,
) -> None:
    await lose_worker(harness, "mode=stuckcalls")
    await harness.execution(await harness.claim()).run()
    events = await harness.events(harness.only)
    ended = events[-1]["response"]
    assert ("completed", 0, 1) == (ended["status"], restarts(events), len(harness.model.calls))
    assert 0 < ended["usage"]["output_tokens"] < ended["usage"]["total_tokens"]
    message, call = ended["output"]
    assert harness.model.calls[0].sent == message["content"][0]["text"]
    assert ("call_1", '{"a": 1}') == (call["call_id"], call["arguments"])
    assert ["call_2"] == ended["holdline"]["void_calls"]
    # Every item that was added is done, as the accumulators of the official SDKs demand.
    added, done = (
        [
            event["output_index"]
            for event in events
            if event["type"] == f"response.output_item.{end}"
        ]
        for end in ("added", "done")
    )
    assert [0, 1, 2] == added == done


async def test_a_text_that_a_lost_worker_left_unfinished_is_never_completed(
    harness: Harness,
) -> None:
    await lose_worker(harness, "mode=stucktext times=1")
    await harness.until_text(harness.only)
    await harness.execution(await harness.claim()).run()
    events = await harness.events(harness.only)
    ended = response(events)
    assert ("completed", 1, 2) == (ended["status"], restarts(events), len(harness.model.calls))
    assert ["message"] == [item["type"] for item in ended["output"]]
    assert ["call_0", "call_1"] == sorted(ended["holdline"]["void_calls"])
