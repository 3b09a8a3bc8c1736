"""Tests answers that the model's endpoint generates in the background."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from jobs.lease_store import AT_ONCE
from jobs.log.codec import Event
from jobs.log.events import RESTARTED, output_text
from jobs.names import names_of
from jobs.record import Status
from tests.fake_background import RUDE
from tests.fake_model import FakeModel
from tests.system import wait_until
from tests.worker.conftest import MakeHarness, Work
from tests.worker.harness import Harness, begun, numbered, response, said
from worker.flusher import Flusher
from worker.output import Output
from worker.rescue import Rescue
from worker.stop import Stop
from worker.upstream import background

MODELS = """
[models.m]
base_url = "{url}"
api = "responses"
background = true
"""


@pytest.fixture
async def harness(make_harness: MakeHarness, model: FakeModel, tmp_path: Path) -> Any:
    path = tmp_path / "models.toml"
    path.write_text(MODELS.format(url=model.url))
    async with make_harness(HOLDLINE_MODELS=str(path), HOLDLINE_MAX_ATTEMPTS="3") as harness:
        yield harness


@pytest.fixture
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "DELAYS", (0.0, 0.05, 0.1))


def without_restart(events: list[Event]) -> list[Event]:
    assert RESTARTED not in [event["type"] for event in events]
    return events


def answered(events: list[Event]) -> str:
    """Joins the deltas of messages."""
    return "".join(
        event["delta"] for event in events if event["type"] == "response.output_text.delta"
    )


async def lost(harness: Harness, running: asyncio.Task[None]) -> None:
    """Kills the attempt, as if its worker had died."""
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def has_checkpoint(harness: Harness) -> bool:
    key = names_of(harness.only).job(harness.only)
    return bool(await harness.context.pipe.call("HEXISTS", key, "checkpoint"))


async def test_the_call_asks_for_a_stored_background_response(harness: Harness) -> None:
    view = await harness.execute("mode=ok")
    assert Status.COMPLETED is view.status
    (call,) = harness.model.calls
    assert (True, True, True) == tuple(
        call.body[name] for name in ("background", "store", "stream")
    )
    assert not await has_checkpoint(harness)


async def test_nothing_is_stored_at_the_provider_for_a_request_that_forbids_it(
    harness: Harness,
) -> None:
    await harness.execute("mode=ok", store=False)
    (call,) = harness.model.calls
    assert call.body["store"] is False
    assert "background" not in call.body


@pytest.mark.parametrize("kills", [1, 3])
@pytest.mark.parametrize("mode", ["slow", "rich"])
async def test_another_worker_continues_the_same_answer(
    harness: Harness, kills: int, mode: str
) -> None:
    tokens = 30 * (kills + 1)
    tools = [{"type": "function", "name": "f", "parameters": {}, "strict": False}]
    await harness.submit(f"mode={mode} tokens={tokens} pace=0.05", tools=tools)
    texts = []
    for _ in range(kills):
        before = said(await harness.events(harness.only))
        running = asyncio.create_task(harness.execution(await harness.claim()).run())

        async def grown(before: str = before) -> bool:
            return len(said(await harness.events(harness.only))) > len(before) + 8

        await wait_until(grown)
        await lost(harness, running)
        texts.append(said(await harness.events(harness.only)))
    await harness.execution(await harness.claim()).run()
    events = without_restart(await harness.events(harness.only))
    end = events[-1]["response"]
    assert ("completed", 1) == (end["status"], end["holdline"]["attempts"])
    assert numbered(1, tokens) == answered(events) == output_text(end["output"])
    assert all(said(events).startswith(text) for text in texts)
    assert 1 == len(harness.model.calls)
    added = [e["output_index"] for e in events if e["type"] == "response.output_item.added"]
    done = [e["output_index"] for e in events if e["type"] == "response.output_item.done"]
    assert sorted(added) == sorted(done) == list(range(len(added)))
    assert 16 == end["usage"]["total_tokens"]


@pytest.mark.parametrize("kills", [1, 2])
async def test_a_call_is_continued_before_its_first_output(harness: Harness, kills: int) -> None:
    await harness.submit("mode=late after=2 tokens=5")
    for _ in range(kills):
        running = asyncio.create_task(harness.execution(await harness.claim()).run())
        await wait_until(lambda: has_checkpoint(harness))
        await lost(harness, running)
    assert "" == said(await harness.events(harness.only))
    await harness.execution(await harness.claim()).run()
    events = without_restart(await harness.events(harness.only))
    end = response(events)
    assert ("completed", 1) == (end["status"], end["holdline"]["attempts"])
    assert numbered(1, 5) == said(events)
    assert 1 == len(harness.model.calls)


async def test_a_connection_that_breaks_before_the_first_output_is_reopened(
    harness: Harness,
) -> None:
    harness.model.background.cuts_after = 2
    await harness.execute("mode=late after=0.2 tokens=5")
    events = without_restart(await harness.events(harness.only))
    assert numbered(1, 5) == said(events)
    assert 1 == len(harness.model.calls)


async def test_a_fallback_replaces_an_answer_that_has_no_output(
    make_harness: MakeHarness, model: FakeModel, tmp_path: Path
) -> None:
    path = tmp_path / "models.toml"
    models = MODELS + 'first_token_seconds = 0.1\nfallbacks = ["other"]\n[models.other]\n'
    path.write_text((models + 'base_url = "{url}"\n').format(url=model.url))
    async with make_harness(HOLDLINE_MODELS=str(path)) as harness:
        await harness.execute("mode=begun times=1")
        end = response(without_restart(await harness.events(harness.only)))
        assert ("completed", "other") == (end["status"], end["holdline"]["model"])
        (stored,) = model.background.stored.values()
        assert stored.cancelled


async def test_a_lost_connection_is_reopened_by_the_same_worker(harness: Harness) -> None:
    harness.model.background.cuts_after = 7
    view = await harness.execute("mode=slow tokens=40 pace=0.005")
    events = without_restart(await harness.events(harness.only))
    assert Status.COMPLETED is view.status
    assert numbered(1, 40) == said(events)
    assert 1 == len(harness.model.calls)
    assert (
        "GET /responses/resp_up0?stream=true&starting_after=6" == harness.model.background.reads[0]
    )


@pytest.mark.parametrize("rude", RUDE)
@pytest.mark.usefixtures("_short_delays")
async def test_a_rude_endpoint_after_a_lost_connection_is_called_again(
    harness: Harness, rude: str
) -> None:
    endpoint = harness.model.background
    endpoint.cuts_after, endpoint.rude = 7, rude
    await harness.submit("mode=slow tokens=20 pace=0.005")
    await harness.execution(await harness.claim()).run()
    endpoint.cuts_after, endpoint.rude = 0, ""
    await harness.execution(await harness.claim()).run()
    events = await harness.events(harness.only)
    assert ("completed", 2) == (
        response(events)["status"],
        response(events)["holdline"]["attempts"],
    )
    assert numbered(2, 20) == said(events)
    assert 2 == len(harness.model.calls)


@pytest.mark.usefixtures("_short_delays")
async def test_the_model_is_called_again_if_the_endpoint_never_sends_the_rest(
    make_harness: MakeHarness, model: FakeModel, tmp_path: Path
) -> None:
    path = tmp_path / "models.toml"
    limits = "first_token_seconds = 0.3\nstall_timeout_seconds = 0.3\n"
    path.write_text(MODELS.format(url=model.url) + limits)
    async with make_harness(HOLDLINE_MODELS=str(path)) as harness:
        await harness.execute("mode=hang times=1", attempts=2)
        end = response(await harness.events(harness.only))
        assert ("completed", 2) == (end["status"], end["holdline"]["attempts"])
        assert 2 == len(model.calls)
        assert [True, False] == [one.cancelled for one in model.background.stored.values()]


@pytest.mark.parametrize("rude", RUDE)
@pytest.mark.usefixtures("_short_delays")
async def test_an_endpoint_that_does_not_continue_the_answer_is_called_again(
    harness: Harness, rude: str
) -> None:
    await harness.submit("mode=slow tokens=20 pace=0.03")
    running = await begun(harness)
    await harness.until_text(harness.only)
    await lost(harness, running)
    harness.model.background.rude = rude
    view = None
    for _ in range(2):
        await harness.execution(await harness.claim()).run()
        if (view := await harness.view(harness.only)).status.ended:
            break
    assert view is not None
    assert Status.COMPLETED is view.status
    events = await harness.events(harness.only)
    end = response(events)
    assert 2 == end["holdline"]["attempts"]
    assert numbered(2, 20) == said(events)
    assert 1 == [event["type"] for event in events].count(RESTARTED)
    assert 2 == len(harness.model.calls)
    assert [True, False] == [one.cancelled for one in harness.model.background.stored.values()]


LOST = [
    ("response_gone", 410),
    ("response_rolled_back", 410),
    ("response_not_found", 404),
    ("response_damaged", 500),
    ("not_found", 404),
    ("", 404),
    ("", 410),
]


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize(("code", "status"), LOST)
async def test_an_endpoint_that_loses_the_answer_in_the_stream_is_called_again(
    harness: Harness, code: str, status: int, store: bool
) -> None:
    prompt = f"mode=losing tokens=20 after={status} times=1" + (code and f" name={code}")
    await harness.execute(prompt, attempts=2, store=store)
    events = await harness.events(harness.only)
    end = response(events)
    assert ("completed", 2) == (end["status"], end["holdline"]["attempts"])
    assert numbered(2, 20) == said(events)
    assert 1 == [event["type"] for event in events].count(RESTARTED)
    assert [] == [read for read in harness.model.background.reads if read.startswith("GET")]


async def test_a_restart_of_the_endpoint_in_the_stream_is_read_on(harness: Harness) -> None:
    """The error is not in the answer that the endpoint stores, so the fake cuts the stream."""
    harness.model.background.cuts_after = 7
    harness.model.background.cut_with = "server_restarting"
    await harness.execute("mode=slow tokens=20 pace=0.005")
    events = without_restart(await harness.events(harness.only))
    assert numbered(1, 20) == said(events)
    assert 1 == len(harness.model.calls)


async def test_an_answer_that_is_cancelled_at_the_endpoint_begins_again(harness: Harness) -> None:
    await harness.submit("mode=cancelled tokens=20 times=1")
    for _ in range(2):
        await harness.execution(await harness.claim()).run()
    events = await harness.events(harness.only)
    assert ("completed", numbered(2, 20)) == (response(events)["status"], said(events))


async def test_a_cancellation_reaches_the_provider(harness: Harness) -> None:
    await harness.submit("mode=slow tokens=200 pace=0.03")
    execution = harness.execution(await harness.claim())
    running = asyncio.create_task(execution.run())
    await harness.until_text(harness.only)
    execution.stop(Stop.CANCEL)
    await running
    assert Status.CANCELLED is (await harness.view(harness.only)).status
    (stored,) = harness.model.background.stored.values()
    assert stored.cancelled


async def test_a_request_may_choose_a_restart(harness: Harness) -> None:
    policy = {"holdline_on_worker_death": "restart"}
    await harness.submit("mode=slow tokens=20 pace=0.03", metadata=policy)
    running = await begun(harness)
    await harness.until_text(harness.only)
    await lost(harness, running)
    await harness.execution(await harness.claim()).run()
    events = await harness.events(harness.only)
    assert numbered(2, 20) == said(events)
    assert 1 == [event["type"] for event in events].count(RESTARTED)
    assert 2 == response(events)["holdline"]["attempts"]
    first, _ = harness.model.background.stored.values()
    assert first.cancelled


async def test_a_stopped_worker_leaves_an_answer_that_must_not_restart(
    harness: Harness,
) -> None:
    policy = {"holdline_on_worker_death": "fail"}
    await harness.submit("mode=slow tokens=20 pace=0.03", metadata=policy)
    execution = harness.execution(await harness.claim())
    running = asyncio.create_task(execution.run())
    await harness.until_text(harness.only)
    execution.stop(Stop.GIVE_BACK)
    await running
    await harness.execution(await harness.claim()).run()
    events = without_restart(await harness.events(harness.only))
    assert ("completed", numbered(1, 20)) == (response(events)["status"], said(events))
    assert 1 == len(harness.model.calls)


async def test_a_deletion_reaches_the_provider(harness: Harness) -> None:
    await harness.submit("mode=slow tokens=200 pace=0.03")
    running = await begun(harness)
    await harness.until_text(harness.only)
    await harness.context.queue.delete(harness.only)
    await running
    (stored,) = harness.model.background.stored.values()
    assert stored.cancelled


async def test_a_deletion_during_a_pause_of_the_model_reaches_the_provider(
    harness: Harness, work: Work
) -> None:
    """The worker learns of the deletion from a lease renewal, because it has nothing to append."""
    async with work(harness):
        await harness.submit("mode=hang")
        await harness.until_text(harness.only)
        await harness.context.queue.delete(harness.only)
        (stored,) = harness.model.background.stored.values()
        await wait_until(lambda: stored.cancelled)


async def test_a_worker_that_lost_its_lease_leaves_an_answer_that_another_can_continue(
    harness: Harness,
) -> None:
    await harness.submit("mode=slow tokens=20 pace=0.05")
    execution = harness.execution(await harness.claim())
    running = asyncio.create_task(execution.run())
    await harness.until_text(harness.only)
    execution.stop(Stop.LOST)
    await running
    (stored,) = harness.model.background.stored.values()
    assert not stored.cancelled


async def test_a_worker_that_lost_its_lease_ends_an_answer_that_nobody_can_continue(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint never reached Redis."""
    unstored: list[object] = []
    monkeypatch.setattr(Flusher, "store", lambda *of_answer: unstored.append(of_answer))
    monkeypatch.setattr(Flusher, "_send", lambda *_: None)
    await harness.submit("mode=slow tokens=200 pace=0.05")
    execution = harness.execution(await harness.claim())
    running = asyncio.create_task(execution.run())
    await wait_until(lambda: unstored)
    execution.stop(Stop.LOST)
    await running
    (stored,) = harness.model.background.stored.values()
    assert stored.cancelled


