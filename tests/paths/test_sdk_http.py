"""Tests the unmodified official SDK over HTTP with a real server, worker and Redis."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.paths.conftest import Shared, sdk
from tests.system import System

EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
SLOW = "mode=slow tokens=40"
ORDER = [
    "response.created",
    "response.queued",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]


async def events(stream: Any) -> list[Any]:
    return [event async for event in stream]


def text_of(stream: list[Any]) -> str:
    return "".join(e.delta for e in stream if e.type == "response.output_text.delta")


def checksum_matches(response: Response) -> bool:
    assert response.model_extra is not None
    trailer = response.model_extra["holdline"]
    text = response.output_text.encode()
    return (len(text), hashlib.sha256(text).hexdigest()) == (trailer["bytes"], trailer["sha256"])


async def test_a_plain_answer_is_complete_with_checksum_and_usage(
    shared: Shared, client: AsyncOpenAI
) -> None:
    response = await client.responses.create(input=shared.prompt("tokens=20"), model="m")
    assert "completed" == response.status
    assert 20 == len(response.output_text.split())
    assert checksum_matches(response)
    assert response.usage is not None
    assert (7, 20, 27) == (
        response.usage.input_tokens,
        response.usage.output_tokens,
        response.usage.total_tokens,
    )
    assert response == await client.responses.retrieve(response.id)


async def test_a_stream_has_the_events_of_the_standard_in_order(
    shared: Shared, client: AsyncOpenAI
) -> None:
    stream = await events(
        await client.responses.create(input=shared.prompt(), model="m", stream=True)
    )
    assert list(range(len(stream))) == [event.sequence_number for event in stream]
    kinds = [event.type for event in stream]
    assert ORDER == sorted(set(kinds), key=kinds.index)
    for event in stream:
        EVENT.validate_python(event.to_dict())
    assert stream[-1].response.output_text == text_of(stream)


async def test_a_stream_can_resume_after_any_event_on_another_server(
    shared: Shared, client: AsyncOpenAI, elsewhere: AsyncOpenAI
) -> None:
    whole = await events(
        await client.responses.create(input=shared.prompt(), model="m", stream=True)
    )
    id_ = whole[0].response.id
    for after in range(-1, len(whole)):
        rest = await elsewhere.responses.retrieve(id_, stream=True, starting_after=after)
        assert whole[after + 1 :] == await events(rest)


async def test_a_background_answer_can_be_streamed_while_it_runs(
    shared: Shared, client: AsyncOpenAI, elsewhere: AsyncOpenAI
) -> None:
    prompt = shared.prompt(SLOW)
    accepted = await client.responses.create(input=prompt, model="m", background=True)
    assert accepted.status in ("queued", "in_progress")
    stream = await events(
        await elsewhere.responses.retrieve(accepted.id, stream=True, starting_after=1)
    )
    assert 2 == stream[0].sequence_number
    assert "response.completed" == stream[-1].type
    assert 1 == len(shared.calls(prompt))


async def test_closing_a_stream_does_not_stop_the_answer(
    shared: Shared, client: AsyncOpenAI, elsewhere: AsyncOpenAI
) -> None:
    prompt = shared.prompt(SLOW)
    stream = await client.responses.create(input=prompt, model="m", background=True, stream=True)
    first: Any = await anext(aiter(stream))
    await stream.close()
    rest = await events(
        await elsewhere.responses.retrieve(first.response.id, stream=True, starting_after=0)
    )
    assert "response.completed" == rest[-1].type
    assert checksum_matches(rest[-1].response)
    assert 1 == len(shared.calls(prompt))


async def test_a_client_timeout_does_not_stop_the_answer(
    shared: Shared, client: AsyncOpenAI
) -> None:
    prompt = shared.prompt(SLOW)
    key = {"Idempotency-Key": prompt}
    with pytest.raises(openai.APITimeoutError):
        await client.with_options(timeout=0.2).responses.create(
            input=prompt, model="m", extra_headers=key
        )
    again = await client.responses.create(input=prompt, model="m", extra_headers=key)
    assert "completed" == again.status
    assert 1 == len(shared.calls(prompt))


async def test_an_idempotency_key_with_another_body_is_rejected(
    shared: Shared, client: AsyncOpenAI
) -> None:
    key = {"Idempotency-Key": shared.prompt()}
    await client.responses.create(input="one", model="m", extra_headers=key)
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        await client.responses.create(input="other", model="m", extra_headers=key)
    assert "idempotency_key_reused" == refused.value.code


async def test_a_cancel_is_confirmed_and_keeps_the_text_so_far(
    shared: Shared, client: AsyncOpenAI, elsewhere: AsyncOpenAI
) -> None:
    prompt = shared.prompt("mode=slow tokens=200")
    seen: list[Any] = []
    async for event in await client.responses.create(input=prompt, model="m", stream=True):
        seen.append(event)
        if event.type == "response.output_text.delta" and len(text_of(seen).split()) == 5:
            cancelled = await elsewhere.responses.cancel(seen[0].response.id)
            assert "cancelled" == cancelled.status
    assert "response.incomplete" == seen[-1].type
    assert "cancelled" == seen[-1].response.status
    assert text_of(seen) == seen[-1].response.output_text
    assert 5 <= len(text_of(seen).split()) < 200
    assert shared.calls(prompt)[0].closed_by_client is not None


async def test_a_response_can_be_cancelled_before_a_worker_starts(system: System) -> None:
    async with sdk(await system.server()) as client:
        waiting = await client.responses.create(input="x", model="m", background=True)
        assert "queued" == waiting.status
        assert "cancelled" == (await client.responses.cancel(waiting.id)).status
        assert "cancelled" == (await client.responses.cancel(waiting.id)).status


async def test_the_model_receives_the_previous_turns(shared: Shared, client: AsyncOpenAI) -> None:
    first = await client.responses.create(
        input=shared.prompt(), model="m", instructions="Be brief."
    )
    prompt = shared.prompt()
    second = await client.responses.create(
        input=[{"role": "developer", "content": "Shout."}, {"role": "user", "content": prompt}],
        model="m",
        previous_response_id=first.id,
    )
    assert first.id == second.previous_response_id
    messages = shared.calls(prompt)[0].body["messages"]
    assert ["user", "assistant", "system", "user"] == [message["role"] for message in messages]
    assert [first.output_text, "Shout.", prompt] == [m["content"] for m in messages[1:]]


async def test_an_answer_at_the_token_limit_is_incomplete_with_its_reason(
    shared: Shared, client: AsyncOpenAI
) -> None:
    response = await client.responses.create(
        input=shared.prompt("mode=length"), model="m", max_output_tokens=16
    )
    assert "incomplete" == response.status
    assert response.incomplete_details is not None
    assert "max_output_tokens" == response.incomplete_details.reason


async def test_the_stream_accumulator_of_the_sdk_accepts_a_restart(
    shared: Shared, client: AsyncOpenAI
) -> None:
    prompt = shared.prompt("mode=eof times=1")
    async with client.responses.stream(input=prompt, model="m") as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert "holdline:restarted" in kinds
    assert 1 == len(final.output)
    assert checksum_matches(final)
    assert 2 == len(shared.calls(prompt))


async def test_heartbeats_do_not_disturb_the_sdk(beside: System, shared: Shared) -> None:
    async with sdk(await beside.server(HOLDLINE_PING_SECONDS="0.05")) as client:
        prompt = shared.prompt("mode=slow tokens=10 pace=0.2")
        stream = await events(await client.responses.create(input=prompt, model="m", stream=True))
    assert "response.completed" == stream[-1].type


async def test_a_deleted_response_returns_404(shared: Shared, client: AsyncOpenAI) -> None:
    response = await client.responses.create(input=shared.prompt(), model="m")
    await client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(response.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.delete(response.id)


async def test_the_input_items_can_be_listed(shared: Shared, client: AsyncOpenAI) -> None:
    said = [shared.prompt(), shared.prompt()]
    response = await client.responses.create(
        input=[{"role": "user", "content": one} for one in said], model="m", background=True
    )
    items = [item async for item in client.responses.input_items.list(response.id, order="asc")]
    assert said == [item.to_dict()["content"][0]["text"] for item in items]  # type: ignore[index]


async def test_models_are_listed(client: AsyncOpenAI) -> None:
    assert ["simulation"] == [one.id async for one in client.models.list()]


async def test_a_hundred_clients_join_running_answers_and_receive_them_completely(
    shared: Shared, client: AsyncOpenAI, elsewhere: AsyncOpenAI
) -> None:
    prompt = shared.prompt(SLOW)

    async def ask_and_join(index: int) -> bool:
        accepted = await client.responses.create(input=prompt, model="m", background=True)
        await asyncio.sleep((index % 20) * 0.05)
        joined = await events(await elsewhere.responses.retrieve(accepted.id, stream=True))
        return (
            list(range(len(joined))) == [event.sequence_number for event in joined]
            and joined[-1].response.output_text == text_of(joined)
            and checksum_matches(joined[-1].response)
        )

    whole = await asyncio.gather(*(ask_and_join(index) for index in range(100)))
    assert [True] * 100 == whole
    assert 100 == len(shared.calls(prompt))
