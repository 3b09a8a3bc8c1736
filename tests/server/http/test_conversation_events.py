"""Tests the stream of a conversation's events, with a real Redis."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from aiohttp import ClientResponse, ClientTimeout
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

from jobs.errors import RedisAway
from jobs.redis.connection import Redis
from server.access import api_key_store
from server.api.shared_message import SharedMessage
from server.app import SERVER
from server.http.feed_stream import FeedStream
from server.websocket import auth as auth_module
from tests.error_codes import own_code
from tests.jobs.factories import NAMES
from tests.server.auth_helpers import Credentials, bearer
from tests.server.conftest import Serve
from tests.system import wait_until

Client = TestClient[Request, Application]
PATH = "/v1/conversations"
KIND = "holdline:conversation."


class Events:
    """The open stream of a client."""

    def __init__(self, response: ClientResponse) -> None:
        self._content = response.content
        self._unread = b""
        self.heartbeats = 0

    async def next(self) -> tuple[str | None, dict[str, Any]] | None:
        """Returns the cursor and the message of the next event, or None after the last one."""
        async with asyncio.timeout(10):
            while True:
                while b"\n\n" not in self._unread:
                    if not (data := await self._content.readany()):
                        return None
                    self._unread += data
                block, _, self._unread = self._unread.partition(b"\n\n")
                if not block.startswith(b":"):
                    break
                self.heartbeats += 1
        lines = [line.partition(b": ") for line in block.splitlines()]
        fields = {name: value.decode() for name, _, value in lines}
        message: dict[str, Any] = msgspec.json.decode(fields[b"data"])
        assert fields[b"event"] == message["type"]
        return fields.get(b"id"), message

    async def some(self, number: int) -> list[tuple[str | None, dict[str, Any]]]:
        found = [await self.next() for _ in range(number)]
        return [one for one in found if one is not None]


@asynccontextmanager
async def following(
    client: Client, id_: str, last: str | None = None, **query: Any
) -> AsyncIterator[Events]:
    """Follows a conversation. `last` is the value of `Last-Event-ID`."""
    headers = {} if last is None else {"Last-Event-ID": last}
    url = f"{PATH}/{id_}/events"
    async with client.get(url, params=query, headers=headers) as response:
        assert 200 == response.status, await response.text()
        assert "text/event-stream; charset=utf-8" == response.headers["Content-Type"]
        yield Events(response)


async def created(client: Client, **how: Any) -> str:
    async with client.post(PATH, json={}, **how) as response:
        id_: str = (await response.json())["id"]
        return id_


async def rename(client: Client, id_: str, title: str, **how: Any) -> None:
    body = {"metadata": {"title": title}}
    async with client.post(f"{PATH}/{id_}", json=body, **how) as response:
        assert 200 == response.status


async def refusal(client: Client, url: str, **how: Any) -> tuple[int, str, str | None]:
    async with client.get(url, **how) as response:
        error = (await response.json())["error"]
        return response.status, own_code(error), error["param"]


async def test_a_client_resumes_after_every_event(client: Client) -> None:
    id_ = await created(client)
    for title in "abc":
        await rename(client, id_, title)
    async with following(client, id_, starting_after=-1) as events:
        first, *rest = await events.some(5)
    assert (None, "holdline:following", False) == (first[0], first[1]["type"], first[1]["reset"])
    assert [0, 1, 2, 3] == [message["sequence_number"] for _, message in rest]
    assert [f"{one['sequence_number']}:{one['event_id']}" for _, one in rest] == [
        cursor for cursor, _ in rest
    ]
    for index, (cursor, message) in enumerate(rest):
        query = {"starting_after": index, "event_id": message["event_id"]}
        # The header has priority over the query, which an `EventSource` never changes.
        for last, asked in ((cursor, {"starting_after": -1}), (None, query)):
            async with following(client, id_, last, **asked) as events:
                _, start = (await events.some(1))[0]
                assert (start["reset"], start["sequence_number"]) == (False, 3)
                assert rest[index + 1 :] == await events.some(3 - index)


async def test_without_a_cursor_the_stream_begins_with_the_current_state(client: Client) -> None:
    id_ = await created(client)
    async with following(client, id_) as events:
        [(cursor, start)] = await events.some(1)
        assert f"0:{start['event_id']}" == cursor
        await rename(client, id_, "Sea")
        [(_, changed)] = await events.some(1)
        assert (f"{KIND}updated", {"title": "Sea"}) == (changed["type"], changed["metadata"])
    async with following(client, id_, cursor) as events:
        assert [1] == [one["sequence_number"] for _, one in (await events.some(2))[1:]]


async def test_a_cursor_of_another_feed_gets_the_whole_feed_again(
    client: Client, redis: Redis
) -> None:
    id_ = await created(client)
    async with following(client, id_, "0:evt_other") as events:
        (cursor, start), (_, again) = await events.some(2)
        assert ("-1", True, 0) == (cursor, start["reset"], again["sequence_number"])
        # Redis loses the events, and appends others with the same numbers.
        async with redis.pipe() as pipe:
            await pipe.call("DEL", NAMES.feed(id_))
        for title in "ab":
            await rename(client, id_, title)
        found = await events.some(3)
        while [one["type"] for _, one in found[-3:]] != [
            "holdline:following",
            f"{KIND}updated",
            f"{KIND}updated",
        ]:
            found += await events.some(1)
        assert found[-3][1]["reset"]
    async with following(client, id_, "-1") as events:
        assert [0, 1] == [one["sequence_number"] for _, one in (await events.some(3))[1:]]


async def test_a_deleted_conversation_ends_the_stream(client: Client) -> None:
    id_ = await created(client)
    async with following(client, id_) as events:
        await events.some(1)
        async with client.delete(f"{PATH}/{id_}") as response:
            assert 200 == response.status
        gone = {"type": f"{KIND}deleted", "conversation": id_}
        assert (None, gone) == await events.next()
        assert await events.next() is None
    url = f"{PATH}/{id_}/events"
    assert (404, "conversation_not_found", "conversation") == await refusal(client, url)


@pytest.mark.parametrize(
    ("query", "last", "param"),
    [
        ({"starting_after": "-2"}, "", "starting_after"),
        ({"starting_after": "one"}, "", "starting_after"),
        ({"starting_after": "0", "event_id": "e" * 129}, "", "event_id"),
        ({"starting_after": str(2**53 + 1)}, "-1", "starting_after"),
        ({}, "evt_1", "Last-Event-ID"),
        ({}, "9" * 300, "Last-Event-ID"),
        ({}, "1:", "Last-Event-ID"),
    ],
)
async def test_an_invalid_cursor_is_refused(
    client: Client, query: dict[str, str], last: str, param: str
) -> None:
    id_ = await created(client)
    headers = {"Last-Event-ID": last} if last else {}
    url = f"{PATH}/{id_}/events"
    assert (400, "invalid_value", param) == await refusal(
        client, url, params=query, headers=headers
    )


async def test_the_schema_of_a_cursor_matches_only_accepted_cursors(client: Client) -> None:
    async with client.get("/openapi.json") as response:
        paths = (await response.json())["paths"]
    patterns = [
        parameter["schema"]["pattern"]
        for operations in paths.values()
        for parameter in operations.get("get", {}).get("parameters", ())
        if parameter["name"] == "Last-Event-ID"
    ]
    assert 3 == len(patterns)
    for pattern in patterns:
        for cursor in ("", "-1", "0", "12", "12:0123abcd"):
            assert re.search(pattern, cursor), (pattern, cursor)
        for wrong in ("evt_1", "9" * 300, "1:", "c|T", "-2", "+1", "12:é"):
            assert not re.search(pattern, wrong), (pattern, wrong)


async def test_an_idle_stream_has_heartbeats(serve: Serve) -> None:
    client = await serve(ping_seconds="0.2")
    id_ = await created(client)
    async with following(client, id_) as events:
        await events.some(1)
        reading = asyncio.create_task(events.next())
        await wait_until(lambda: events.heartbeats > 1)
        await rename(client, id_, "Sea")
        assert await reading is not None


async def test_a_large_feed_arrives_whole_at_a_client_that_reads_late(client: Client) -> None:
    item = {"type": "message", "role": "user", "content": "x" * 50_000}
    id_ = await created(client)
    for _ in range(3):
        async with client.post(f"{PATH}/{id_}/items", json={"items": [item] * 10}) as response:
            assert 200 == response.status
    async with following(client, id_, starting_after=-1) as events:
        await asyncio.sleep(0.3)  # the server fills all buffers
        found = await events.some(5)
        await rename(client, id_, "Sea")
        found += await events.some(1)
    assert [0, 1, 2, 3, 4] == [one["sequence_number"] for _, one in found[1:]]
    assert 30 == sum(len(one.get("items", ())) for _, one in found)


async def test_a_restarting_server_ends_the_stream_with_an_error(client: Client) -> None:
    id_ = await created(client)
    server = client.app[SERVER]
    async with following(client, id_) as events:
        await events.some(1)
        await server.drain()
        assert (cursor := await events.next()) is not None
        assert (None, "error", id_) == (cursor[0], cursor[1]["type"], cursor[1]["conversation"])
        assert "server_restarting" == own_code(cursor[1]["error"])
    status, code, _ = await refusal(client, f"{PATH}/{id_}/events")
    assert (503, "server_restarting") == (status, code)


async def test_a_stranger_does_not_find_the_conversation(serve: Serve, tmp_path: Path) -> None:
    credentials = Credentials(tmp_path)
    client = await serve(**credentials.settings)
    mine, other = (bearer(credentials.token(subject)) for subject in ("anna", "ben"))
    id_ = await created(client, headers=mine)
    url = f"{PATH}/{id_}/events"
    assert (404, "conversation_not_found", "conversation") == await refusal(
        client, url, headers=other
    )
    assert 401 == (await refusal(client, url))[0]
    writer = bearer(credentials.token("anna", scopes=["create"]))
    assert (403, "insufficient_scope", None) == await refusal(client, url, headers=writer)


async def test_a_stream_ends_with_its_token(serve: Serve, tmp_path: Path) -> None:
    credentials = Credentials(tmp_path)
    client = await serve(**credentials.settings, auth_grace_seconds="0.2")
    id_ = await created(client, headers=bearer(credentials.token()))
    short = bearer(credentials.token(seconds=2))
    async with client.get(f"{PATH}/{id_}/events", headers=short) as response:
        events = Events(response)
        *first, last = [one["type"] for _, one in await events.some(3)]
        assert ({"holdline:following", "holdline:expiring"}, "error") == ({*first}, last)
        assert await events.next() is None


async def test_a_stream_ends_when_its_key_is_revoked(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth_module, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr("runtime.watched_file.LOOK_SECONDS", 0.0)
    monkeypatch.setattr(api_key_store, "FRESH_SECONDS", 0.0)
    credentials = Credentials(tmp_path)
    key = credentials.key()
    client = await serve(**credentials.settings)
    id_ = await created(client, headers=bearer(key))
    async with client.get(f"{PATH}/{id_}/events", headers=bearer(key)) as response:
        events = Events(response)
        await events.some(1)
        credentials.revoke(key)
        [(_, error)] = await events.some(1)
        assert "invalid_token" == own_code(error["error"])
        assert await events.next() is None


async def test_streams_count_as_sockets_of_their_tenant(serve: Serve) -> None:
    client = await serve(tenant_sockets="1")
    id_ = await created(client)
    url = f"{PATH}/{id_}/events"
    async with following(client, id_) as events:
        await events.some(1)
        assert (429, "socket_limit_exceeded", None) == await refusal(client, url)
        async with client.delete(f"{PATH}/{id_}"):
            await events.some(1)
    assert not client.app[SERVER].socket_limiter._taken
    assert 0 == client.app[SERVER].streams.count


async def test_a_stream_survives_an_outage_of_redis(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = await created(client)
    feeds = client.app[SERVER].queue.feeds
    read = type(feeds).read
    failures = 2

    async def fails_at_first(*about: Any, **how: Any) -> Any:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise RedisAway("gone")
        return await read(*about, **how)

    async with following(client, id_) as events:
        await events.some(1)
        monkeypatch.setattr(type(feeds), "read", fails_at_first)
        await rename(client, id_, "Sea")
        assert 1 == (await events.some(1))[0][1]["sequence_number"]
    assert failures < 0


async def test_a_client_that_leaves_ends_its_stream(serve: Serve) -> None:
    client = await serve(ping_seconds="0.1")
    id_ = await created(client)
    server = client.app[SERVER]
    for _ in range(3):
        timeout = ClientTimeout(total=5)
        response = await client.get(f"{PATH}/{id_}/events", timeout=timeout)
        await Events(response).some(1)
        response.close()
    await wait_until(lambda: not server.streams.count and not server.socket_limiter._taken)
    assert not server.services.conversations._feeds


async def test_streams_share_the_json_of_a_large_message() -> None:
    # The clients may all be slow, and then each stream holds the message.
    event = {"sequence_number": 1, "event_id": "evt_1", "text": "x" * 100_000}
    message = SharedMessage({"type": "holdline:conversation.created", **event})
    streams = [FeedStream(15.0, "conv_1", has_cursor=False) for _ in range(2)]
    for stream in streams:
        stream.show(cast("Any", None), message, [])
    for stream in streams:
        assert message.json is stream.take()[1]
