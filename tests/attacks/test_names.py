"""Tests client input that attempts to inject Redis keys, commands, log lines or headers."""

from __future__ import annotations

import aiohttp
import pytest

from jobs.names import Partition
from tests.attacks.conftest import Target
from tests.system import EXTENSIONS

HOSTILE = [
    "a{0}:job:x",
    "}{",
    "holdline:{0}:dead",
    "a\r\nFLUSHALL\r\n",
    "*1\r\n$8\r\nFLUSHALL\r\n",
    "a\x00b",
    "\x1b[2J\x1b]0;owned\x07",
    "a\u2028b\u202eb",
    "d:m|public|x",
    "~sent",
    "' .. redis.call('FLUSHALL') .. '",
    '{"level":"error","event":"forged"}',
    "😀" * 60,
    "%s%n{0.__class__}",
]


async def _key_names(target: Target) -> list[str]:
    found, cursor = [], b"0"
    while True:
        cursor, some = await target.pipe.call("SCAN", cursor, "COUNT", 1000)
        found += [name.decode("latin-1") for name in some]
        if cursor == b"0":
            return found


async def test_client_input_cannot_inject_redis_keys_or_commands(target: Target) -> None:
    canary = "holdline-canary"
    await target.pipe.call("SET", canary, "there", "PX", 60_000)
    prefix = Partition(0).prefix
    async with aiohttp.ClientSession() as http:
        for word in HOSTILE:
            body = {
                "input": "tokens=1",
                "model": word,
                "idempotency_key": word,
                "user": word,
                "safety_identifier": word,
                "prompt_cache_key": word,
                "metadata": {word[:64]: word},
            }
            async with http.post(f"{target.url}/v1/responses", json=body) as answer:
                reply = await answer.json()
                assert 200 == answer.status, reply
                # The response must contain `user` and `metadata` unchanged.
                assert (word, {word[:64]: word}) == (reply["user"], reply["metadata"])
    names = await _key_names(target)
    assert canary in names
    await target.pipe.call("DEL", canary)
    for name in names:
        if name != canary:
            assert name.startswith(prefix), name
            assert name.isascii(), name
            assert name.isprintable(), name
            assert "FLUSHALL" not in name


IDS = [
    "resp_000" + "0" * 31 + "/",
    "resp_000" + "0" * 32 + "\n",
    "resp_000" + "0" * 33,
    "resp_fff" + "0" * 32,
    "resp_000" + "0" * 31 + "\u0660",
    "resp_{0}" + "0" * 32,
    "RESP_000" + "0" * 32,
    "resp_000" + "0" * 32,
    "holdline:{0}:epoch",
    "*",
    "",
]


@pytest.mark.parametrize("kind", ["holdline:resume", "response.cancel"])
async def test_a_forged_response_id_is_not_found(target: Target, kind: str) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(target.server.ws_url, protocols=EXTENSIONS) as ws,
    ):
        await ws.receive_json(timeout=10)
        for id_ in IDS:
            await ws.send_json({"type": kind, "response_id": id_})
            reply = await ws.receive_json(timeout=10)
            assert "response_not_found" == reply["error"]["code"], id_
            shown = reply["error"]["message"].replace(id_[:64], "")
            assert "Response with id '' not found. It may have expired." == shown


@pytest.mark.parametrize("after", [-2, 2**53 + 1, 10**30, 1.5, "0", [], {"a": 1}, True])
async def test_an_invalid_starting_after_is_rejected(target: Target, after: object) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(target.server.ws_url, protocols=EXTENSIONS) as ws,
    ):
        await ws.receive_json(timeout=10)
        message = {"type": "holdline:resume", "response_id": IDS[7], "starting_after": after}
        await ws.send_json(message)
        reply = await ws.receive_json(timeout=10)
        assert ("invalid_value", "starting_after") == (
            reply["error"]["code"],
            reply["error"]["param"],
        )


async def test_client_input_cannot_inject_log_lines_or_headers(target: Target) -> None:
    async with aiohttp.ClientSession() as http:
        for word in HOSTILE:
            clean = "".join(c for c in word if c.isprintable()).encode("utf-8", "replace")
            headers = {
                "User-Agent": clean.decode("latin-1"),
                "Sec-WebSocket-Protocol": clean.decode("latin-1"),
                "X-Request-Id": clean.decode("latin-1"),
            }
            async with http.get(f"{target.url}/v1/nothing", headers=headers) as answer:
                assert 404 == answer.status
                response_headers = repr(answer.headers)
            assert "forged" not in response_headers
            assert "FLUSHALL" not in response_headers
    for process in (target.server, target.worker):
        for word in ("FLUSHALL", "forged", "owned", "\x1b"):
            assert word not in process.output
