"""Tests that large requests are parsed one at a time and that their bodies are freed early."""

from __future__ import annotations

import asyncio
import gc
import json

import pytest

from server import large_requests
from server.api.problem import Problem
from server.large_requests import MAX_SMALL_BYTES, LargeRequests
from tests.server.conftest import Client
from tests.server.factories import Worker


async def test_large_requests_are_parsed_one_at_a_time_and_small_ones_in_between() -> None:
    requests, order = LargeRequests(), list[str]()

    async def ask(name: str, size: int) -> None:
        async with requests.turn(size):
            order.append(name)
            await asyncio.sleep(0.01)  # another request could interleave here
            order.append(name)

    large = MAX_SMALL_BYTES + 1
    await asyncio.gather(ask("a", large), ask("b", large), ask("small", MAX_SMALL_BYTES))
    assert ["a", "a", "b", "b"] == [name for name in order if name != "small"]
    assert order.index("small") < order.index("b")


async def test_the_wait_of_a_large_request_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_requests, "WAIT_SECONDS", 0.02)
    requests = LargeRequests()
    async with requests.turn(MAX_SMALL_BYTES + 1):
        with pytest.raises(Problem) as refused:
            async with requests.turn(MAX_SMALL_BYTES + 1):
                pass
    assert (503, "busy") == (refused.value.status, refused.value.code)
    async with requests.turn(MAX_SMALL_BYTES + 1):
        pass


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_waiting_for_its_answer_does_not_keep_its_body(
    client: Client, worker: Worker, path: str, stream: bool
) -> None:
    mark = "large " * 10_000
    asked = {"messages": [{"role": "user", "content": mark}]} if "chat" in path else {"input": mark}
    body = json.dumps(asked | {"stream": stream}).encode()
    post = asyncio.create_task(client.post(path, data=body))
    answer = await worker.take()
    del body, asked
    gc.collect()
    held = [one for one in gc.get_objects() if isinstance(one, dict) and mark in one.values()]
    # The remaining objects belong to the job that this test's worker decoded.
    assert all("input_text" in one.values() for one in held), held
    await answer.complete()
    assert 200 == (await post).status
