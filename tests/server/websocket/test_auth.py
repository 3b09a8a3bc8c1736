"""Tests the authentication of WebSockets and the expiry of their tokens."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType, WSServerHandshakeError
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

from server.access import api_key_store
from server.api.close_codes import CloseCode
from server.app import SERVER
from server.websocket import auth as auth_module
from tests.error_codes import own_code
from tests.server.auth_helpers import Credentials, bearer
from tests.server.factories import Worker
from tests.system import EXTENSIONS, wait_until

Client = TestClient[Request, Application]
Serve = Callable[..., Awaitable[Client]]
ALL = "/v1/responses"


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    return Credentials(tmp_path)


class Talk:
    """A WebSocket that sends messages and waits for certain events."""

    def __init__(self, ws: ClientWebSocketResponse) -> None:
        self.ws = ws

    async def say(self, kind: str, **fields: Any) -> None:
        await self.ws.send_json({"type": kind, **fields})

    async def until(self, kind: str) -> dict[str, Any]:
        while True:
            message = await self.ws.receive(timeout=8)
            assert message.type is WSMsgType.TEXT, (message, self.ws.close_code)
            event: dict[str, Any] = json.loads(message.data)
            if event["type"] == kind:
                return event

    async def refused(self) -> str:
        return own_code((await self.until("error"))["error"])

    async def closed(self) -> int | None:
        while (message := await self.ws.receive(timeout=8)).type is WSMsgType.TEXT:
            pass
        # Read the code from the close frame: aiohttp reports 1006 if the client's own close reply
        # is late.
        return message.data if message.type is WSMsgType.CLOSE else self.ws.close_code


async def connect(client: Client, **how: Any) -> Talk:
    talk = Talk(await client.ws_connect(ALL, **{"protocols": EXTENSIONS} | how))
    await talk.until("holdline:welcome")
    return talk


async def works(talk: Talk) -> bool:
    await talk.say("response.create", input="Why?")
    created = await talk.until("response.created")
    return "queued" == str(created["response"]["status"])


async def test_a_socket_can_authenticate_with_its_first_message(
    serve: Serve, credentials: Credentials
) -> None:
    talk = await connect(await serve(**credentials.settings))
    await talk.say("holdline:auth", token=credentials.token(scopes=["create", "read"], seconds=600))

    said = await talk.until("holdline:authenticated")
    assert ["create", "read"] == said["scopes"]
    assert 590 < said["expires_in_seconds"] <= 601
    assert await works(talk)


async def test_messages_after_the_first_are_authenticated(
    serve: Serve, credentials: Credentials
) -> None:
    talk = await connect(await serve(**credentials.settings))
    await talk.say("holdline:auth", token=credentials.token())
    await talk.say("response.create", input="Why?")
    assert await talk.until("response.created")


@pytest.mark.parametrize("offers", [["{}"], ["holdline.v1", "{}"], ["{}", "holdline.v1"]])
async def test_a_token_in_a_subprotocol_authenticates_and_is_never_echoed(
    serve: Serve, credentials: Credentials, offers: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    client = await serve(**credentials.settings)
    token = credentials.token()
    with (
        caplog.at_level(logging.INFO, "aiohttp"),
        caplog.at_level(logging.ERROR, "aiohttp.websocket"),
    ):
        how: dict[str, Any] = {"protocols": [offer.format(f"bearer.{token}") for offer in offers]}
        expected = "holdline.v1" if "holdline.v1" in offers else None
        if expected:
            talk = await connect(client, **how)
            await talk.until("holdline:authenticated")
        else:
            talk = Talk(await client.ws_connect(ALL, **how))
        assert await works(talk)
    assert expected == talk.ws.protocol
    assert token not in caplog.text


async def test_a_socket_can_authenticate_with_a_header(
    serve: Serve, credentials: Credentials
) -> None:
    key = credentials.key()
    client = await serve(**credentials.settings)
    for credential in (key, credentials.token()):
        assert await works(await connect(client, headers=bearer(credential)))


@pytest.mark.parametrize("header", ["Bearer x", "Bearer hl_x", "Basic YTpi", "Bearer", "x", ""])
async def test_an_invalid_header_is_refused_before_the_upgrade(
    serve: Serve, credentials: Credentials, header: str
) -> None:
    client = await serve(**credentials.settings)
    with pytest.raises(WSServerHandshakeError) as refused:
        await client.ws_connect(ALL, headers={"Authorization": header})
    assert 401 == refused.value.status


@pytest.mark.parametrize("way", ["message", "subprotocol"])
async def test_an_invalid_token_of_a_browser_is_reported_before_the_close(
    serve: Serve, credentials: Credentials, way: str
) -> None:
    client = await serve(**credentials.settings)
    bad = credentials.token()[:-6]
    protocols = [f"bearer.{bad}"] if way == "subprotocol" else []
    talk = Talk(await client.ws_connect(ALL, protocols=protocols))
    if way == "message":
        await talk.say("holdline:auth", token=bad)
    assert "invalid_token" == await talk.refused()
    assert CloseCode.UNAUTHENTICATED == await talk.closed()
    await wait_until(lambda: not client.app[SERVER].sockets)


@pytest.mark.parametrize("kind", ["response.create", "holdline:ping", "holdline:resume", "what"])
async def test_other_first_messages_are_refused(
    serve: Serve, credentials: Credentials, kind: str
) -> None:
    client = await serve(**credentials.settings)
    talk = await connect(client)
    await talk.say(kind, input="Why?")
    assert "authentication_required" == await talk.refused()
    assert CloseCode.UNAUTHENTICATED == await talk.closed()
    refused = client.app[SERVER].metrics.refused
    assert 1 == refused.labels("authentication_required").count


async def test_a_silent_unauthenticated_socket_is_closed(
    serve: Serve, credentials: Credentials
) -> None:
    client = await serve(auth_seconds="0.2", **credentials.settings)
    silent = [await connect(client) for _ in range(20)]
    assert {CloseCode.SILENT} == set(await asyncio.gather(*(talk.closed() for talk in silent)))
    await wait_until(lambda: not client.app[SERVER].sockets)


async def test_pings_and_invalid_messages_do_not_extend_the_authentication_deadline(
    serve: Serve, credentials: Credentials
) -> None:
    talk = await connect(await serve(auth_seconds="0.3", **credentials.settings))
    for _ in range(5):
        await talk.ws.ping()
        await talk.ws.send_str("{")
    assert CloseCode.SILENT == await talk.closed()


async def test_a_socket_is_warned_before_its_token_expires_and_closed_after_a_grace_period(
    serve: Serve, credentials: Credentials, worker: Worker
) -> None:
    client = await serve(auth_grace_seconds="0.2", **credentials.settings)
    talk = await connect(client, headers=bearer(credentials.token(seconds=2)))
    told = await talk.until("holdline:expiring")
    assert await works(talk)
    assert 0 < told["expires_in_seconds"] <= 2
    assert 0.2 == told["grace_seconds"]
    assert CloseCode.UNAUTHENTICATED == await talk.closed()
    # The answer continues, and a client with a fresh token can retrieve it.
    answer = await worker.answer("Because.")
    path = f"{ALL}/{answer.job.id}"
    async with client.get(path, headers=bearer(credentials.token())) as response:
        assert "completed" == (await response.json())["status"]


async def test_a_fresh_token_keeps_the_socket_open(
    serve: Serve, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await serve(auth_grace_seconds="0", **credentials.settings)
    talk = await connect(client)
    await talk.say("holdline:auth", token=credentials.token(seconds=1))
    for seconds in (2, 600):
        await talk.until("holdline:expiring")
        await talk.say("holdline:auth", token=credentials.token(seconds=seconds))
        await talk.until("holdline:authenticated")
    await asyncio.sleep(2.1)  # wait until all tokens except the last one have expired
    assert await works(talk)


@pytest.mark.parametrize("who", [("bert", "acme"), ("anna", "other")])
async def test_a_fresh_token_of_another_user_is_refused(
    serve: Serve, credentials: Credentials, who: tuple[str, str]
) -> None:
    talk = await connect(await serve(**credentials.settings), headers=bearer(credentials.token()))
    await talk.say("holdline:auth", token=credentials.token(*who))
    assert "token_of_another" == await talk.refused()
    await talk.say("holdline:auth", token="x")
    assert "invalid_token" == await talk.refused()
    await talk.say("holdline:auth")
    assert "missing_required_parameter" == await talk.refused()
    assert await works(talk)


async def test_a_socket_whose_key_is_revoked_is_closed(
    serve: Serve, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth_module, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr("runtime.watched_file.LOOK_SECONDS", 0.0)
    monkeypatch.setattr(api_key_store, "FRESH_SECONDS", 0.0)
    key, other = credentials.key(), credentials.key()
    client = await serve(**credentials.settings)
    talk, stays = [await connect(client, headers=bearer(each)) for each in (key, other)]
    assert await works(talk)
    credentials.revoke(key)
    assert CloseCode.UNAUTHENTICATED == await talk.closed()
    assert await works(stays)


async def test_a_token_has_no_effect_on_a_server_without_keys(serve: Serve) -> None:
    talk = await connect(await serve(), headers=bearer("any"))
    await talk.say("holdline:auth", token="any")
    assert await works(talk)
