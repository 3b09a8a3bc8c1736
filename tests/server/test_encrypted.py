"""Tests clients of a server that encrypts its data and of a server that lacks the key."""

from __future__ import annotations

import os
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from jobs.cipher import Cipher
from jobs.config.settings import ConfigError
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from server.app import SERVER
from server.config import Config
from tests.error_codes import own_code
from tests.server.conftest import Client, Serve
from tests.server.factories import Worker
from tests.system import EXTENSIONS


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(b64encode(os.urandom(32)).decode() + "\nplain\n")
    return path


@pytest.fixture
async def locked(serve: Serve, keys: Path) -> Client:
    return await serve(encryption_keys=str(keys))


async def ask(client: Client, **more: Any) -> str:
    response = await client.post("/v1/responses", json={"input": "Why?", "background": True} | more)
    id_: str = (await response.json())["id"]
    return id_


async def test_an_encrypted_answer_can_be_followed_live_and_read_again(
    locked: Client, keys: Path, redis_url: str
) -> None:
    id_ = await ask(locked)
    ws = await locked.ws_connect("/v1/responses")
    await ws.send_json({"type": "holdline:resume", "response_id": id_})
    async with Pipe(Redis(redis_url, Cipher(keys.read_text()))) as pipe:
        await Worker(pipe).answer("Because.")
    events: list[dict[str, Any]] = []
    while not events or events[-1].get("type") != "response.completed":
        events.append(await ws.receive_json(timeout=10))
    await ws.close()
    text = "".join(event.get("delta", "") for event in events)
    assert "Because." == text
    response = await (await locked.get(f"/v1/responses/{id_}")).json()
    assert "Because." == response["output"][0]["content"][0]["text"]
    items = await (await locked.get(f"/v1/responses/{id_}/input_items")).json()
    assert "Why?" == items["data"][0]["content"][0]["text"]


async def test_a_server_that_lacks_the_key_reports_it(locked: Client, serve: Serve) -> None:
    id_ = await ask(locked)
    # The second server stands for one that was started before encryption was enabled. It would
    # refuse to start if this key still existed.
    await locked.app[SERVER].pipe.call("DEL", "holdline:{0}:cipher")
    other = await serve()
    for path in ("", "/input_items", "/cancel"):
        ask_it = other.post if path == "/cancel" else other.get
        response = await ask_it(f"/v1/responses/{id_}{path}")
        assert (503, "5") == (response.status, response.headers["Retry-After"]), path
        assert "response_key_missing" == own_code((await response.json())["error"])
    ws = await other.ws_connect("/v1/responses", protocols=EXTENSIONS)
    await ws.receive_json(timeout=10)
    await ws.send_json({"type": "holdline:resume", "response_id": id_})
    said = await ws.receive_json(timeout=10)
    assert (503, id_) == (said["status"], said["response_id"])
    assert "response_key_missing" == own_code(said["error"])
    assert {"Retry-After": "5"} == said["error"]["headers"]
    await ws.close()
    # Deleting a response does not require reading it, so it works without the key.
    assert 200 == (await other.delete(f"/v1/responses/{id_}")).status


async def test_an_invalid_file_of_encryption_keys_is_named_without_being_quoted(
    tmp_path: Path,
) -> None:
    path = tmp_path / "keys"
    with pytest.raises(ConfigError, match=r"keys: the file cannot be read: FileNotFoundError"):
        Config.from_environ({"HOLDLINE_ENCRYPTION_KEYS": str(path)})
    path.write_text("secret")
    with pytest.raises(ConfigError, match=f"{path}: key 1 is not the base64") as refused:
        Config.from_environ({"HOLDLINE_ENCRYPTION_KEYS": str(path)})
    assert "secret" not in str(refused.value)
    assert Config.from_environ({}).cipher is None
