"""What a request becomes is bounded before it is built."""

from __future__ import annotations

from typing import Any

import pytest

from server.api.context import MAX_ITEMS, fitting, packed_bytes
from server.api.problem import Problem
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


async def test_references_count_as_what_they_stand_for(serve: Serve, worker: Worker) -> None:
    client = await serve(max_context_bytes="10000")
    _, first = await ask(client, input=BIG)
    await worker.answer("Because.")
    async with client.get(f"{ALL}/{first['id']}/input_items") as response:
        id_ = (await response.json())["data"][0]["id"]
    reference = {"type": "item_reference", "id": id_}
    assert 200 == (await ask(client, input=[reference] * 3))[0]
    assert (400, "context_too_large", "context_length_exceeded", "input") == refused(
        await ask(client, input=[reference] * 5)
    )


async def test_a_chain_grows_to_the_limit_or_leaves_out_its_oldest_turns(
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


def test_rules_stay_and_calls_stay_with_their_results() -> None:
    rules = {"type": "message", "role": "developer", "content": "Be brief."}
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c", "output": "5"}
    context = [rules, user("a" * 500), user("b"), call]
    assert [rules, *context[2:]] == fitting(context, [result], 300, 1000, "auto")
    with pytest.raises(Problem, match="previous_response_id"):
        fitting([*context, user("d" * 500)], [result], 300, 1000, "auto")


def test_items_are_counted() -> None:
    with pytest.raises(Problem, match="10000 items"):
        fitting([user("")] * MAX_ITEMS, [user("")], 10**9, 10**9, None)
