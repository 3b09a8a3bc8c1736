"""Tests which clients receive Holdline's own messages."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType

from server.api.close_codes import CloseCode
from server.app import SERVER
from server.websocket import auth as auth_module
from tests.server.auth_helpers import Credentials
from tests.server.conftest import Client, Serve
from tests.server.factories import Worker
from tests.server.talk import ALL, Talk
from tests.system import wait_until


async def plain(client: Client, **how: Any) -> Talk:
    """Opens a socket as a client of the standard does."""
    return Talk(await client.ws_connect(ALL, **how))


def own(talk: Talk) -> list[str]:
    return [event["type"] for event in talk.events if event["type"].startswith("holdline:")]


async def test_a_client_of_the_standard_receives_only_the_standards_events(
    client: Client, worker: Worker
) -> None:
    talk = await plain(client)
    server = client.app[SERVER]
    await wait_until(lambda: server.sockets)
    server.tell_health(healthy=False)
    await talk.say("response.create", input="Why?", stream_id="a")
    await talk.say("response.create", input="And?", stream_id="b")
    await asyncio.sleep(1.5)  # with the extensions, the prompts would have got their positions
    for _ in "ab":
        await worker.answer("Because.")
    await talk.until("response.completed")
    await talk.until("response.completed")
    server.tell_health(healthy=True)
    await server.drain()
    close = await talk.ws.receive(timeout=8)
    assert (CloseCode.RESTARTING, "the server is restarting; retry_after_ms=500") == (
        close.data,
        close.extra,
    )
    assert [] == own(talk)
    assert "response.created" == talk.events[0]["type"]


@pytest.mark.parametrize(
    ("said", "replied"),
    [
        ({"type": "holdline:ping", "id": 1}, "holdline:pong"),
        ({"type": "holdline:resume", "response_id": "resp_1"}, "error"),
        ({"type": "holdline:future"}, "error"),
    ],
)
async def test_the_first_own_message_switches_the_extensions_on(
    client: Client, said: dict[str, Any], replied: str
) -> None:
    talk = await plain(client)
    await talk.say("response.create", input="Why?")
    await talk.until("response.created")
    await talk.ws.send_json(said)
    await talk.until("holdline:welcome")
    await talk.until(replied)
    await talk.until("holdline:queued")
    # The welcome is sent once.
    await talk.say("holdline:ping", id="again")
    await talk.until("holdline:pong")
    assert 1 == own(talk).count("holdline:welcome")


async def test_a_client_that_switches_the_extensions_on_learns_that_the_server_is_degraded(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = await plain(client)
    monkeypatch.setattr(type(client.app[SERVER].relay), "healthy", False)
    await talk.say("holdline:ping", id=1)
    for kind in ("holdline:welcome", "holdline:degraded", "holdline:pong"):
        assert kind == (await talk.next())["type"]


@pytest.mark.parametrize("body", [{"type": 5}, {"type": None}, {}, {"type": "holdline"}])
async def test_other_messages_do_not_switch_the_extensions_on(
    client: Client, body: dict[str, Any]
) -> None:
    talk = await plain(client)
    await talk.ws.send_json(body)
    assert "error" == (await talk.next())["type"]


async def test_an_expired_token_ends_the_socket_of_a_standard_client_with_an_error(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth_module, "TELL_SECONDS", 2.0)
    credentials = Credentials(tmp_path)
    client = await serve(auth_grace_seconds="0.2", **credentials.settings)
    token = credentials.token(seconds=1)
    talk = await plain(client, protocols=[f"bearer.{token}"])
    assert CloseCode.UNAUTHENTICATED == await talk.closed()
    assert ["error"] == [event["type"] for event in talk.events]
    assert (401, "invalid_api_key") == (
        talk.events[0]["status"],
        talk.events[0]["error"]["code"],
    )


async def test_message_pack_switches_the_extensions_on(client: Client) -> None:
    async with client.ws_connect(ALL, protocols=["holdline.msgpack"]) as ws:
        welcome = await ws.receive(timeout=8)
    assert WSMsgType.BINARY is welcome.type
    assert b"holdline:welcome" in welcome.data
