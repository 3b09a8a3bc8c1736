"""Tests the cursors of the streams for other front ends, after Redis has lost events."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any, Final, NamedTuple

import pytest
from aiohttp import WSMsgType

from jobs.ids import item_id
from jobs.log.codec import encode_event
from jobs.redis.pipe import Pipe
from tests.jobs.factories import NAMES, text_delta
from tests.server import ag_ui
from tests.server.conftest import Client
from tests.server.factories import Worker

CHAT: Final = {
    "id": "chat-1",
    "messages": [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Why?"}]}],
}
RUN: Final = {"threadId": "thread-1", "runId": "run-1"}
CURSOR: Final = re.compile(r"^id: (\d+):[0-9a-f]{8}$", re.MULTILINE)
ROLLED_BACK: Final = "The server's storage lost events"
STREAMS: Final = ("ai-sdk query", "ai-sdk header", "ag-ui query", "ag-ui header", "ag-ui socket")


class Resume(NamedTuple):
    """One way to continue a stream of the front end `name`."""

    name: str
    how: str

    async def answered(self, client: Client, worker: Worker) -> tuple[str, str]:
        """Returns a whole stream and the id of its response."""
        url, body = ("/v1/ai-sdk", CHAT) if self.name == "ai-sdk" else (ag_ui.API, ag_ui.BODY)
        asking = asyncio.create_task(client.post(url, json=body))
        await worker.answer("So", " it", " is.")
        async with await asking as answer:
            return await answer.text(), answer.headers["X-Response-Id"]

    async def events(self, client: Client, id_: str, cursor: str) -> list[Any]:
        """Returns the events after a cursor."""
        if self.how == "socket":
            return await self._of_socket(client, {"responseId": id_, "startingAfter": cursor})
        query = {"thread_id": "thread-1", "run_id": "run-1"} if self.name == "ag-ui" else {}
        headers = {"Last-Event-ID": cursor} if self.how == "header" else {}
        # An `EventSource` repeats its first query, and sends the header besides.
        query["starting_after"] = cursor if self.how == "query" else "2"
        url = f"/v1/{self.name}/{id_}/stream"
        async with client.get(url, params=query, headers=headers) as answer:
            text = await answer.text()
        assert 200 == answer.status, text
        return ag_ui.events(text.replace("data: [DONE]", ""))

    async def _of_socket(self, client: Client, resume: dict[str, Any]) -> list[Any]:
        found = []
        async with client.ws_connect(ag_ui.API) as ws:
            await ws.send_json({**RUN, **resume})
            while (message := await ws.receive(timeout=8)).type is WSMsgType.TEXT:
                event = json.loads(message.data)
                if "cursor" in event:
                    assert str(event.pop("sequence")) == event.pop("cursor").partition(":")[0]
                found.append(event)
        return found


@pytest.fixture(params=STREAMS)
def resume(request: pytest.FixtureRequest) -> Resume:
    return Resume(*request.param.split())


def cursors(text: str) -> list[str]:
    return [found[0].removeprefix("id: ") for found in CURSOR.finditer(text)]


async def test_a_stream_continues_after_each_cursor_and_after_each_number(
    client: Client, worker: Worker, resume: Resume
) -> None:
    text, id_ = await resume.answered(client, worker)
    found = cursors(text)
    assert len(found) >= 5
    for cursor in found:
        rest = text.partition(f"id: {cursor}\n")[2].partition("\n\n")[2]
        expected = ag_ui.events(rest.replace("data: [DONE]", ""))
        for written in (cursor, cursor.partition(":")[0]):
            assert expected == await resume.events(client, id_, written)


async def test_a_stream_never_continues_after_an_event_that_was_replaced(
    client: Client, worker: Worker, pipe: Pipe, resume: Resume
) -> None:
    # Redis has lost the end of the log, and the log grew again with another attempt's events.
    text, id_ = await resume.answered(client, worker)
    cursor = cursors(text)[-3]
    number = int(cursor.partition(":")[0])
    other = text_delta(item_id("msg", id_, 2, 0), 0, "Another")
    await pipe.call("LSET", NAMES.log(id_), number, encode_event(other))
    [error] = await resume.events(client, id_, cursor)
    assert error["type"] in ("error", "RUN_ERROR")
    assert ROLLED_BACK in (error.get("errorText") or error["message"])
    # Without a checksum, the server cannot detect the loss.
    assert error not in await resume.events(client, id_, str(number))


async def test_a_cursor_after_the_end_of_a_shorter_log_is_reported(
    client: Client, worker: Worker, pipe: Pipe, resume: Resume
) -> None:
    text, id_ = await resume.answered(client, worker)
    cursor = cursors(text)[-1]
    end = await pipe.call("LINDEX", NAMES.log(id_), -1)
    await pipe.call("LTRIM", NAMES.log(id_), 0, 3)
    await pipe.call("RPUSH", NAMES.log(id_), end)
    [error] = await resume.events(client, id_, cursor)
    assert ROLLED_BACK in (error.get("errorText") or error["message"])


@pytest.mark.parametrize(
    "wrong",
    [
        *("", "3:", "3:xyz", "3:ABCDEF01", "3:00000000:1", " 3", "³", "x"),
        *("+3", "-2", "9" * 16),
    ],
)
async def test_the_error_for_an_invalid_cursor_names_its_field(
    client: Client, worker: Worker, wrong: str
) -> None:
    _, id_ = await Resume("ai-sdk", "query").answered(client, worker)
    stream = f"/v1/ai-sdk/{id_}/stream"
    for headers in ({}, {"Last-Event-ID": "-1"}):
        query = {"starting_after": wrong}
        async with client.get(stream, params=query, headers=headers) as answer:
            error = (await answer.json())["error"]
            assert (400, "starting_after") == (answer.status, error["param"])
    if wrong.isascii() and wrong.strip() == wrong != "":
        async with client.get(stream, headers={"Last-Event-ID": wrong}) as answer:
            error = (await answer.json())["error"]
            assert (400, "Last-Event-ID") == (answer.status, error["param"])
    found = await Resume("ag-ui", "socket").events(client, id_, wrong)
    assert ["startingAfter"] == [one["rawEvent"]["error"]["param"] for one in found]
