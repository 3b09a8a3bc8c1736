"""One attempt after the other on every way in which a model can be wrong."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from typing import Any

import pytest

from jobs.log.events import RESTARTED
from jobs.log.response_state import ResponseState
from jobs.names import Partition
from jobs.record import Status
from jobs.redis.pipe import Pipe
from tests.system import wait_until
from tests.worker.conftest import MakeHarness
from tests.worker.harness import Harness, response, said
from worker.execute import Stop


def numbered(call: int, tokens: int = 20) -> str:
    return "".join(f"c{call}t{index} " for index in range(tokens))


async def test_an_answer_is_the_standards_events_in_their_order(harness: Harness) -> None:
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


async def test_a_whole_answer_has_its_proof_its_receipt_and_its_usage(harness: Harness) -> None:
    await harness.execute("mode=ok")
    ended = response(await harness.events(harness.only))
    text = numbered(1).encode()
    assert ("completed", None, None) == (
        ended["status"],
        ended["error"],
        ended["incomplete_details"],
    )
    assert 27 == ended["usage"]["total_tokens"]
    proof = ended["holdline"]
    assert (1, hashlib.sha256(text).hexdigest(), len(text)) == (
        proof["attempts"],
        proof["sha256"],
        proof["bytes"],
    )
    assert {"queued_ms", "first_token_ms", "model_ms", "total_ms"} == set(proof["timing"])


FAILED_FOR_GOOD = {
    "400": "upstream_rejected",
    "401": "upstream_unauthorized",
    "403": "upstream_unauthorized",
    "404": "upstream_model_not_found",
    "418": "upstream_rejected",
}
FAILED_AFTER_ALL = {
    "408": "upstream_unavailable",
    "500": "upstream_unavailable",
    "502": "upstream_unavailable",
    "503": "upstream_busy",
    "busy": "upstream_busy",
    "html": "upstream_malformed",
    "eof": "upstream_truncated",
    "done": "upstream_truncated",
    "cutevent": "upstream_truncated",
    "cutchunk": "upstream_unavailable",
    "rst": "upstream_unavailable",
    "drop": "upstream_unavailable",
    "badjson": "upstream_malformed",
    "badutf": "upstream_malformed",
    "shape": "upstream_malformed",
    "errorobject": "upstream_error",
}


SILENT = {
    "silent": "upstream_timeout",
    "headers": "upstream_timeout",
    "comments": "upstream_timeout",
    "hang": "upstream_stalled",
    "comments at=5": "upstream_stalled",
}
SHORT = {
    "upstream_timeout": {"HOLDLINE_FIRST_TOKEN_SECONDS": "0.4"},
    "upstream_stalled": {"HOLDLINE_STALL_TIMEOUT_SECONDS": "0.4"},
}


@pytest.mark.parametrize(("mode", "code"), FAILED_FOR_GOOD.items())
async def test_a_refusal_for_good_fails_at_once(harness: Harness, mode: str, code: str) -> None:
    view = await harness.execute(f"mode={mode}")
    assert Status.FAILED is view.status
    assert code == response(await harness.events(harness.only))["error"]["code"]
    assert 1 == len(harness.model.calls)


@pytest.mark.parametrize(("mode", "code"), [*FAILED_AFTER_ALL.items(), *SILENT.items()])
async def test_what_may_pass_is_tried_again_and_fails_in_the_end(
    make_harness: MakeHarness, mode: str, code: str
) -> None:
    async with make_harness(**SHORT.get(code, {})) as harness:
        view = await harness.execute(f"mode={mode}", attempts=3)
        assert Status.FAILED is view.status
        events = await harness.events(harness.only)
        assert code == response(events)["error"]["code"]
        assert 3 == len(harness.model.calls)
        restarts = [event for event in events if event["type"] == RESTARTED]
        assert [(2, code), (3, code)] == [(event["attempt"], event["reason"]) for event in restarts]
        # The partial text of the last call is kept, and none of another call is in it.
        assert harness.model.calls[-1].sent == said(events)
        assert "completed" not in {item["status"] for item in response(events)["output"]}


@pytest.mark.parametrize(("mode", "code"), [*FAILED_AFTER_ALL.items(), *SILENT.items()])
async def test_a_second_attempt_makes_it_whole(
    make_harness: MakeHarness, mode: str, code: str
) -> None:
    async with make_harness(**SHORT.get(code, {})) as harness:
        view = await harness.execute(f"mode={mode} times=1", attempts=2)
        assert Status.COMPLETED is view.status
        events = await harness.events(harness.only)
        assert numbered(2) == said(events)
        assert 2 == response(events)["holdline"]["attempts"]


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
        ("wholebutcut", Status.COMPLETED, None, numbered(1)),
    ],
)
async def test_how_an_answer_may_end(
    harness: Harness, mode: str, status: Status, reason: str | None, text: str
) -> None:
    view = await harness.execute(f"mode={mode}")
    assert status is view.status
    events = await harness.events(harness.only)
    assert text == said(events)
    ended = response(events)
    assert ({"reason": reason} if reason else None) == ended["incomplete_details"]
    assert 1 == len(ended["output"])


async def test_reasoning_longer_than_a_silence_is_no_silence(make_harness: MakeHarness) -> None:
    async with make_harness(HOLDLINE_STALL_TIMEOUT_SECONDS="0.1") as harness:
        view = await harness.execute("mode=thinking pace=0.02")
        assert Status.COMPLETED is view.status


async def test_a_giant_answer_is_cut_at_the_limit_and_its_beginning_kept(harness: Harness) -> None:
    await harness.execute("mode=giant")
    events = await harness.events(harness.only)
    ended = response(events)
    assert ("failed", "output_too_long") == (ended["status"], ended["error"]["code"])
    assert 1_000_000 == ended["holdline"]["bytes"]
    assert max(len(event.get("delta", "")) for event in events) <= 4096
    await wait_until(lambda: harness.model.calls[0].closed_by_client)


async def test_one_giant_delta_is_cut_as_well(make_harness: MakeHarness) -> None:
    async with make_harness(HOLDLINE_MAX_OUTPUT_BYTES="7") as harness:
        await harness.execute("say=aaaäää")
        assert "aaaää" == said(await harness.events(harness.only))


async def test_a_call_that_takes_too_long_is_ended(make_harness: MakeHarness) -> None:
    async with make_harness(HOLDLINE_MODEL_TIMEOUT_SECONDS="0.3") as harness:
        view = await harness.execute("mode=slow tokens=1000")
        assert Status.FAILED is view.status
        events = await harness.events(harness.only)
        assert "upstream_over_time" == response(events)["error"]["code"]
        assert said(events)


async def test_an_endpoint_that_is_not_there_is_unavailable(make_harness: MakeHarness) -> None:
    async with make_harness(OPENAI_BASE_URL="http://127.0.0.1:9/v1") as harness:
        await harness.execute("hi", attempts=3)
        ended = response(await harness.events(harness.only))
        assert "upstream_unavailable" == ended["error"]["code"]


async def test_retry_after_is_waited_for(harness: Harness) -> None:
    began = time.monotonic()
    await harness.execute("mode=busy times=1 after=0.5", attempts=2)
    assert 0.5 <= time.monotonic() - began
    assert "completed" == response(await harness.events(harness.only))["status"]


@pytest.mark.parametrize("mode", ["400", "500", "busy", "errorobject"])
async def test_a_providers_words_go_nowhere(
    harness: Harness, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await harness.execute(f"mode={mode} marker-of-the-prompt", attempts=1)
    written = json.dumps(await harness.events(harness.only)) + "".join(capsys.readouterr())
    assert "sk-secret" in str(harness.model.calls[0].headers)
    assert "sk-secret" not in written
    assert "marker-of-the-prompt" not in written


@pytest.mark.parametrize("mode", ["silent", "headers", "hang", "slow tokens=1000"])
async def test_a_cancel_closes_the_models_connection_within_250_ms(
    harness: Harness, mode: str
) -> None:
    response_id = await harness.submit(f"mode={mode}")
    execution = harness.execution(await harness.claim())
    running = asyncio.create_task(execution.run())
    await wait_until(lambda: harness.model.calls)
    await asyncio.sleep(0.1)
    asked = time.monotonic()
    execution.stop(Stop.CANCEL)
    await running
    call = harness.model.calls[0]
    await wait_until(lambda: call.closed_by_client)
    assert call.closed_by_client is not None
    assert call.closed_by_client - asked < 0.25
    view = await harness.view(response_id)
    assert Status.CANCELLED is view.status
    events = await harness.events(response_id)
    ended = response(events)
    assert ("cancelled", None) == (ended["status"], ended["error"])
    assert bool(said(events)) == bool(ended["usage"])


async def test_a_cancel_tells_the_usage_that_the_provider_told(harness: Harness) -> None:
    response_id = await harness.submit("mode=usage")
    execution = harness.execution(await harness.claim())
    running = asyncio.create_task(execution.run())
    await wait_until(lambda: harness.model.calls)
    await asyncio.sleep(0.1)
    execution.stop(Stop.CANCEL)
    await running
    assert 20 == response(await harness.events(response_id))["usage"]["output_tokens"]


async def test_a_cancel_that_an_append_finds_is_obeyed(harness: Harness) -> None:
    response_id = await harness.submit("mode=slow tokens=1000")
    running = asyncio.create_task(harness.execution(await harness.claim()).run())
    await wait_until(lambda: harness.model.calls and harness.model.calls[0].sent)
    await harness.context.queue.cancel(response_id, 0, [])
    await running
    assert Status.CANCELLED is (await harness.view(response_id)).status


async def test_a_job_that_was_cancelled_before_its_claim_calls_no_model(harness: Harness) -> None:
    response_id = await harness.submit("mode=rst times=1")
    grant = await harness.claim()
    await harness.context.queue.cancel(response_id, 0, [])
    await harness.context.queue.give_back(response_id, grant.claim, "draining")
    await harness.execution(await harness.claim()).run()
    assert Status.CANCELLED is (await harness.view(response_id)).status
    assert [] == harness.model.calls


async def test_what_is_given_back_goes_on_at_once(harness: Harness) -> None:
    response_id = await harness.submit("mode=hang times=1")
    execution = harness.execution(await harness.claim())
    running = asyncio.create_task(execution.run())
    await wait_until(lambda: harness.model.calls and harness.model.calls[0].sent)
    await asyncio.sleep(0.05)
    execution.stop(Stop.GIVE_BACK)
    await running
    grants = await harness.context.queue.claim(0, "next", 1)
    assert [(2, 0, "draining")] == [(one.attempt, one.strikes, one.reason) for one in grants]
    await harness.execution(grants[0]).run()
    events = await harness.events(response_id)
    assert numbered(2) == said(events)
    assert ["draining"] == [event["reason"] for event in events if event["type"] == RESTARTED]


async def begun(harness: Harness) -> asyncio.Task[None]:
    """An attempt whose model has said something."""
    running = asyncio.create_task(harness.execution(await harness.claim()).run())
    await wait_until(lambda: harness.model.calls and harness.model.calls[-1].sent)
    return running


async def test_a_worker_that_lost_its_claim_writes_not_one_byte_more(harness: Harness) -> None:
    response_id = await harness.submit("mode=slow pace=0.05 times=1")
    running = await begun(harness)
    # Its lease runs out while nobody renews it, and a second attempt takes over.
    second = await harness.claim()
    assert (2, "worker_lost") == (second.attempt, second.reason)
    await harness.execution(second).run()
    before = await harness.view(response_id)
    await running
    await wait_until(lambda: harness.model.calls[0].closed_by_client)
    after = await harness.view(response_id)
    assert before.entries == after.entries
    events = await harness.events(response_id)
    at = [event["type"] for event in events].index(RESTARTED)
    assert "c1t" not in json.dumps(events[at:])
    assert numbered(2) == said(events)


async def test_a_lost_lease_ends_a_silent_call_too(harness: Harness) -> None:
    response_id = await harness.submit("mode=headers")
    execution = harness.execution(await harness.claim())
    running = asyncio.create_task(execution.run())
    await wait_until(lambda: harness.model.calls)
    length = (await harness.view(response_id)).length
    execution.stop(Stop.LOST)
    await running
    await wait_until(lambda: harness.model.calls[0].closed_by_client)
    assert length == (await harness.view(response_id)).length


async def test_a_deleted_response_ends_its_call(harness: Harness, pipe: Pipe) -> None:
    response_id = await harness.submit("mode=slow tokens=1000")
    running = await begun(harness)
    await harness.context.queue.delete(response_id)
    await running
    await wait_until(lambda: harness.model.calls[0].closed_by_client)
    assert [] == await pipe.call("KEYS", "*:log:*")


async def test_a_tail_that_redis_lost_is_written_again(harness: Harness, pipe: Pipe) -> None:
    response_id = await harness.submit("mode=slow pace=0.01 tokens=60")
    running = await begun(harness)
    await wait_until(lambda: len(harness.model.calls[0].sent) > 60)
    seen = await harness.view(response_id)
    await pipe.call("LTRIM", Partition(0).log(response_id), 0, seen.length - 5)
    await running
    view = await harness.view(response_id)
    assert Status.COMPLETED is view.status
    assert seen.entries == view.entries[: seen.length]
    assert numbered(1, 60) == said(await harness.events(response_id))
    assert 1 == len(harness.model.calls)


async def test_a_log_that_lost_what_came_before_the_attempt_is_begun_again(
    harness: Harness, pipe: Pipe
) -> None:
    response_id = await harness.submit("mode=slow pace=0.01 tokens=40")
    running = await begun(harness)
    await pipe.call("LTRIM", Partition(0).log(response_id), 0, 0)
    await running
    await wait_until(lambda: harness.model.calls[0].closed_by_client)
    await harness.execution(await harness.claim()).run()
    events = await harness.events(response_id)
    assert ["log_lost"] == [event["reason"] for event in events if event["type"] == RESTARTED]
    assert numbered(2, 40) == said(events)


async def test_memory_that_is_full_for_a_while_delays_and_loses_nothing(
    harness: Harness, pipe: Pipe
) -> None:
    response_id = await harness.submit("mode=slow pace=0.01 tokens=30")
    running = await begun(harness)
    try:
        await pipe.call("CONFIG", "SET", "maxmemory", "1")
        await asyncio.sleep(0.5)
        during = (await harness.view(response_id)).length
    finally:
        await pipe.call("CONFIG", "SET", "maxmemory", "0")
    await running
    view = await harness.view(response_id)
    assert (Status.COMPLETED, True) == (view.status, during < view.length)
    assert numbered(1, 30) == said(await harness.events(response_id))
    assert 1 == len(harness.model.calls)


async def test_a_job_that_cannot_be_read_is_buried_and_its_client_told(
    harness: Harness, pipe: Pipe
) -> None:
    response_id = await harness.submit("hi", temperature=0.25)
    await pipe.call("HSET", Partition(0).job(response_id), "job", b"\x93\xff garbage")
    await harness.execution(await harness.claim()).run()
    assert Status.FAILED is (await harness.view(response_id)).status
    ended = response(await harness.events(response_id))
    assert ("undecodable", "m", 0.25) == (
        ended["error"]["code"],
        ended["model"],
        ended["temperature"],
    )
    assert [response_id.encode()] == await pipe.call("LRANGE", Partition(0).dead, 0, -1)


async def test_a_log_that_cannot_be_read_is_buried_too(harness: Harness, pipe: Pipe) -> None:
    response_id = await harness.submit("mode=500")
    await harness.execution(await harness.claim()).run()
    await pipe.call("LSET", Partition(0).log(response_id), 1, b"garbage")
    await harness.execution(await harness.claim()).run()
    view = await harness.view(response_id)
    assert (Status.FAILED, 1) == (view.status, len(harness.model.calls))


async def test_input_that_cannot_be_shown_to_a_model_is_refused(harness: Harness) -> None:
    audio: dict[str, Any] = {"role": "user", "content": [{"type": "input_audio"}]}
    response_id = await harness.submit("", input=[audio])
    await harness.execution(await harness.claim()).run()
    ended = response(await harness.events(response_id))
    assert "unsupported_input" == ended["error"]["code"]
    assert [] == harness.model.calls


async def test_the_first_piece_does_not_wait_for_the_second(harness: Harness) -> None:
    response_id = await harness.submit("mode=hang at=1")
    running = await begun(harness)
    await asyncio.sleep(0.05)
    transcript = ResponseState(await harness.events(response_id))
    assert "c1t0 " == transcript.output[0]["content"][0]["text"]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_model_faster_than_redis_is_batched(harness: Harness) -> None:
    await harness.execute("mode=fast tokens=20000")
    events = await harness.events(harness.only)
    assert numbered(1, 20_000) == said(events)
    assert len(events) < 2000


async def test_many_at_once_are_never_mixed(harness: Harness) -> None:
    ids = [await harness.submit(f"say=mine{index}_") for index in range(50)]
    grants = [await harness.claim() for _ in ids]
    await asyncio.gather(*(harness.execution(grant).run() for grant in grants))
    for index, response_id in enumerate(ids):
        assert f"mine{index} " == said(await harness.events(response_id))
