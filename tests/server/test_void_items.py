"""Tests that a request may refer to items of a void attempt, because clients keep these items."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.ids import item_id, response_of
from jobs.log.codec import Event, encode_event
from jobs.log.events import restarted
from jobs.queue import Queue
from jobs.record import Status
from jobs.redis.pipe import Pipe
from server.conversation import Conversations
from tests.error_codes import own_code
from tests.jobs.factories import SETTINGS, ending, said, saying
from tests.server.conftest import Client
from tests.server.factories import Answer, Worker

Json = dict[str, Any]
USER = {"type": "message", "role": "user", "content": "And?"}
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "5"}


def reference(id_: str) -> Json:
    return {"type": "item_reference", "id": id_}


async def ask(client: Client, *items: Json, **more: Any) -> tuple[int, Json]:
    body = {"input": list(items), "background": True, **more}
    async with client.post("/v1/responses", json=body) as response:
        return response.status, await response.json()


async def append(answer: Answer, *events: Event) -> None:
    await answer.writer.append([encode_event(event) for event in events])


async def restart(client: Client, worker: Worker, pipe: Pipe, **more: Any) -> list[str]:
    """Returns the ids of the items of a response: a void message, a void call and the answer."""
    assert 200 == (await ask(client, USER, **more))[0]
    first = await worker.take()
    job = first.job
    call = {
        "type": "function_call",
        "id": item_id("fc", job.id, 1, 1),
        "call_id": "call_1",
        "name": "f",
        "arguments": "{}",
        "status": "completed",
    }
    added = {"type": "response.output_item.added", "output_index": 1, "item": call}
    await append(first, *saying(job, 1, 0, ["Be"]), added)
    await Queue(pipe, SETTINGS).leases.give_back(job.id, first.grant.claim, "draining")
    second = await worker.take()
    await append(second, restarted(job, 2, "draining"), *saying(job, 2, 2, ["Because."]))
    end = [*said(job, 2, 2, "Because."), ending(job, Status.COMPLETED, "Because.", 2)]
    await second.writer.finish(
        Status.COMPLETED, [encode_event(event) for event in end], retention_ms=60_000
    )
    async with client.get(f"/v1/responses/{job.id}") as response:
        [answer] = (await response.json())["output"]
    return [item_id("msg", job.id, 1, 0), call["id"], answer["id"]]


async def test_references_to_items_of_a_void_attempt_are_left_out_with_the_results_of_calls(
    client: Client, worker: Worker, pipe: Pipe
) -> None:
    message, call, answer = await restart(client, worker, pipe)
    named = [reference(id_) for id_ in (message, call)]
    status, body = await ask(client, USER, *named, RESULT, reference(answer), USER)
    assert (200, None) == (status, body["error"])
    asked = (await worker.take()).job.params["input"]
    assert ["And?", "Because.", "And?"] == [item["content"][0]["text"] for item in asked]

    status, body = await ask(client, *named)
    assert (400, "input") == (status, body["error"]["param"]), "nothing is left to answer"
    async with client.post("/v1/conversations", json={"items": named}) as response:
        assert 200 == response.status


async def test_the_results_of_void_calls_are_left_out_of_the_next_request_in_a_conversation(
    client: Client, worker: Worker, pipe: Pipe
) -> None:
    async with client.post("/v1/conversations", json={}) as response:
        conversation = (await response.json())["id"]
    await restart(client, worker, pipe, conversation=conversation)
    status, body = await ask(client, RESULT, USER, conversation=conversation)
    assert (200, None) == (status, body["error"])
    job = (await worker.take()).job
    assert ["And?", "Because.", "And?"] == [
        item["content"][0]["text"] for item in (*job.context, *job.params["input"])
    ]
    unknown = {**RESULT, "call_id": "call_2"}
    status, body = await ask(client, USER, unknown, conversation=conversation)
    assert (400, "input[1].call_id") == (status, body["error"]["param"])


@pytest.mark.parametrize("how", ["conversation", "previous_response_id"])
async def test_the_result_of_a_void_call_is_left_out_after_other_turns(
    client: Client, worker: Worker, pipe: Pipe, how: str
) -> None:
    """Another device writes into the conversation before the client sends its result."""
    last = ""
    if how == "conversation":
        async with client.post("/v1/conversations", json={}) as response:
            last = (await response.json())["id"]
        await restart(client, worker, pipe, conversation=last)
        more = {"items": [USER]}
        async with client.post(f"/v1/conversations/{last}/items", json=more) as response:
            assert 200 == response.status
    else:
        ids = await restart(client, worker, pipe)
        last = response_of(ids[0])
    for _ in range(2):
        status, body = await ask(client, USER, **{how: last})
        assert 200 == status
        await worker.answer("Because.")
        last = last if how == "conversation" else body["id"]
    status, body = await ask(client, RESULT, USER, **{how: last})
    assert (200, None) == (status, body["error"])
    job = (await worker.take()).job
    assert ["message"] == [item["type"] for item in job.params["input"]]
    status, body = await ask(client, USER, {**RESULT, "call_id": "call_2"}, **{how: last})
    assert (400, "input[1].call_id") == (status, body["error"]["param"])


async def test_the_void_calls_of_few_responses_are_looked_up(
    client: Client, worker: Worker, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.conversation.MAX_REFERRED", 2)
    async with client.post("/v1/conversations", json={}) as response:
        conversation = (await response.json())["id"]
    await restart(client, worker, pipe, conversation=conversation)
    for expected in (200, 400):
        status, body = await ask(client, USER, conversation=conversation)
        assert 200 == status
        await worker.answer("Because.")
        status, body = await ask(client, RESULT, USER, conversation=conversation)
        assert (expected, None if expected == 200 else "input[0].call_id") == (
            status,
            body["error"] and body["error"]["param"],
        )
        if expected == 200:
            await worker.answer("Because.")


async def test_another_unknown_item_of_a_restarted_response_is_refused(
    client: Client, worker: Worker, pipe: Pipe
) -> None:
    message, _, _ = await restart(client, worker, pipe)
    for id_ in (f"{message[:-2]}09", message.replace("msg_", "rs_")):
        status, body = await ask(client, USER, reference(id_))
        assert (404, "item_not_found") == (status, own_code(body["error"]))


async def test_the_log_of_a_response_is_read_for_void_items_once(
    client: Client, worker: Worker, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await restart(client, worker, pipe)
    read: list[str] = []
    void = Conversations._void

    async def count(self: Conversations, owner: str, response_id: str) -> dict[str, str | None]:
        read.append(response_id)
        return await void(self, owner, response_id)

    monkeypatch.setattr(Conversations, "_void", count)
    assert 200 == (await ask(client, USER, *map(reference, ids)))[0]
    assert 1 == len(read)
