"""Tests `holdline subject delete` while clients follow the end user's responses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from admin import subject
from jobs.errors import HoldlineError
from jobs.queue import Queue
from jobs.record import SharedSettings
from jobs.redis.pipe import Pipe
from tests.error_codes import own_code
from tests.server import ag_ui
from tests.server.conftest import Client
from tests.server.factories import Worker
from tests.server.http.steps import background, events_of

OWNER = "public"


async def left(pipe: Pipe) -> list[bytes]:
    """Returns the keys with data of an end user."""
    kinds = ("job", "log", "turn", "conversation", "items", "feed", "key")
    found = [await pipe.call("KEYS", f"holdline:*:{kind}:*") for kind in kinds]
    return [key for keys in found for key in keys]


async def test_the_streams_of_a_deleted_end_user_end_and_leave_nothing_behind(
    client: Client, worker: Worker, pipe: Pipe
) -> None:
    async with client.post("/v1/conversations", json={}) as answer:
        conversation = (await answer.json())["id"]
    id_ = await background(client, conversation=conversation)
    answer_ = await worker.take()
    await answer_.say("So", " it")
    urls = (
        f"/v1/responses/{id_}?stream=true",
        f"/v1/ai-sdk/{id_}/stream",
        f"{ag_ui.API}/{id_}/stream?thread_id=t&run_id=r",
        f"/v1/conversations/{conversation}/events",
    )
    streams = [await client.get(url) for url in urls]
    for stream in streams:
        assert b"" != await stream.content.readany()
    queue = Queue(pipe, SharedSettings())
    # The worker goes on while the command runs, and two operators run it at once.
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_writing(answer_))
        deleting = [tasks.create_task(subject.delete(pipe, queue, OWNER)) for _ in range(2)]
    assert 1 == sum(one.result().value["deleted_responses"] for one in deleting)  # type: ignore[index]
    events, done = await events_of(streams[0])
    assert not done
    assert "response_gone" == own_code(events[-1]["error"])
    for stream, last in zip(streams[1:], ("error", "RUN_ERROR", "deleted"), strict=True):
        assert last in (await stream.text())
    with pytest.raises(HoldlineError):
        await answer_.complete()
    assert [] == await left(pipe)


async def _writing(answer: Any) -> None:
    with pytest.raises(HoldlineError):
        for _ in range(200):
            await answer.say("more")
            await asyncio.sleep(0.01)  # the time between two tokens of a model