@pytest.mark.parametrize("attempts", [1, 3])
async def test_an_error_in_the_worker_ends_the_answer_at_the_provider(
    make_harness: MakeHarness,
    model: FakeModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    attempts: int,
) -> None:
    path = tmp_path / "models.toml"
    path.write_text(MODELS.format(url=model.url))
    limit = {"HOLDLINE_MODELS": str(path), "HOLDLINE_MAX_ATTEMPTS": str(attempts)}
    async with make_harness(**limit) as harness:
        await harness.submit("mode=slow tokens=100 pace=0.05")
        execution = harness.execution(await harness.claim())
        running = asyncio.create_task(execution.run())
        await harness.until_text(harness.only)
        monkeypatch.setattr(Output, "take", failing)
        with pytest.raises(ZeroDivisionError):
            await running
        await execution.fail()
        (stored,) = model.background.stored.values()
        assert stored.cancelled


def failing(*_: object) -> None:
    raise ZeroDivisionError


async def test_a_cancellation_between_two_workers_reaches_the_provider(harness: Harness) -> None:
    await harness.submit("mode=slow tokens=200 pace=0.03")
    running = await begun(harness)
    await harness.until_text(harness.only)
    await lost(harness, running)
    view = await harness.view(harness.only)
    await harness.context.queue.cancel(harness.only, view.length, [])
    async with Rescue(harness.context) as rescue:

        async def ended() -> bool:
            await rescue.rescue(0, AT_ONCE)
            return (await harness.view(harness.only)).status.ended

        await wait_until(ended)
        await wait_until(lambda: harness.model.background.reads)
    assert Status.CANCELLED is (await harness.view(harness.only)).status
    (stored,) = harness.model.background.stored.values()
    assert stored.cancelled


