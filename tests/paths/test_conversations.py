"""Tests conversations as a client sees them: with the official SDK over HTTP and WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI

from tests.fake_model import FakeModel
from tests.paths.conftest import Shared, sdk
from tests.paths.conversation_devices import MESSAGE, asked, message
from tests.system import Server, System, wait_until

MISSING = "missing_required_parameter"


def texts(items: list[Any]) -> list[str]:
    return ["".join(part.text for part in item.content).strip() for item in items]


async def listed(client: AsyncOpenAI, id_: str, **params: Any) -> list[Any]:
    """Returns all items of a conversation, oldest first."""
    return [one async for one in client.conversations.items.list(id_, order="asc", **params)]


@asynccontextmanager
async def socket(server: Server) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """Opens a WebSocket."""
    async with aiohttp.ClientSession() as http, http.ws_connect(server.ws_url) as ws:
        yield ws


async def until(ws: aiohttp.ClientWebSocketResponse, *kinds: str) -> dict[str, Any]:
    """Receives events up to the first one that has one of the given types, and returns it."""
    while True:
        event: dict[str, Any] = await ws.receive_json(timeout=20)
        if event["type"] in kinds:
            return event


async def test_the_helpers_of_the_sdk_manage_a_conversation(
    client: AsyncOpenAI, elsewhere: AsyncOpenAI
) -> None:
    items = client.conversations.items
    made = await client.conversations.create(items=[message("one")], metadata={"topic": "demo"})
    assert ("conversation", {"topic": "demo"}) == (made.object, made.metadata)
    assert made == await elsewhere.conversations.retrieve(made.id)
    updated = await elsewhere.conversations.update(made.id, metadata={"topic": "other"})
    assert {"topic": "other"} == updated.metadata

    added = await items.create(
        made.id,
        items=[
            message([{"type": "input_text", "text": "two"}]),
            {"type": "message", "role": "developer", "content": "three"},
        ],
    )
    assert ["two", "three"] == texts(added.data)
    assert (added.data[0].id, added.data[1].id) == (added.first_id, added.last_id)
    assert ["one", "two", "three"] == texts(await listed(client, made.id, limit=1))
    newest = await items.list(made.id, limit=2)
    assert (["three", "two"], True) == (texts(newest.data), newest.has_more)
    found = await items.retrieve(added.first_id, conversation_id=made.id)
    assert added.data[0] == found

    assert updated == await items.delete(added.first_id, conversation_id=made.id)
    assert ["one", "three"] == texts(await listed(elsewhere, made.id))
    with pytest.raises(openai.NotFoundError):
        await items.retrieve(added.first_id, conversation_id=made.id)
    gone = await client.conversations.delete(made.id)
    assert (made.id, True, "conversation.deleted") == (gone.id, gone.deleted, gone.object)
    with pytest.raises(openai.NotFoundError) as refused:
        await client.conversations.retrieve(made.id)
    assert "conversation_not_found" == refused.value.code


async def test_a_response_continues_its_conversation_and_adds_its_items(
    shared: Shared, client: AsyncOpenAI, elsewhere: AsyncOpenAI
) -> None:
    made = await client.conversations.create(items=[message("hello")])
    prompts = [shared.prompt(f"tokens=2 turn={n}") for n in range(3)]
    first = await client.responses.create(input=prompts[0], model="m", conversation=made.id)
    assert first.conversation is not None
    assert made.id == first.conversation.id
    second = await elsewhere.responses.create(
        input=prompts[1], model="m", conversation={"id": made.id}, store=False
    )
    stream = await client.responses.create(
        input=prompts[2], model="m", conversation=made.id, stream=True
    )
    events: list[Any] = [event async for event in stream]
    last = events[-1].response
    expected = [
        "hello",
        *(prompts[0], first.output_text.strip()),
        *(prompts[1], second.output_text.strip()),
        *(prompts[2], last.output_text.strip()),
    ]
    items = await listed(client, made.id)
    assert expected == texts(items)
    found = await client.conversations.items.retrieve(items[-1].id, conversation_id=made.id)
    assert last.output[0].to_dict() == found.to_dict()
    [call] = shared.calls(prompts[2])
    assert expected[:-1] == asked(call)

    # The responses can be deleted without an effect on the conversation, and vice versa.
    await client.responses.delete(first.id)
    assert expected == texts(await listed(client, made.id))
    await client.conversations.delete(made.id)
    assert last == await client.responses.retrieve(last.id)
    with pytest.raises(openai.NotFoundError) as refused:
        await client.responses.create(input="more", model="m", conversation=made.id)
    assert ("conversation_not_found", "conversation") == (refused.value.code, refused.value.param)


async def test_a_cancelled_or_failed_response_leaves_its_input_and_what_was_said(
    shared: Shared, client: AsyncOpenAI
) -> None:
    made = await client.conversations.create()
    slow, bad = shared.prompt("mode=slow tokens=60"), shared.prompt("mode=400")
    runs = await client.responses.create(
        input=slow, model="m", conversation=made.id, background=True
    )
    await wait_until(lambda: shared.calls(slow) and shared.calls(slow)[0].sent)
    assert [slow] == texts(await listed(client, made.id))
    ended = await client.responses.cancel(runs.id)
    with pytest.raises(openai.APIError):
        await client.responses.create(input=bad, model="m", conversation=made.id)
    said = [ended.output_text.strip()] if ended.output else []
    assert [slow, *said, bad] == texts(await listed(client, made.id))


async def test_a_tool_call_in_a_conversation_is_answered_in_the_next_response(
    shared: Shared, client: AsyncOpenAI
) -> None:
    made = await client.conversations.create()
    tools: Any = [{"type": "function", "name": "f", "parameters": {}, "strict": False}]
    asking = await client.responses.create(
        input=shared.prompt("mode=call name=f"), model="m", conversation=made.id, tools=tools
    )
    [called] = asking.output
    assert called.type == "function_call"
    answered = await client.responses.create(
        input=[{"type": "function_call_output", "call_id": called.call_id, "output": "42"}],
        model="m",
        conversation=made.id,
        tools=tools,
    )
    assert "completed" == answered.status
    kinds = [item.type for item in await listed(client, made.id)]
    assert ["message", "function_call", "function_call_output", "message"] == kinds
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(
            input=[{"type": "function_call_output", "call_id": "other", "output": "42"}],
            model="m",
            conversation=made.id,
        )
    assert "input[0].call_id" == refused.value.param


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"conversation": "conv_x"}, "conversation_not_found", "conversation"),
        ({"conversation": "conv_000" + "0" * 32}, "conversation_not_found", "conversation"),
        ({"conversation": {"id": 5}}, "invalid_value", "conversation.id"),
        ({"conversation": {"id": "conv_x", "x": 1}}, "unknown_parameter", "conversation.x"),
        (
            {"conversation": "conv_x", "previous_response_id": "resp_x"},
            "mutually_exclusive_parameters",
            "conversation",
        ),
    ],
)
async def test_an_invalid_conversation_of_a_response_is_refused(
    client: AsyncOpenAI, shared: Shared, body: Any, code: str, param: str
) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        await client.responses.create(input="a", model="m", **body)
    assert (code, param) == (refused.value.code, refused.value.param)
    async with socket(shared.server) as ws:
        await ws.send_json({"type": "response.create", "input": "a", "model": "m", **body})
        error = await until(ws, "error")
    assert (code, param) == (error["error"]["code"], error["error"]["param"])


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "param"),
    [
        (
            "post",
            "",
            {"items": [{"role": "user"}]},
            MISSING,
            "items[0].content",
        ),
        ("post", "", {"items": "x"}, "invalid_value", "items"),
        ("post", "", {"items": [{**MESSAGE, "content": "a"}] * 21}, "invalid_value", "items"),
        ("post", "", {"items": [{"id": "msg_1"}]}, "item_not_found", "items"),
        ("post", "", {"metadata": {"a": 1}}, "invalid_value", "metadata.a"),
        ("post", "", {"other": 1}, "unknown_parameter", "other"),
        ("post", "/{id}", {}, MISSING, "metadata"),
        ("post", "/{id}", {"items": []}, "unknown_parameter", "items"),
        ("post", "/{id}/items", {"items": []}, "invalid_value", "items"),
        ("post", "/{id}/items", {}, "invalid_value", "items"),
        ("get", "/{id}/items?limit=101", None, "invalid_value", "limit"),
        ("get", "/{id}/items?order=up", None, "invalid_value", "order"),
        ("get", "/{id}/items?after=msg_1", None, "invalid_value", "after"),
        ("get", "/{id}/items?include=all", None, "invalid_value", "include"),
        ("get", "/{id}/items/msg_1", None, "item_not_found", "item_id"),
        ("delete", "/{id}/items/msg_1", None, "item_not_found", "item_id"),
        ("delete", "/conv_1", None, "conversation_not_found", "conversation"),
        ("get", "/conv_1/items", None, "conversation_not_found", "conversation"),
    ],
)
async def test_an_invalid_request_about_a_conversation_names_its_field(
    client: AsyncOpenAI, method: str, path: str, body: Any, code: str, param: str
) -> None:
    made = await client.conversations.create()
    path = f"/conversations{path.format(id=made.id)}"
    send = getattr(client, method)
    with pytest.raises(openai.APIStatusError) as refused:
        await send(path, cast_to=object, **({} if body is None else {"body": body}))
    assert (code, param) == (refused.value.code, refused.value.param)


async def test_a_repeated_request_with_an_idempotency_key_adds_nothing(
    shared: Shared, client: AsyncOpenAI
) -> None:
    key, prompt = {"Idempotency-Key": shared.prompt()}, "tokens=1 three"
    made = await client.conversations.create(items=[message("one")], extra_headers=key)
    again = await client.conversations.create(items=[message("one")], extra_headers=key)
    assert made == again
    for _ in range(2):
        await client.conversations.items.create(made.id, items=[message("two")], extra_headers=key)
        await client.responses.create(
            input=prompt, model="m", conversation=made.id, extra_headers=key
        )
    assert ["one", "two", prompt] == texts(await listed(client, made.id))[:3]
    assert 4 == len(await listed(client, made.id))


async def test_the_input_tokens_of_a_request_are_estimated_with_its_earlier_items(
    client: AsyncOpenAI, shared: Shared
) -> None:
    count = client.responses.input_tokens.count
    empty = await count()
    alone = await count(input="x" * 400, model="m")
    assert ("response.input_tokens", {"estimated": True}) == (
        alone.object,
        (alone.model_extra or {})["holdline"],
    )
    assert empty.input_tokens + 100 <= alone.input_tokens < empty.input_tokens + 150
    made = await client.conversations.create(items=[message("x" * 4000)])
    within = await count(input="x" * 400, conversation=made.id, personality="friendly")
    assert alone.input_tokens + 1000 <= within.input_tokens < alone.input_tokens + 1050
    before = await client.responses.create(input="tokens=1 " + "x" * 4000, model="m")
    after = await count(
        input="x" * 400,
        previous_response_id=before.id,
        tools=[{"type": "function", "name": "f", "parameters": {}, "strict": False}],
    )
    assert alone.input_tokens + 1000 < after.input_tokens
    for body, param in (
        ({"store": True}, "store"),
        ({"personality": "x" * 65}, "personality"),
        ({"input": [{"type": "message"}]}, "input[0].role"),
        ({"conversation": "conv_x"}, "conversation"),
    ):
        with pytest.raises(openai.APIStatusError) as refused:
            await client.post("/responses/input_tokens", body=body, cast_to=object)
        assert param == refused.value.param


async def test_a_conversation_that_exceeds_a_prompt_needs_truncation(system: System) -> None:
    async with FakeModel() as model:
        server, _ = await asyncio.gather(
            system.server(HOLDLINE_MAX_CONTEXT_BYTES="20000"), system.worker(model.url)
        )
        async with sdk(server) as client:
            made = await client.conversations.create(
                items=[{"type": "message", "role": "developer", "content": "the rules"}]
            )
            said = [
                await client.conversations.items.create(
                    made.id, items=[message(f"{number} " + "x" * 1_000)]
                )
                for number in range(30)
            ]
            await client.conversations.items.delete(said[-1].first_id, conversation_id=made.id)
            with pytest.raises(openai.BadRequestError) as refused:
                await client.responses.create(input="a", model="m", conversation=made.id)
            assert ("context_length_exceeded", "conversation") == (
                refused.value.code,
                refused.value.param,
            )
            answer = await client.responses.create(
                input="tokens=1", model="m", conversation=made.id, truncation="auto"
            )
            assert "completed" == answer.status
            rules, *rest, own = asked(model.calls[-1])
            assert ("the rules", "tokens=1") == (rules, own)
            numbers = [int(text.split()[0]) for text in rest]
            assert list(range(numbers[0], 29)) == numbers
            assert 10 < len(numbers) < 20
            assert 32 == len(await listed(client, made.id))


async def test_the_storage_of_a_user_and_the_life_of_a_conversation_are_bounded(
    system: System,
) -> None:
    server = await system.server(
        HOLDLINE_SUBJECT_CONVERSATION_BYTES="3300",
        HOLDLINE_MAX_CONVERSATION_BYTES="2000",
        HOLDLINE_CONVERSATION_RETENTION_SECONDS="2",
    )
    items = [message("x" * 800)]
    async with sdk(server) as client:
        made = await client.conversations.create(items=items)
        with pytest.raises(openai.BadRequestError) as full:
            await client.conversations.items.create(made.id, items=items * 2)
        assert "conversation_full" == full.value.code
        await client.conversations.create(items=items[:1])
        with pytest.raises(openai.RateLimitError) as refused:
            await client.conversations.create()
        assert "insufficient_quota" == refused.value.code
        header = refused.value.response.headers["X-RateLimit-Limit-Conversation-Bytes"]
        assert "3300" == header

        async def expired() -> bool:
            with contextlib.suppress(openai.NotFoundError):
                await client.conversations.retrieve(made.id)
                return False
            return True

        await wait_until(expired, 10)
        await client.conversations.create()


async def write_at_once(shared: Shared, client: AsyncOpenAI, turns: int) -> None:
    """Two devices write `turns` turns into one conversation at once, each over its own socket."""
    made = await client.conversations.create()
    answers: dict[str, str] = {}

    async def device(server: Any, name: str) -> None:
        async with socket(server) as ws:
            for n in range(turns):
                prompt = f"tokens=1 device={name} turn={n}"
                await ws.send_json(
                    {
                        "type": "response.create",
                        "input": prompt,
                        "model": "m",
                        "conversation": made.id,
                        "truncation": "auto",
                    }
                )
                end = await until(ws, "response.completed", "error", "response.failed")
                assert "response.completed" == end["type"], end
                answers[prompt] = end["response"]["output"][0]["id"]

    await asyncio.gather(device(shared.server, "a"), device(shared.other, "b"))
    items = await listed(client, made.id, limit=100)
    async with AsyncOpenAI(base_url=f"{shared.other.url}/v1", api_key="any") as other:
        assert items == await listed(other, made.id, limit=37)
    assert 4 * turns == len(items) == len({item.id for item in items})
    places = {item.id: place for place, item in enumerate(items)}
    asked = {texts([item])[0]: place for place, item in enumerate(items) if item.role == "user"}
    for name in "ab":
        before = -1
        for n in range(turns):
            prompt = f"tokens=1 device={name} turn={n}"
            # Each device sees its own turns in the order in which it wrote them.
            assert before < asked[prompt] < places[answers[prompt]]
            before = places[answers[prompt]]
    await client.conversations.delete(made.id)


async def test_two_devices_that_write_at_once_get_one_order(
    shared: Shared, client: AsyncOpenAI
) -> None:
    await write_at_once(shared, client, 15)


@pytest.mark.heavy
@pytest.mark.timeout(1800)
async def test_two_devices_write_a_thousand_turns_at_once(
    shared: Shared, client: AsyncOpenAI
) -> None:
    await write_at_once(shared, client, 500)
