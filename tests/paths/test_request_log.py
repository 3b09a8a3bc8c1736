"""Tests the request log: who asked for what and when, without names, addresses and prompts."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import holdline_client
from jobs.names import Partition
from jobs.redis.pipe import Pipe
from tests.fake_model import FakeModel
from tests.paths.sockets import until
from tests.system import Server, System, wait_until

pytestmark = pytest.mark.timeout(240)
SECRET = "the-secret-word"
PROMPT = {"input": f"tokens=2 {SECRET}", "model": "m"}


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel() as model:
        yield model


def lines(server: Server) -> list[dict[str, Any]]:
    found = map(json.loads, server.output.splitlines())
    return [line for line in found if line["event"] == "request handled"]


async def written(server: Server, number: int) -> list[dict[str, Any]]:
    """Waits until the request log has this number of lines, and returns them."""
    await wait_until(lambda: number <= len(lines(server)))
    assert number == len(lines(server))
    return lines(server)


async def signing_key(system: System, folder: Path) -> str:
    """Creates a key that signs tokens."""
    system.environ["HOLDLINE_JWT_KEYS"] = str(folder / "signers")
    return await system.add_signer()


async def test_the_log_is_off_by_default_and_never_lists_reads(
    system: System, model: FakeModel
) -> None:
    quiet, server = await system.server(), await system.server(HOLDLINE_REQUEST_LOG="on")
    await system.worker(model.url)
    id_ = ""
    async with aiohttp.ClientSession() as http:
        for one in (quiet, server):
            async with http.post(f"{one.url}/v1/responses", json=PROMPT) as response:
                id_ = (await response.json())["id"]
            async with http.get(f"{one.url}/v1/responses/{id_}") as response:
                assert 200 == response.status
            async with http.get(f"{one.url}/v1/responses/resp_{'0' * 35}") as response:
                assert 404 == response.status
            async with http.delete(f"{one.url}/v1/responses/{id_}") as response:
                assert 200 == response.status
            async with http.post(f"{one.url}/v1/{SECRET}", json=PROMPT) as response:
                assert 404 == response.status
    made, missing, deleted, unknown = await written(server, 4)
    assert {
        "route": "POST /v1/responses",
        "status": 200,
        "code": None,
        "response_id": id_,
        "model": "m",
        "tenant": None,
        "subject_hash": None,
        "key_id": None,
        "address": None,
    }.items() <= made.items()
    assert made["request_ms"] > 0
    assert ("GET /v1/responses/{id}", 404) == (missing["route"], missing["status"])
    assert missing["code"]
    assert ("DELETE /v1/responses/{id}", 200) == (deleted["route"], deleted["status"])
    assert ("POST (unknown path)", 404) == (unknown["route"], unknown["status"])
    assert [] == lines(quiet)
    assert SECRET not in server.output


@pytest.mark.heavy
async def test_an_end_user_has_the_same_hash_on_each_server_and_in_the_command(
    system: System, model: FakeModel, tmp_path: Path, pipe: Pipe
) -> None:
    key = await signing_key(system, tmp_path)
    on = {"HOLDLINE_REQUEST_LOG": "on"}
    servers = await system.server(**on), await system.server(**on)
    await system.worker(model.url)
    hashes: list[str] = []
    for subject in ("anna", "anna", "bert"):
        token = holdline_client.mint_token(key, tenant="acme", subject=subject, seconds=600)
        for server in servers:
            headers = {"Authorization": f"Bearer {token}"}
            async with (
                aiohttp.ClientSession(headers=headers) as http,
                http.post(f"{server.url}/v1/responses", json=PROMPT) as response,
            ):
                assert 200 == response.status
            line = (await written(server, len(hashes) // 2 + 1))[-1]
            assert "acme" == line["tenant"]
            hashes.append(line["subject_hash"])
    anna = (await system.run("subject", "hash", "acme/anna")).strip()
    bert = (await system.run("subject", "hash", "acme/bert")).strip()
    assert [anna] * 4 + [bert] * 2 == hashes
    assert re.fullmatch("[0-9a-f]{16}", anna)
    assert anna != bert
    for server in servers:
        assert not re.search("anna|bert|127.0.0.1:[0-9]+", server.output.replace(server.url, ""))
    # Another salt makes other hashes, so a hash alone does not reveal a guessed name.
    await pipe.call("DEL", Partition(0).salt)
    assert anna != (await system.run("subject", "hash", "acme/anna")).strip()


async def test_socket_messages_and_refusals_are_logged(
    system: System, model: FakeModel, tmp_path: Path
) -> None:
    key = await signing_key(system, tmp_path)
    server = await system.server(HOLDLINE_REQUEST_LOG="with_address")
    await system.worker(model.url)
    token = holdline_client.mint_token(key, tenant="acme", subject="anna", seconds=600)
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await http.ws_connect(server.ws_url, headers={"Authorization": "Bearer wrong"})
        headers = {"Authorization": f"Bearer {token}"}
        async with http.ws_connect(server.ws_url, headers=headers) as ws:
            await ws.send_json({"type": "response.create", **PROMPT})
            ended = (await until(ws, "response.completed"))[-1]
            await ws.send_json({"type": "response.create", "model": "m", "input": 5})
            await until(ws, "error")
            await ws.send_json({"type": [SECRET]})
            await until(ws, "error")
            await ws.send_str("{")
            await until(ws, "error")
            id_ = ended["response"]["id"]
            await ws.send_json({"type": "response.cancel", "response_id": id_})
            steer = {"type": "response.steer", "previous_response_id": id_, "input": SECRET}
            await ws.send_json(steer)
            await until(ws, "response.steer.failed")
    found = await written(server, 7)
    assert [
        ("GET /v1/responses", 401),
        ("response.create", 200),
        ("response.create", 400),
        ("(unknown type)", 400),
        ("(invalid message)", 400),
    ] == [(line["route"], line["status"]) for line in found[:5]]
    assert {("response.cancel", 200), ("response.steer", 400)} == {
        (line["route"], line["status"]) for line in found[5:]
    }
    assert id_ == found[1]["response_id"]
    assert {"acme"} == {line["tenant"] for line in found[1:]}
    assert 1 == len({line["subject_hash"] for line in found[1:]})
    assert {"127.0.0.1"} == {line["address"] for line in found[1:]}
    assert all(line["code"] for line in found if line["status"] >= 400)
    assert SECRET not in server.output
    assert token not in server.output


async def test_the_log_names_the_caller_that_lacks_a_scope(system: System, tmp_path: Path) -> None:
    key = await signing_key(system, tmp_path)
    server = await system.server(HOLDLINE_REQUEST_LOG="on")
    token = holdline_client.mint_token(key, tenant="acme", subject="anna", seconds=600)
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.get(f"{server.url}/v1/console") as response,
    ):
        assert 403 == response.status
    [line] = await written(server, 1)
    assert ("acme", "insufficient_scope") == (line["tenant"], line["code"])
    assert line["subject_hash"]