@pytest.mark.parametrize("is_delayed", [False, True])
async def test_a_cancellation_of_a_queued_answer_reaches_the_provider(
    harness: Harness, is_delayed: bool
) -> None:
    await harness.submit("mode=slow tokens=200 pace=0.03")
    grant = await harness.claim()
    execution = harness.execution(grant)
    running = asyncio.create_task(execution.run())
    await harness.until_text(harness.only)
    if is_delayed:
        await lost(harness, running)
        await harness.context.queue.leases.retry(
            harness.only, grant.claim, 60_000, "upstream_unavailable", keeps_checkpoint=True
        )
    else:
        execution.stop(Stop.GIVE_BACK)
        await running
    view = await harness.view(harness.only)
    await harness.context.queue.cancel(harness.only, view.length, [])
    await harness.execution(await harness.claim()).run()
    assert Status.CANCELLED is (await harness.view(harness.only)).status
    (stored,) = harness.model.background.stored.values()
    assert stored.cancelled


@pytest.mark.parametrize("accepts_after", [0.0, 0.5])
async def test_a_stopping_worker_hands_its_answers_over_at_once(
    make_harness: MakeHarness, model: FakeModel, tmp_path: Path, work: Work, accepts_after: float
) -> None:
    model.background.accepts_after = accepts_after
    path = tmp_path / "models.toml"
    path.write_text(MODELS.format(url=model.url))
    settings = {"HOLDLINE_MODELS": str(path), "HOLDLINE_SHUTDOWN_GRACE_SECONDS": "60"}
    async with make_harness(**settings) as harness:
        async with work(harness) as running:
            await harness.submit("mode=until pace=0.03")
            if accepts_after:
                await wait_until(lambda: model.calls)
            else:
                await harness.until_text(harness.only)
            running.quiet.set()
            assert running.task is not None
            async with asyncio.timeout(15):
                await running.task
        assert not (await harness.view(harness.only)).status.ended
        model.calls[0].closing = True
        await harness.execution(await harness.claim()).run()
        events = without_restart(await harness.events(harness.only))
        assert model.calls[0].sent == said(events)
        assert 1 == len(model.calls)


@pytest.mark.parametrize("mode", ["errorevent", "eof"])
@pytest.mark.usefixtures("_short_delays")
async def test_an_answer_that_fails_in_each_attempt_fails_after_the_last_attempt(
    harness: Harness, mode: str
) -> None:
    await harness.submit(f"mode={mode} tokens=5")
    for _ in range(5):
        await harness.execution(await harness.claim()).run()
        if (await harness.view(harness.only)).status.ended:
            break
    end = response(await harness.events(harness.only))
    assert ("failed", 3) == (end["status"], end["holdline"]["attempts"])
    assert 3 == len(harness.model.calls)
