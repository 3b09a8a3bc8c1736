"""Tests that conversations are compacted, with the official SDK and over a WebSocket."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import ResponseCompactionItem

from tests.fake_model import FakeModel
from tests.paths.compliance.calls import TRANSPORTS
from tests.paths.conftest import Shared, sdk
from tests.paths.messages import said, sent, shown
from tests.paths.sockets import TERMINAL, socket, until
from tests.system import START_SECONDS, System, wait_until

pytestmark = pytest.mark.timeout(120)
CODE = "invalid_encrypted_content"
LIMITS: Any = [{"type": "compaction", "compact_threshold": 1000}]


async def test_compact_returns_the_user_messages_and_one_compaction_item(
    shared: Shared, client: AsyncOpenAI
) -> None:
    prompt = shared.prompt()
    compacted = await client.responses.compact(
        model="demo",
        instructions="Be brief.",
        input=[said(prompt), said("An answer.", "assistant"), said("say=The_summary.")],
    )
    assert "response.compaction" == compacted.object
    assert compacted.usage.output_tokens
    kinds = [item.type for item in compacted.output]
    assert ["message", "message", "compaction"] == kinds
    first: Any = compacted.output[0]
    assert ("user", prompt) == (first.role, first.content[0].text)
    item = compacted.output[2]
    assert isinstance(item, ResponseCompactionItem)
    assert "summary" not in item.encrypted_content
    call = next(
        call
        for call in shared.model.calls
        if len(call.body["messages"]) > 1 and prompt in shown(call)
    )
    assert ["Be brief.", prompt, "An answer.", "say=The_summary."] == shown(call)[:4]
    assert "Write a summary" in shown(call)[4]

    # The item is readable after the stored response is gone.
    await client.responses.delete(compacted.id)
    follow = shared.prompt()
    answer = await client.responses.create(
        model="demo", input=[*sent(compacted.output), said(follow)]
    )
    [call] = shared.calls(follow)
    assert [prompt, "say=The_summary."] == shown(call)[:2]
    summary = shown(call)[2]
    assert summary.startswith("The following summary")
    assert [follow] == shown(call)[3:]
    assert "completed" == answer.status


async def test_a_compacted_response_can_be_continued_by_its_id(
    shared: Shared, client: AsyncOpenAI, elsewhere: AsyncOpenAI
) -> None:
    first = await client.responses.create(model="demo", input=shared.prompt("say=secret_answer"))
    compacted = await elsewhere.responses.compact(model="demo", previous_response_id=first.id)
    follow = shared.prompt()
    await client.responses.create(model="demo", input=follow, previous_response_id=compacted.id)
    [call] = shared.calls(follow)
    assert 3 == len(shown(call))
    assert shown(call)[1].startswith("The following summary")
    again = await client.responses.compact(model="demo", input=sent(compacted.output))
    assert ["message", "compaction"] == [item.type for item in again.output]


async def test_a_repeated_compaction_calls_the_model_once(
    shared: Shared, client: AsyncOpenAI
) -> None:
    prompt = shared.prompt()
    key = {"Idempotency-Key": prompt}
    asked: Any = {"model": "demo", "input": [said(prompt)], "extra_headers": key}
    before = len(shared.model.calls)
    first = await client.responses.compact(**asked)
    assert first == await client.responses.compact(**asked)
    mine = [call for call in shared.model.calls[before:] if prompt in shown(call)]
    assert 1 == len(mine)
    with pytest.raises(openai.UnprocessableEntityError):
        await client.responses.create(model="demo", input=[said(prompt)], extra_headers=key)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"model": "demo"}, "invalid_value", "input"),
        ({"model": "demo", "input": "x", "stream": True}, "unknown_parameter", "stream"),
        ({"model": "demo", "input": 5}, "invalid_value", "input"),
        (
            {"model": "demo", "previous_response_id": "resp_" + "0" * 35},
            "previous_response_not_found",
            "previous_response_id",
        ),
    ],
)
async def test_an_invalid_compaction_is_refused_by_name(
    shared: Shared, body: dict[str, Any], code: str, param: str
) -> None:
    async with aiohttp.ClientSession() as http:
        url = f"{shared.server.url}/v1/responses/compact"
        async with http.post(url, json=body) as response:
            error = (await response.json())["error"]
    assert (400, code, param) == (response.status, error["code"], error["param"])


@pytest.mark.parametrize("content", ["gAAAAB-of-a-provider", "hl1.", "hl1.!!", "hl1.AAAA"])
async def test_a_foreign_or_broken_compaction_item_is_refused_by_name(
    client: AsyncOpenAI, content: str
) -> None:
    item: Any = {"type": "compaction", "encrypted_content": content}
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(model="demo", input=[said("x"), item])
    assert (CODE, "input[1].encrypted_content") == (refused.value.code, refused.value.param)


async def test_a_trigger_compacts_and_the_next_turn_continues(
    shared: Shared, client: AsyncOpenAI
) -> None:
    first = await client.responses.create(model="demo", input=shared.prompt())
    trigger: Any = {"type": "compaction_trigger"}
    stream = await client.responses.create(
        model="demo", input=[trigger], previous_response_id=first.id, stream=True
    )
    events = [event async for event in stream]
    end: Any = events[-1]
    assert ["compaction"] == [item.type for item in end.response.output]
    follow = shared.prompt()
    await client.responses.create(model="demo", input=follow, previous_response_id=end.response.id)
    [call] = shared.calls(follow)
    assert 2 == len(shown(call))
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(model="demo", input=[trigger, said("x")])
    assert "input[0]" == refused.value.param
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(model="demo", input=[trigger])
    assert "input" == refused.value.param


async def test_a_trigger_concerns_only_its_own_request(shared: Shared, client: AsyncOpenAI) -> None:
    prompt = shared.prompt()
    stored: Any = [said(prompt), {"type": "compaction_trigger"}]
    conversation = await client.conversations.create(items=stored)
    answer = await client.responses.create(model="demo", input=[], conversation=conversation.id)
    assert ["message"] == [item.type for item in answer.output]
    [call] = shared.calls(prompt)
    assert [prompt] == shown(call)


async def test_a_context_above_the_threshold_is_compacted_before_the_answer(
    shared: Shared, client: AsyncOpenAI
) -> None:
    short = shared.prompt()
    first = await client.responses.create(model="demo", input=short, context_management=LIMITS)
    assert ["message"] == [item.type for item in first.output]
    assert 1 == len(shared.calls(short))

    long = shared.prompt("word " * 1200)
    second = await client.responses.create(
        model="demo", input=long, previous_response_id=first.id, context_management=LIMITS
    )
    assert ["compaction", "message"] == [item.type for item in second.output]
    [call] = [call for call in shared.model.calls if call.prompt.strip() == long.strip()]
    assert 2 == len(shown(call))
    assert shown(call)[0].startswith("The following summary")

    follow = shared.prompt()
    third = await client.responses.create(
        model="demo", input=follow, previous_response_id=second.id, context_management=LIMITS
    )
    assert ["message"] == [item.type for item in third.output]
    [call] = shared.calls(follow)
    assert shown(call)[0].startswith("The following summary")
    assert 3 == len(shown(call))
    for invalid in ({"type": "other"}, {"type": "compaction", "compact_threshold": 1}):
        with pytest.raises(openai.BadRequestError, match="context_management"):
            await client.responses.create(
                model="demo",
                input="x",
                context_management=[invalid],  # type: ignore[list-item]
            )


@pytest.mark.parametrize("store", [True, False])
async def test_a_conversation_is_compacted_over_a_socket(shared: Shared, store: bool) -> None:
    prompts = [shared.prompt(words) for words in ("word " * 1200, "say=now", "", "")]
    trigger = [{"type": "compaction_trigger"}]
    more = {"model": "m", "store": store, "context_management": LIMITS}
    async with TRANSPORTS["socket"](shared.server) as ask:
        turn = await ask({**more, "input": prompts[0]})
        kinds = []
        for asked in (prompts[1], prompts[2], trigger, prompts[3]):
            previous = turn.response["id"]
            turn = await ask({**more, "input": asked, "previous_response_id": previous})
            turn.check_complete()
            assert "completed" == turn.response["status"]
            kinds.append([item["type"] for item in turn.response["output"]])
    assert [["compaction", "message"], ["message"], ["compaction"], ["message"]] == kinds
    for prompt, count in (*zip(prompts[2:], (3, 2), strict=True),):
        [call] = shared.calls(prompt)
        assert shown(call)[0].startswith("The following summary")
        assert (prompt, count) == (shown(call)[-1], len(shown(call)))
    assert "now" == shown(shared.calls(prompts[2])[0])[1]


async def test_a_socket_that_is_cut_after_a_summary_resumes_with_the_answer(shared: Shared) -> None:
    history = [said("word " * 1200), said("Yes.", "assistant")]
    prompt = shared.prompt("mode=slow tokens=30")
    async with socket(shared.server) as ws:
        create = {"input": [*history, said(prompt)], "model": "m", "context_management": LIMITS}
        await ws.send_json({"type": "response.create", **create})
        events = await until(ws, "response.output_item.done")
    done = events[-1]
    assert "compaction" == done["item"]["type"]
    resume = {"response_id": next(one["response"]["id"] for one in events if "response" in one)}
    async with socket(shared.other) as ws:
        cursor = {"starting_after": done["sequence_number"], "item_id": done["item"]["id"]}
        shown_last = {**cursor, "event_type": done["type"]}
        await ws.send_json({"type": "holdline:resume", **resume, **shown_last})
        after = [one for one in await until(ws, *TERMINAL) if "sequence_number" in one]
    assert done["sequence_number"] + 1 == after[0]["sequence_number"]
    output = after[-1]["response"]["output"]
    assert (done["item"], "message") == (output[0], output[1]["type"])
    assert shared.answer_to(prompt) == output[1]["content"][0]["text"].strip()


async def test_a_summary_replaces_no_items_that_another_device_added_meanwhile(
    shared: Shared, client: AsyncOpenAI, elsewhere: AsyncOpenAI
) -> None:
    history = [said("word " * 1200), said("An answer.", "assistant")]
    conversation: Any = await client.conversations.create(items=history)
    slow, question = shared.prompt("mode=slow tokens=60"), shared.prompt("say=meanwhile")
    asked: Any = {"model": "demo", "conversation": conversation.id}
    first = asyncio.create_task(
        client.responses.create(input=slow, context_management=LIMITS, **asked)
    )
    await wait_until(lambda: shared.calls(slow) and shared.calls(slow)[0].sent)
    await elsewhere.responses.create(input=question, **asked)
    compacted = await first
    assert ["compaction", "message"] == [item.type for item in compacted.output]

    follow = shared.prompt()
    await client.responses.create(input=follow, context_management=LIMITS, **asked)
    [call] = shared.calls(follow)
    summary, *after = shown(call)
    assert summary.startswith("The following summary")
    assert [question, "meanwhile", compacted.output_text, follow] == after
    # The log of the conversation keeps its order.
    items = [one async for one in client.conversations.items.list(conversation.id, order="asc")]
    kinds = [item.type for item in items]
    assert 5 == kinds.index("compaction")


@pytest.mark.timeout(4 * START_SECONDS)  # it starts three processes
async def test_a_compaction_survives_the_death_of_its_worker(
    redis_url: str, tmp_path: Path
) -> None:
    async with FakeModel() as model, System(redis_url, tmp_path) as system:
        model.script = {"mode": "slow", "pace": "0.2", "tokens": "20"}
        server, worker = await asyncio.gather(system.server(), system.worker(model.url))
        async with sdk(server) as client:
            asked = asyncio.create_task(client.responses.compact(model="m", input=[said("Hi")]))
            await wait_until(lambda: model.calls and model.calls[0].sent)
            await worker.kill()
            model.script = {"tokens": "3"}
            await system.worker(model.url)
            compacted = await asked
    assert ["message", "compaction"] == [item.type for item in compacted.output]
    assert 2 == len(model.calls)
    assert json.dumps(model.calls[0].body) == json.dumps(model.calls[1].body)
