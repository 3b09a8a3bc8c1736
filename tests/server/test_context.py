"""Tests that a request's size, including earlier turns, is checked before the request is built."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from jobs.record import TurnSlice
from jobs.redis.pipe import Pipe
from server.api.context import MAX_ITEMS, Context, fitting, packed_bytes
from server.api.problem import Problem
from server.conversation import Conversations
from tests.error_codes import own_code
from tests.server.conftest import Client, Serve
from tests.server.factories import Worker

ALL = "/v1/responses"
BIG = "x" * 2000


def user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": text}


async def ask(client: Client, **more: Any) -> tuple[int, dict[str, Any]]:
    body = {"input": "Why?", "background": True, **more}
    async with client.post(ALL, json=body) as response:
        return response.status, await response.json()


def refused(answer: tuple[int, dict[str, Any]]) -> tuple[int, str, str, str]:
    status, body = answer
    error = body["error"]
    return status, own_code(error), error["code"], error["param"]


async def test_references_count_with_the_size_of_their_items(
    serve: Serve, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    load = Conversations._items_beside

    async def count(self: Conversations, owner: str, id_: str) -> list[dict[str, Any]]:
        loaded.append(id_)
        return await load(self, owner, id_)

    monkeypatch.setattr(Conversations, "_items_beside", count)
    client = await serve(max_context_bytes="10000")
    _, first = await ask(client, input=BIG)
    await worker.answer("Because.")
    async with client.get(f"{ALL}/{first['id']}/input_items") as response:
        id_ = (await response.json())["data"][0]["id"]
    reference = {"type": "item_reference", "id": id_}
    assert 200 == (await ask(client, input=[reference] * 3))[0]
    assert [id_] == loaded, "an item that is named three times is loaded once"
    assert (400, "context_too_large", "context_length_exceeded", "input") == refused(
        await ask(client, input=[reference] * 5)
    )


async def test_a_chain_grows_to_the_limit_or_drops_its_oldest_turns(
    serve: Serve, worker: Worker
) -> None:
    client = await serve(max_context_bytes="10000")
    previous: dict[str, str] = {}
    job = None
    for turn in range(8):
        status, body = await ask(client, input=f"{turn}{BIG}", truncation="auto", **previous)
        assert 200 == status
        job = (await worker.answer("Because.")).job
        assert packed_bytes([job.context, job.params]) < 10_000
        previous = {"previous_response_id": body["id"]}
    assert job is not None
    first = job.context[0]["content"][0]["text"]
    assert first.startswith("4"), "the oldest turns are left out whole"
    assert (400, "context_too_large", "context_length_exceeded", "previous_response_id") == refused(
        await ask(client, input=BIG, **previous)
    )


async def test_each_turn_of_a_conversation_is_stored_once(
    client: Client, worker: Worker, pipe: Pipe
) -> None:
    previous: dict[str, str] = {}
    sizes = []
    for _ in range(24):
        _, body = await ask(client, input=10 * BIG, **previous)
        await worker.answer("Because.")
        previous = {"previous_response_id": body["id"]}
        keys = await pipe.call("KEYS", "*")
        found = [await pipe.call("MEMORY", "USAGE", key, "SAMPLES", "0") for key in keys]
        sizes.append(sum(size or 0 for size in found))  # the key of an earlier claim may expire

    steps = [after - before for before, after in pairwise(sizes)]
    assert steps[-1] < 1.2 * steps[1], "a turn costs as much as the ones before it"
    assert sizes[-1] < 3 * 24 * 10 * len(BIG)


async def test_a_chain_with_a_deleted_turn_cannot_be_continued(
    client: Client, worker: Worker
) -> None:
    ids: list[str] = []
    for previous in (None, 0, 1):
        more = {} if previous is None else {"previous_response_id": ids[previous]}
        status, body = await ask(client, input="And?", **more)
        assert 200 == status
        ids.append(body["id"])
        if previous != 1:
            await worker.answer("Yes.")
    async with client.delete(f"{ALL}/{ids[0]}") as response:
        assert 200 == response.status
    third = (await worker.answer("No.")).job
    assert ["And?", "Yes."] * 2 == [item["content"][0]["text"] for item in third.context]
    for id_ in ids:
        code = "previous_response_not_found"
        assert (400, code, code, "previous_response_id") == refused(
            await ask(client, input="And?", previous_response_id=id_)
        )


def test_truncation_keeps_instructions_and_keeps_calls_with_their_results() -> None:
    rules = {"type": "message", "role": "developer", "content": "Be brief."}
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c", "output": "5"}
    items = [rules, user("a" * 500), user("b"), call]
    turns = [TurnSlice("one", 0, 1), TurnSlice("two", 1, 3), TurnSlice("three", 5, 6)]
    fits = fitting(Context(items, turns), [result], 300, 1000, "auto")
    assert ([rules, *items[2:]], sum(map(packed_bytes, fits.items))) == (fits.items, fits.bytes)
    assert [turns[0], TurnSlice("two", 2, 3), turns[2]] == fits.turns
    with pytest.raises(Problem, match="previous_response_id"):
        fitting(Context([*items, user("d" * 500)]), [result], 300, 1000, "auto")


async def test_the_number_of_items_is_bounded(client: Client) -> None:
    assert (400, "context_too_large", "context_length_exceeded", "input") == refused(
        await ask(client, input=[user("")] * (MAX_ITEMS + 1))
    )
    with pytest.raises(Problem, match="10000 items"):
        fitting(Context([user("")] * MAX_ITEMS), [user("")], 10**9, 10**9, None)
