"""Tests the routes of the console for other programs: scopes, pages, timelines and contents."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

from jobs.audit import AuditLog
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from jobs.worker_registry import WorkerRecord, WorkerRegistry, WorkerState
from tests.error_codes import own_code
from tests.server.auth_helpers import Credentials, bearer
from tests.server.conftest import Serve
from tests.server.factories import RESPONSE, Worker

Client = TestClient[Request, Application]
MARK = "the-words-of-anna"


async def get(client: Client, path: str, key: str | None = None) -> tuple[int, Any]:
    headers = {} if key is None else bearer(key)
    async with client.get(f"/v1/console{path}", headers=headers) as answer:
        if answer.status == 200:
            assert "no-store" == answer.headers["Cache-Control"]
        return answer.status, await answer.json()


async def create(client: Client, key: str) -> str:
    body = {"input": MARK, "background": True}
    async with client.post("/v1/responses", json=body, headers=bearer(key)) as answer:
        return str((await answer.json())["id"])


async def test_each_route_requires_its_scope_and_no_other_scope_suffices(
    serve: Serve, tmp_path: Path
) -> None:
    credentials = Credentials(tmp_path)
    user = credentials.key()
    keys = {
        "support": credentials.key("acme", "create", "read", "cancel", "admin"),
        "user": credentials.token(scopes=["create", "read", "admin", "operator", "contents"]),
        "operator": credentials.key("ops", "operator"),
        "contents": credentials.key("ops", "contents"),
        "both": credentials.key("ops", "operator", "contents"),
    }
    client = await serve(**credentials.settings)
    id_ = await create(client, user)
    one = f"/responses/{id_}"
    found: dict[str, list[int]] = {}
    for name, key in keys.items():
        paths = ("", "/workers", one, f"{one}/contents")
        found[name] = [(await get(client, path, key))[0] for path in paths]
    assert found == {
        "support": [403, 403, 403, 403],
        "user": [403, 403, 403, 403],
        "operator": [200, 200, 200, 403],
        "contents": [403, 403, 403, 403],
        "both": [200, 200, 200, 200],
    }
    status, refused = await get(client, "")
    assert (401, "authentication_required") == (status, own_code(refused["error"]))
    for path in ("", one):
        assert MARK not in json.dumps(await get(client, path, keys["both"]))
    async with client.get(f"/v1/responses/{id_}", headers=bearer(keys["both"])) as answer:
        assert 403 == answer.status, "an operator may not read responses in any other way"


async def test_contents_are_shown_after_the_view_was_recorded(
    serve: Serve,
    tmp_path: Path,
    worker: Worker,
    redis: Redis,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO)
    credentials = Credentials(tmp_path)
    user, operator = credentials.key(), credentials.key("ops", "operator", "contents")
    client = await serve(**credentials.settings)
    id_ = await create(client, user)
    await worker.answer("because of Rayleigh")
    status, found = await get(client, f"/responses/{id_}/contents", operator)
    assert (200, True) == (status, MARK in json.dumps(found["input"]))
    assert "because of Rayleigh" in json.dumps(found["response"]["output"])
    key_id = operator.split("_")[1]
    async with Pipe(redis) as pipe:
        [change] = [one async for one in AuditLog(pipe, 1_000_000).changes()]
    assert ("console contents", f"response {id_}", f"key {key_id}", "done") == (
        change.command,
        change.target,
        change.operator,
        change.result,
    )
    assert MARK not in str(change)
    assert 404 == (await get(client, f"/responses/{RESPONSE}/contents", operator))[0]

    async def fail(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(AuditLog, "append", fail)
    status, refused = await get(client, f"/responses/{id_}/contents", operator)
    assert (500, True) == (status, MARK not in json.dumps(refused))


async def test_the_state_is_read_once_for_simultaneous_requests(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from server.console.reader import StateReader

    reads, read = [], StateReader._read

    async def counted(self: StateReader) -> Any:
        reads.append(self)
        return await read(self)

    monkeypatch.setattr(StateReader, "_read", counted)
    found = await asyncio.gather(*(get(client, "") for _ in range(10)))
    assert {200} == {status for status, _ in found}
    assert 1 == len(reads)


async def test_workers_are_listed_in_pages(client: Client, redis: Redis) -> None:
    async with Pipe(redis) as pipe:
        registry = WorkerRegistry(pipe, 60_000)
        for number in range(5):
            record = WorkerRecord("h", number, "1", 0, 1, ("m",), WorkerState.READY, "", 0, ())
            await registry.register(f"w{number}", record)
    _, first = await get(client, "/workers?limit=3")
    _, rest = await get(client, f"/workers?limit=3&after={first['last_id']}")
    assert ["w0", "w1", "w2"] == [worker["id"] for worker in first["data"]]
    assert ["w3", "w4"] == [worker["id"] for worker in rest["data"]]
    assert (True, False) == (first["has_more"], rest["has_more"])
    assert 400 == (await get(client, "/workers?limit=0"))[0]


@pytest.mark.parametrize("id_", [RESPONSE, "resp_x", "nothing"])
async def test_the_timeline_of_an_unknown_response_has_no_status(client: Client, id_: str) -> None:
    status, found = await get(client, f"/responses/{id_}")
    assert (200, None, [], id_) == (status, found["status"], found["steps"], found["response_id"])
