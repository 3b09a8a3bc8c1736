"""Tests that the console shows each live server, and which requests the servers refused lately."""

from __future__ import annotations

import os
from typing import Any

import msgspec
import pytest
from msgspec.structs import asdict, replace

from jobs.recent_attempts import RECENT_SECONDS
from jobs.redis.pipe import Pipe
from jobs.server_registry import ServerRecord, ServerRegistry, ServerState
from runtime.metrics import Family, Value
from server import registration
from server.app import SERVER
from server.metrics import REFUSED
from server.registration import RecentRefusals
from tests.server.conftest import Client, Serve
from tests.server.talk import connected
from tests.system import wait_until


async def state(client: Client) -> Any:
    async with client.get("/v1/console") as answer:
        assert 200 == answer.status
        return await answer.json()


async def test_the_console_shows_each_server_with_its_sockets_and_its_refused_requests(
    serve: Serve, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "RECORD_MS", 150)
    client, other = await serve(), await serve()
    async with connected(client):
        await client.post("/v1/responses", data=b"{")

        async def shown() -> Any:
            found = await state(other)
            both = len(found["servers"]) == 2 and found["refused"]
            return found if both and any(one["sockets"] for one in found["servers"]) else None

        found = await wait_until(shown)
    assert 2 == found["server_count"]
    assert {(os.getpid(), "ready", 0)} == {
        (one["pid"], one["state"], one["streams"]) for one in found["servers"]
    }
    assert [(0, 0), (1, 1)] == sorted((one["sockets"], one["refused"]) for one in found["servers"])
    assert [{"code": "invalid_json", "count": 1}] == found["refused"]
    assert all(one["started_at"] <= one["seen_at"] <= found["read_at"] for one in found["servers"])

    await client.app[SERVER].drain()
    registry = ServerRegistry(pipe)

    async def drains() -> bool:
        return any(one.record.state is ServerState.DRAINING for one in await registry.all())

    await wait_until(drains)
    await client.close()
    await other.close()
    assert [] == await registry.all()


async def test_a_newer_record_is_read_and_an_invalid_one_is_left_out(pipe: Pipe) -> None:
    registry = ServerRegistry(pipe)
    one = ServerRecord("web-1", 7, "1.2", 9_000, ServerState.READY, 3, 0, {})
    await registry.register("new", one)
    await registry.register("newer", one)
    await registry.register("invalid", one)
    newer = asdict(one) | {"state": "resting"}
    packed = msgspec.msgpack.encode([*newer.values(), "a field that this version does not know"])
    for id_, record in (("newer", packed), ("invalid", b"\x90")):
        key = registry._names.server(id_)
        await pipe.call("SET", key, b"1795448114000 " + record, "PX", 60_000)
    found = await registry.all()
    assert [("new", one), ("newer", replace(one, state=ServerState.DRAINING))] == [
        (server.id, server.record) for server in found
    ]
    assert {9_000} == {server.seen_at - server.started_at for server in found}


def test_refused_requests_are_counted_over_the_last_minutes() -> None:
    refused = Family(REFUSED, Value)
    recent = RecentRefusals(refused)
    counts = []
    for second in range(0, 2 * RECENT_SECONDS + 1, 10):
        if second <= RECENT_SECONDS:
            refused.labels("queue_full").inc()
        counts.append(recent.counts(second).get("queue_full", 0))
    # 31 increments in the first five minutes, the last of which leave the window one by one.
    assert [1, 2, 3] == counts[:3]
    assert 30 == counts[RECENT_SECONDS // 10]
    assert [30, 29, 28] == counts[RECENT_SECONDS // 10 : RECENT_SECONDS // 10 + 3]
    assert 0 == counts[-1]
    assert not recent.counts(2 * RECENT_SECONDS + 10)
    assert len(recent._earlier) <= RECENT_SECONDS // 10 + 1
