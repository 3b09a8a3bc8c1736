"""Tests that a server reports data of a newer format with an error code, and stays usable."""

from __future__ import annotations

from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from jobs.format import FORMAT
from jobs.redis.pipe import Pipe
from tests.error_codes import own_code
from tests.jobs.factories import NAMES
from tests.server.conftest import Client
from tests.server.factories import Worker
from tests.server.http.steps import ALL, background, events_of
from tests.system import EXTENSIONS

NEWER = FORMAT + 1
CODE = "response_too_new"


async def entry(pipe: Pipe, id_: str) -> None:
    """Appends an entry with a code that a newer format has added, and notifies the servers."""
    added = msgpack.packb([99, "msg_1", "text"])
    length = await pipe.call("RPUSH", NAMES.log(id_), added)
    message = msgpack.packb([length - 1, [added]], use_bin_type=False)
    await pipe.call("SPUBLISH", NAMES.notifications(id_), message)


async def job(pipe: Pipe, id_: str) -> None:
    record = msgpack.packb([NEWER, {"id": id_}])
    await pipe.call("HSET", NAMES.job(id_), "job", record)


async def status(pipe: Pipe, id_: str) -> None:
    await pipe.call("HSET", NAMES.job(id_), "status", "suspended")


@pytest.mark.parametrize(
    ("change", "paths"),
    [
        (entry, ["", "/cancel"]),
        (job, ["/input_items", "/cancel"]),
        (status, ["", "?stream=true", "/input_items", "/cancel"]),
    ],
)
async def test_a_response_of_a_newer_format_gets_an_error_that_asks_for_another_try(
    client: Client, pipe: Pipe, change: Any, paths: list[str]
) -> None:
    id_ = await background(client)
    await change(pipe, id_)
    for path in paths:
        ask = client.post if path == "/cancel" else client.get
        response = await ask(f"{ALL}/{id_}{path}")
        said = await response.text()
        assert CODE in said, (path, response.status, said)
        if "stream" not in path:
            assert (503, True) == (response.status, "Retry-After" in response.headers)
    # Deleting a response does not require reading its request or its log.
    assert (503 if change is status else 200) == (await client.delete(f"{ALL}/{id_}")).status


async def test_a_follower_is_told_when_the_log_goes_on_in_a_newer_format(
    client: Client, pipe: Pipe, worker: Worker
) -> None:
    id_ = await background(client)
    ws = await client.ws_connect(ALL, protocols=EXTENSIONS)
    await ws.receive_json(timeout=10)
    await ws.send_json({"type": "holdline:resume", "response_id": id_})
    answer = await worker.take()
    await answer.say("one ")
    received: list[dict[str, Any]] = []
    while not received or received[-1].get("delta") != "one ":
        received.append(await ws.receive_json(timeout=10))
    await entry(pipe, id_)
    said = await ws.receive_json(timeout=10)
    assert (503, CODE, id_) == (said["status"], own_code(said["error"]), said["response_id"])
    await ws.close()
    async with client.get(f"{ALL}/{id_}?stream=true") as response:
        events, _ = await events_of(response)
    assert CODE == own_code(events[-1]["error"])


async def test_a_request_that_continues_a_response_of_a_newer_format_is_refused(
    client: Client, pipe: Pipe, worker: Worker
) -> None:
    id_ = await background(client)
    await worker.answer("Because.")
    await job(pipe, id_)
    body = {"input": "And?", "previous_response_id": id_, "background": True}
    response = await client.post(ALL, json=body)
    assert (503, CODE) == (response.status, own_code((await response.json())["error"]))


async def test_a_conversation_of_a_newer_format_is_reported(client: Client, pipe: Pipe) -> None:
    said = {"items": [{"role": "user", "content": "Hello"}]}
    id_ = (await (await client.post("/v1/conversations", json=said)).json())["id"]
    newer = msgpack.packb([NEWER, {"type": "message"}])
    key = next(iter(await pipe.call("KEYS", f"*:items:{id_}")))
    await pipe.call("LSET", key, 0, newer)
    response = await client.get(f"/v1/conversations/{id_}/items")
    assert (503, CODE) == (response.status, own_code((await response.json())["error"]))
    body = {"input": "And?", "conversation": id_, "background": True}
    response = await client.post(ALL, json=body)
    assert (503, CODE) == (response.status, own_code((await response.json())["error"]))
