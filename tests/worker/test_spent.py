"""Tests the usage of responses whose calls ended before the provider sent its counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jobs.lease_store import AT_ONCE
from jobs.log.events import CONTINUED
from jobs.log.response_state import ResponseState
from jobs.record import Job
from jobs.tenants import Tenants
from tests.system import wait_until
from tests.worker.continuing import TOKENS, Going, ended, kinds, lose, start
from tests.worker.harness import Harness, response
from worker.rescue import Rescue
from worker.spent import spent_before

PROMPT = f"mode=continuing tokens={TOKENS}"
PRICE = "price = { input = 1, output = 2 }"
# The estimate for the prompt and the first 65 characters of the text.
INPUT, OUTPUT = -(-len(PROMPT) // 4), 17


async def check(harness: Harness, end: dict[str, Any]) -> None:
    """Checks that the response reports one interrupted call, and that the tenant pays for it."""
    assert (INPUT, OUTPUT) == (end["usage"]["input_tokens"], end["usage"]["output_tokens"])
    assert "m" == end["holdline"]["model"]
    booked = await Tenants(harness.context.pipe, range(1)).usage("me")
    assert INPUT + OUTPUT == booked.tokens
    assert pytest.approx((INPUT + 2 * OUTPUT) / 1e6) == booked.money
    assert 1 == len(harness.model.calls)


async def rescued(harness: Harness) -> dict[str, Any]:
    """Lets a worker end the response that a dead worker has left."""
    async with Rescue(harness.context) as rescue:

        async def is_ended() -> bool:
            await rescue.rescue(0, AT_ONCE)
            return (await harness.view(harness.only)).status.ended

        await wait_until(is_ended)
    return response(await harness.events(harness.only))


async def test_a_response_that_fails_after_the_death_of_its_worker(going: Going) -> None:
    async with going(more=PRICE) as harness:
        harness.model.script = {"at": 13}
        metadata = {"holdline_on_worker_death": "continue"}
        await harness.submit(PROMPT, fail_on_worker_death=True, metadata=metadata)
        await lose(await start(harness, PROMPT))
        end = await rescued(harness)
        assert "worker_lost" == end["error"]["code"]
        await check(harness, end)


async def test_a_response_that_is_cancelled_after_the_death_of_its_worker(going: Going) -> None:
    async with going(more=PRICE) as harness:
        harness.model.script = {"at": 13}
        await lose(await start(harness, PROMPT))
        view = await harness.view(harness.only)
        await harness.context.queue.cancel(harness.only, view.length, [])
        end = await rescued(harness)
        assert "cancelled" == end["status"]
        await check(harness, end)


async def test_a_response_whose_text_has_reached_its_limit(going: Going) -> None:
    async with going(more=PRICE) as harness:
        harness.model.script = {"at": 13}
        await lose(await start(harness, PROMPT, max_output_tokens=17))
        end = response(await ended(harness))
        assert {"reason": "max_output_tokens"} == end["incomplete_details"]
        await check(harness, end)


async def test_a_response_that_fails_because_its_worker_stopped(going: Going) -> None:
    async with going(more=PRICE + '\non_worker_death = "fail"') as harness:
        harness.model.script = {"at": 13}
        running = await start(harness, PROMPT)
        await lose(running)
        end = response(await ended(harness))
        assert "worker_lost" == end["error"]["code"]
        await check(harness, end)


async def test_the_model_is_unknown_if_it_may_be_a_fallback(going: Going) -> None:
    more = 'on_worker_death = "fail"\nfallbacks = ["n"]'
    async with going(more=PRICE + "\n" + more) as harness:
        harness.model.script = {"at": 13}
        await lose(await start(harness, PROMPT))
        end = response(await ended(harness))
        assert "model" not in end["holdline"]
        assert INPUT + OUTPUT == end["usage"]["total_tokens"]


async def test_a_call_that_brought_nothing_is_not_counted(going: Going) -> None:
    async with going() as harness:
        harness.model.script = {"at": 13}
        await lose(await start(harness, PROMPT))
        harness.model.script = {"at": 0}
        execution = harness.execution(await harness.claim())
        harness.model.status = 503
        harness.model.refuse = lambda _: {"message": "down"}
        await execution.run()
        harness.model.refuse, harness.model.script = lambda _: None, {}
        events = await ended(harness)
        assert [CONTINUED, CONTINUED] == kinds(events)
        usage = response(events)["usage"]
        assert (7 + INPUT, TOKENS + OUTPUT) == (usage["input_tokens"], usage["output_tokens"])


async def test_the_estimate_counts_each_call_and_earlier_turns_that_are_not_loaded(
    going: Going,
) -> None:
    async with going() as harness:
        harness.model.script = {"at": 13}
        await lose(await start(harness, PROMPT))
        grant = await harness.claim()
        job = Job("resp_1", "me", 1, {"model": "m", "input": PROMPT}, context_bytes=400)
        state = ResponseState(await harness.events(harness.only))
        state.continued = [40, 65]  # the last call wrote nothing
        spent = spent_before(harness.context.config, grant, job, state)
        sizes = [(len(PROMPT) + 400, 40), (len(PROMPT) + 440, 25)]
        total = sum(-(-size // 4) for pair in sizes for size in pair)
        assert ("m", total) == (spent.model, spent.tokens)
        nothing = replace(job, context_bytes=0)
        empty = spent_before(harness.context.config, grant, nothing, ResponseState([]))
        assert empty.usage is None
