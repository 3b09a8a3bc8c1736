"""Tests the WebSocket for AG-UI, with a worker that the test controls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType, WSServerHandshakeError

from jobs.record import Status
from server.access import principal
from server.api.close_codes import CloseCode
from server.app import Server
from server.websocket import run_socket
from tests.error_codes import own_code
from tests.server.ag_ui import API, BODY, events, types
from tests.server.auth_helpers import Credentials
from tests.server.conftest import Client
from tests.server.factories import Worker
from tests.server.talk import at_rest
from tests.system import wait_until

Serve = Callable[..., Awaitable[Client]]


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    return Credentials(tmp_path)


async def to_the_end(ws: ClientWebSocketResponse) -> tuple[list[Any], int]:
    """Returns the messages of a socket until it is closed, and the close code."""
    found = []
    while (message := await ws.receive(timeout=8)).type is WSMsgType.TEXT:
        found.append(json.loads(message.data))
    assert message.type is WSMsgType.CLOSE, message
    return found, message.data


async def said(client: Client, *messages: Any, **how: Any) -> tuple[list[Any], int]:
    """Sends messages on a socket, and returns what the server sends until it closes the socket."""
    async with client.ws_connect(API, **how) as ws:
        for message in messages:
            await ws.send_json(message)
        return await to_the_end(ws)


async def ran(client: Client, worker: Worker) -> list[Any]:
    """Returns the events of a complete run."""
    running = asyncio.create_task(said(client, BODY))
    await worker.answer("So", " it is.")
    found, code = await running
    assert 1000 == code
    return found


def refusal(found: list[Any], code: int) -> tuple[str, str | None, int]:
    """Returns the code and the field of an error, which is the only message, and the close code."""
    [event] = found
    error = event["rawEvent"]["error"]
    assert ("RUN_ERROR", error["code"]) == (event["type"], event["code"])
    return own_code(error), error["param"], code


async def test_a_socket_sends_the_events_of_the_stream(client: Client, worker: Worker) -> None:
    found = await ran(client, worker)
    assert ["RUN_STARTED", "RUN_FINISHED"] == [types(found)[0], types(found)[-1]]
    assert "So it is." == "".join(event.get("delta", "") for event in found)
    async with client.post(API, json=BODY) as answer:
        text = await answer.text()
    cursors = [line[4:] for line in text.splitlines() if line[:4] == "id: "]
    assert cursors == [event["cursor"] for event in found if "cursor" in event]
    own = {"sequence", "cursor"}
    assert events(text) == [
        {name: value for name, value in event.items() if name not in own} for event in found
    ]


async def test_a_run_continues_after_each_event(client: Client, worker: Worker) -> None:
    whole = await ran(client, worker)
    run = {"threadId": "thread-1", "runId": "run-1"}
    run["responseId"] = whole[0]["metadata"]["responseId"]
    for number, event in enumerate(whole):
        if "sequence" in event:
            again = {**run, "startingAfter": event["sequence"]}
            assert (whole[number + 1 :], 1000) == await said(client, again)
    assert (whole, 1000) == await said(client, run)


async def test_events_arrive_before_the_end_of_the_answer(client: Client, worker: Worker) -> None:
    async with client.ws_connect(API) as ws:
        await ws.send_json(BODY)
        answer = await worker.take()
        await answer.say("So")
        found: list[str] = []
        while "TEXT_MESSAGE_CONTENT" not in found:
            found.append((await ws.receive_json(timeout=8))["type"])
        await answer.complete()
        rest, code = await to_the_end(ws)
    assert ("RUN_FINISHED", 1000) == (rest[-1]["type"], code)


async def test_an_unstored_answer_is_deleted_once_the_client_has_received_it(
    serve: Serve, worker: Worker
) -> None:
    client = await serve(unstored_seconds="0.2")
    body = {**BODY, "forwardedProps": {"holdline": {"store": False}}}
    running = asyncio.create_task(said(client, body))
    await worker.answer("So")
    found, code = await running
    assert ("RUN_FINISHED", 1000) == (found[-1]["type"], code)
    path = f"/v1/responses/{found[0]['metadata']['responseId']}"

    async def is_deleted() -> bool:
        async with client.get(path) as answer:
            return answer.status == 404

    await wait_until(is_deleted)


async def test_a_failed_answer_is_an_error_of_the_log(client: Client, worker: Worker) -> None:
    async with client.ws_connect(API) as ws:
        await ws.send_json(BODY)
        await (await worker.take()).complete(Status.FAILED)
        found, code = await to_the_end(ws)
    assert ("RUN_ERROR", 1000) == (found[-1]["type"], code)
    assert found[-1]["sequence"] > found[0]["sequence"]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({**BODY, "threadId": None}, ("missing_required_parameter", "threadId", 1000)),
        ({**BODY, "colour": "blue"}, ("unknown_parameter", "colour", 1000)),
        (
            {**BODY, "forwardedProps": {"holdline": {"temperature": 9}}},
            ("invalid_value", "forwardedProps.holdline.temperature", 1000),
        ),
        (
            {"threadId": "t", "runId": "r", "responseId": "resp_unknown"},
            ("response_not_found", "responseId", 1000),
        ),
        (
            {"threadId": "t", "runId": "r", "responseId": "resp_1", "startingAfter": True},
            ("invalid_value", "startingAfter", 1000),
        ),
        (
            {"threadId": "t", "runId": "r", "responseId": "resp_1", "after": 1},
            ("unknown_parameter", "after", 1000),
        ),
        ({"type": "holdline:console"}, ("invalid_value", "type", 1000)),
        ([1], ("invalid_json", None, 1000)),
    ],
)
async def test_a_wrong_message_is_refused_by_the_name_of_its_field(
    client: Client, message: Any, expected: tuple[str, str | None, int]
) -> None:
    assert expected == refusal(*await said(client, message))


async def test_a_binary_message_is_refused(client: Client) -> None:
    async with client.ws_connect(API) as ws:
        await ws.send_bytes(b"{}")
        assert "bad_message" == refusal(*await to_the_end(ws))[0]


async def test_a_socket_serves_one_run(client: Client, worker: Worker) -> None:
    async with client.ws_connect(API) as ws:
        await ws.send_json(BODY)
        answer = await worker.take()
        await answer.say("So")
        await ws.send_json({**BODY, "runId": "run-2"})
        found, code = await to_the_end(ws)
    assert ("run_in_progress", 1000) == (found[-1]["code"], code)
    await answer.complete()  # the response of the first run goes on
    again, code = await said(client, BODY)
    assert ("RUN_FINISHED", 1000) == (again[-1]["type"], code)


async def test_a_message_above_the_limit_closes_the_socket(serve: Serve) -> None:
    client = await serve(max_body_bytes="65536")
    large = {**BODY, "messages": [{"id": "m", "role": "user", "content": "x" * 70_000}]}
    assert ([], 1009) == await said(client, large)


async def test_a_socket_without_a_run_is_closed_in_time(serve: Serve) -> None:
    client = await serve(request_seconds="0.2")
    assert ([], CloseCode.SILENT) == await said(client)


async def test_pings_are_answered(client: Client) -> None:
    async with client.ws_connect(API, autoping=False) as ws:
        await ws.ping(b"here")
        pong = await ws.receive(timeout=8)
        assert (WSMsgType.PONG, b"here") == (pong.type, bytes(pong.data))
        await ws.send_json({"type": "holdline:ping", "id": 7})
        assert {"type": "holdline:pong", "id": 7} == await ws.receive_json(timeout=8)


async def test_a_restarting_server_asks_the_client_to_continue_elsewhere(
    client: Client, worker: Worker, server: Server
) -> None:
    async with client.ws_connect(API) as ws:
        await ws.send_json(BODY)
        answer = await worker.take()
        await ws.receive_json(timeout=8)
        draining = asyncio.create_task(server.drain())
        assert CloseCode.RESTARTING == (await to_the_end(ws))[1]
        await draining
    with pytest.raises(WSServerHandshakeError) as refused:
        await client.ws_connect(API)
    assert 503 == refused.value.status
    await answer.complete()


async def test_a_socket_that_the_client_leaves_is_cleaned_up(
    client: Client, worker: Worker, server: Server
) -> None:
    async with client.ws_connect(API) as ws:
        await ws.send_json(BODY)
        answer = await worker.take()
        await ws.receive_json(timeout=8)
        assert 1 == server.metrics.followers.count
    await wait_until(lambda: at_rest(server))
    assert (0, 0) == (server.metrics.followers.count, server.metrics.sockets.count)
    await answer.complete()


async def test_the_first_message_can_authenticate(
    serve: Serve, credentials: Credentials, worker: Worker
) -> None:
    client = await serve(**credentials.settings)
    auth = {"type": "holdline:auth", "token": credentials.token()}
    running = asyncio.create_task(said(client, auth, BODY))
    await worker.answer("So")
    found, code = await running
    assert ["holdline:authenticated", "RUN_STARTED"] == types(found)[:2]
    assert ("RUN_FINISHED", 1000) == (found[-1]["type"], code)


async def test_a_refused_token_ends_a_run_that_another_socket_can_resume(
    serve: Serve, credentials: Credentials, worker: Worker
) -> None:
    client = await serve(**credentials.settings)
    anna = {"Authorization": f"Bearer {credentials.token('anna')}"}
    async with client.ws_connect(API, headers=anna) as ws:
        await ws.send_json(BODY)
        answer = await worker.take()
        started = await ws.receive_json(timeout=8)
        await ws.send_json({"type": "holdline:auth", "token": credentials.token("bert")})
        found, code = await to_the_end(ws)
    error = own_code(found[-1]["rawEvent"]["error"])
    assert ("token_of_another", CloseCode.UNAUTHENTICATED) == (error, code)
    await answer.say("So")
    await answer.complete()
    run = {"threadId": "thread-1", "runId": "run-1", "startingAfter": started["sequence"]}
    run["responseId"] = started["metadata"]["responseId"]
    found, code = await said(client, run, headers=anna)
    assert ("RUN_FINISHED", 1000) == (found[-1]["type"], code)


async def test_a_cursor_after_the_end_is_an_error(client: Client, worker: Worker) -> None:
    whole = await ran(client, worker)
    run = {"threadId": "thread-1", "runId": "run-1", "startingAfter": 99}
    run["responseId"] = whole[0]["metadata"]["responseId"]
    [event], code = await said(client, run)
    assert ("RUN_ERROR", 1000) == (event["type"], code)
    assert "'starting_after' is 99" in event["message"]


async def test_a_caller_without_the_scope_or_a_credential_is_refused(
    serve: Serve, credentials: Credentials
) -> None:
    reader = {"Authorization": f"Bearer {credentials.key('acme', principal.READ)}"}
    client = await serve(**credentials.settings)
    assert "insufficient_scope" == refusal(*await said(client, BODY, headers=reader))[0]
    code, _, closed = refusal(*await said(client, BODY))
    assert ("authentication_required", CloseCode.UNAUTHENTICATED) == (code, closed)
    auth = {"type": "holdline:auth", "token": "x"}
    assert CloseCode.UNAUTHENTICATED == refusal(*await said(client, auth, BODY))[2]


async def test_a_run_of_another_owner_is_missing(
    serve: Serve, credentials: Credentials, worker: Worker
) -> None:
    client = await serve(**credentials.settings)
    anna, bert = (
        {"Authorization": f"Bearer {credentials.token(name)}"} for name in ("anna", "bert")
    )
    running = asyncio.create_task(said(client, BODY, headers=anna))
    await worker.answer("So")
    found, _ = await running
    id_ = found[0]["metadata"]["responseId"]
    run = {"threadId": "thread-1", "runId": "run-1", "responseId": id_}
    assert "response_not_found" == refusal(*await said(client, run, headers=bert))[0]


async def test_the_protocol_of_another_encoding_is_refused(client: Client) -> None:
    with pytest.raises(WSServerHandshakeError) as refused:
        await client.ws_connect(API, protocols=["holdline.msgpack"])
    assert 400 == refused.value.status
    async with client.get(API) as answer:
        assert (426, "upgrade_required") == (
            answer.status,
            (await answer.json())["error"]["code"],
        )


async def one_by_one(steps: list[Coroutine[Any, Any, None]]) -> None:
    for step in steps:
        await step


async def test_a_client_that_does_not_read_bounds_what_the_server_holds(
    client: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_socket, "PIECE_BYTES", 1024)
    async with client.ws_connect(API, autoping=False, max_msg_size=0) as ws:
        ids = [f"{number}" * 100_000 for number in range(60)]
        pings = [ws.send_json({"type": "holdline:ping", "id": id_}) for id_ in ids]
        sending = asyncio.create_task(one_by_one(pings))
        await wait_until(lambda: len(server.services.slow) == 1)
        for id_ in ids:
            assert id_ == (await ws.receive_json(timeout=8))["id"]
        await sending
        await wait_until(lambda: len(server.services.slow) == 0)
