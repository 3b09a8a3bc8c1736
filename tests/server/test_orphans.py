"""Tests the policies for orphans, which are responses without followers on any server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobs.errors import RedisAway
from jobs.names import partition_of
from jobs.queue import Queue
from jobs.redis.pipe import Pipe
from tests.jobs.factories import NAMES, status_of
from tests.server.conftest import Client, Serve
from tests.system import wait_until

CANCEL = {"holdline_on_orphan": "cancel"}


async def asked(client: Client, **more: Any) -> tuple[Any, str]:
    """Returns a socket that follows a new response, and the response id."""
    ws = await client.ws_connect("/v1/responses")
    await ws.send_json({"type": "response.create", "input": "Why?", **more})
    while (event := await ws.receive_json())["type"] != "response.created":
        assert event["type"] != "error", event
    return ws, event["response"]["id"]


async def ends(pipe: Pipe, response_id: str, status: str = "cancelled") -> None:
    async def ended() -> bool:
        return status == await status_of(pipe, response_id)

    await wait_until(ended)


async def test_an_orphan_is_cancelled_after_its_last_follower_has_left(
    serve: Serve, pipe: Pipe
) -> None:
    """A follower on another server also counts as a follower."""
    one, other = await serve(orphan_seconds="1.5"), await serve(orphan_seconds="1.5")
    ws, id_ = await asked(one, metadata=CANCEL)
    second = await other.ws_connect("/v1/responses")
    await second.send_json({"type": "holdline:resume", "response_id": id_, "starting_after": -1})
    await ws.close()
    await asyncio.sleep(2.5)  # one follower is left, so the response is not cancelled
    assert "queued" == await status_of(pipe, id_)
    await second.close()
    await ends(pipe, id_)
    assert 0 == await pipe.call("ZCARD", NAMES.followed)


async def test_an_unavailable_partition_keeps_no_orphan_of_another(
    serve: Serve, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphans = Queue.orphans

    async def found(self: Queue, partition: int, *more: Any) -> list[str]:
        if partition == 0:
            raise RedisAway("away")
        return await orphans(self, partition, *more)

    monkeypatch.setattr(Queue, "orphans", found)
    client = await serve(orphan_seconds="0.3", partitions="2")
    for _ in range(50):
        ws, id_ = await asked(client, metadata=CANCEL)
        await ws.close()
        if partition_of(id_) == 1:
            break
    else:
        pytest.fail("no response is in partition 1")
    await ends(pipe, id_)


@pytest.mark.parametrize(
    ("setting", "body"),
    [
        ({}, {}),
        ({"on_orphan": "cancel"}, {"metadata": {"holdline_on_orphan": "go_on"}}),
        ({"on_orphan": "cancel", "webhook_url": "https://shop.example/"}, {"metadata": CANCEL}),
    ],
)
async def test_responses_that_continue_without_followers_are_not_tracked(
    serve: Serve, pipe: Pipe, setting: dict[str, str], body: dict[str, Any]
) -> None:
    client = await serve(orphan_seconds="0.1", **setting)
    await asked(client, **body)
    assert 0 == await pipe.call("EXISTS", NAMES.followed)


async def test_a_background_response_is_never_an_orphan(serve: Serve, pipe: Pipe) -> None:
    client = await serve(orphan_seconds="0.1", on_orphan="cancel")
    await client.post("/v1/responses", json={"input": "Why?", "background": True})
    assert 0 == await pipe.call("EXISTS", NAMES.followed)


async def test_an_unknown_orphan_policy_is_refused(client: Client) -> None:
    body = {"input": "Why?", "metadata": {"holdline_on_orphan": "maybe"}}
    answer = await client.post("/v1/responses", json=body)
    error = (await answer.json())["error"]
    assert (400, "metadata.holdline_on_orphan") == (answer.status, error["param"])
