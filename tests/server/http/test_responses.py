"""Tests the HTTP routes for responses with a real Redis and a worker that the test controls."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientPayloadError
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

from jobs.record import Status
from server.app import SERVER, Server
from server.http import timeouts
from server.http.answers import PIECE_BYTES
from tests.server.factories import RESPONSE, Worker
from tests.server.http.steps import ALL, answered, background, events_of, refusal
from tests.server.talk import at_rest
from tests.system import wait_until

Client = TestClient[Request, Application]
Serve = Callable[..., Awaitable[Client]]


# Creating responses


async def test_a_plain_request_returns_the_complete_answer(
    client: Client, worker: Worker, server: Server
) -> None:
    asked = asyncio.create_task(client.post(ALL, json={"input": "Why?"}))
    answer = await worker.take()
    await answer.say("Because", ".")
    assert not asked.done()
    await answer.complete()
    async with await asked as response:
        body = await response.json()

    assert (200, answer.job.id, "completed") == (response.status, body["id"], body["status"])
    assert "Because." == body["output"][0]["content"][0]["text"]
    await wait_until(lambda: at_rest(server))


async def test_a_streaming_request_receives_every_event_and_done(
    client: Client, worker: Worker, server: Server
) -> None:
    working = asyncio.create_task(worker.answer("Be", "cause", "."))
    async with client.post(ALL, json={"input": "Why?", "stream": True}) as response:
        events, done = await events_of(response)
    answer = await working
    delivered = server.metrics.registry.get
    assert len(events) == delivered("holdline_events_delivered_total", "sse")
    assert 0 == delivered("holdline_events_delivered_total", "websocket")

    assert done
    assert list(range(len(events))) == [event["sequence_number"] for event in events]
    assert ["response.created", "response.queued", "response.in_progress"] == [
        event["type"] for event in events[:3]
    ]
    assert "response.completed" == events[-1]["type"]
    assert answer.job.id == response.headers["X-Response-Id"]
    assert response.headers["Content-Type"].startswith("text/event-stream")


async def test_a_background_request_is_accepted_at_once(client: Client, worker: Worker) -> None:
    async with client.post(ALL, json={"input": "Why?", "background": True}) as response:
        body = await response.json()

    assert ("queued", True, []) == (body["status"], body["background"], body["output"])
    answer = await worker.take()
    assert body["id"] == answer.job.id


async def test_the_job_holds_the_request(client: Client, worker: Worker) -> None:
    await background(
        client, input=[{"role": "user", "content": "Why? \0 👩‍👧 \u202e"}], temperature=0, user="u"
    )

    params = (await worker.take()).job.params

    assert "Why? \0 👩‍👧 \u202e" == params["input"][0]["content"][0]["text"]
    assert (0, "u", "simulation") == (params["temperature"], params["user"], params["model"])


async def test_a_disconnected_caller_does_not_stop_the_answer(
    client: Client, worker: Worker, server: Server
) -> None:
    for stream in (False, True):
        asked = asyncio.create_task(client.post(ALL, json={"input": "Why?", "stream": stream}))
        answer = await worker.take()
        await answer.say("Be")
        if stream:
            (await asked).close()
        else:
            asked.cancel()
            await asyncio.wait([asked])
        await answer.say("cause.")
        await answer.complete()
        await wait_until(lambda: at_rest(server))

        async with client.get(f"{ALL}/{answer.job.id}") as response:
            body = await response.json()
        assert "Because." == body["output"][0]["content"][0]["text"]


async def test_a_response_continues_earlier_responses(client: Client, worker: Worker) -> None:
    first = await answered(client, worker, "One.")
    second = await background(client, input="And?", previous_response_id=first)
    await worker.answer("Two.")
    await background(client, input="Then?", previous_response_id=second)

    job = (await worker.take()).job
    texts = [part["text"] for item in job.context for part in item["content"]]

    assert ["Why?", "One.", "And?", "Two."] == texts
    assert ["user", "assistant"] * 2 == [item["role"] for item in job.context]


@pytest.mark.parametrize("previous", ["resp_x", RESPONSE, "x" * 128])
async def test_an_unknown_response_cannot_be_continued(client: Client, previous: str) -> None:
    body = {"input": "And?", "previous_response_id": previous}
    async with client.post(ALL, json=body) as response:
        assert (400, "previous_response_not_found", "previous_response_id") == await refusal(
            response
        )


async def test_unfinished_and_unstored_responses_cannot_be_continued(
    client: Client, worker: Worker
) -> None:
    unstored = await background(client, store=False)
    await worker.answer("Secret.")
    unended = await background(client)
    for previous, status in ((unended, 409), (unstored, 400)):
        body = {"input": "And?", "previous_response_id": previous}
        async with client.post(ALL, json=body) as response:
            assert status == (await refusal(response))[0]


# Cancelling responses


async def test_a_waiting_response_is_cancelled_at_once(client: Client) -> None:
    id_ = await background(client)
    async with client.post(f"{ALL}/{id_}/cancel") as response:
        body = await response.json()
    async with client.post(f"{ALL}/{id_}/cancel") as response:
        again = await response.json()

    assert "cancelled" == body["status"]
    assert body == again


async def test_a_running_response_is_cancelled_by_its_worker(
    client: Client, worker: Worker
) -> None:
    id_ = await background(client)
    answer = await worker.take()
    cancelling = asyncio.create_task(client.post(f"{ALL}/{id_}/cancel"))
    await answer.asked_to_stop()
    await answer.complete(Status.CANCELLED)
    async with await cancelling as response:
        assert "cancelled" == (await response.json())["status"]


async def test_a_finished_response_cannot_be_cancelled(client: Client, worker: Worker) -> None:
    id_ = await answered(client, worker, "a")
    async with client.post(f"{ALL}/{id_}/cancel") as response:
        assert "completed" == (await response.json())["status"]


# Listing input items


async def test_input_items_are_paginated(client: Client) -> None:
    messages = [{"role": "user", "content": str(number)} for number in range(25)]
    id_ = await background(client, input=messages)
    url = f"{ALL}/{id_}/input_items"

    async def page(query: str = "") -> dict[str, Any]:
        async with client.get(url + query) as response:
            body: dict[str, Any] = await response.json()
            assert response.status == 200
            return body

    def texts(body: dict[str, Any]) -> list[str]:
        return [item["content"][0]["text"] for item in body["data"]]

    newest = await page()
    assert [str(number) for number in range(24, 4, -1)] == texts(newest)
    assert newest["has_more"]
    rest = await page(f"?after={newest['last_id']}")
    assert ([str(number) for number in range(4, -1, -1)], False) == (texts(rest), rest["has_more"])

    seen: list[str] = []
    after = ""
    while True:
        body = await page(f"?order=asc&limit=7{after}")
        seen += texts(body)
        after = f"&after={body['last_id']}"
        if not body["has_more"]:
            break
    assert [str(number) for number in range(25)] == seen
    body = await page(f"?order=asc{after}")
    assert ([], None, False) == (body["data"], body["first_id"], body["has_more"])


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("order=up", "order"),
        ("after=msg_nothing", "after"),
    ],
)
async def test_an_invalid_page_is_refused(client: Client, query: str, param: str) -> None:
    id_ = await background(client)
    async with client.get(f"{ALL}/{id_}/input_items?{query}") as response:
        assert (400, "invalid_value", param) == await refusal(response)


# Shutting down the server


async def test_a_stopping_server_tells_waiting_callers_to_retry_elsewhere(
    client: Client, worker: Worker, server: Server
) -> None:
    plain = asyncio.create_task(client.post(ALL, json={"input": "Why?"}))
    first = await worker.take()
    async with client.post(ALL, json={"input": "Why?", "stream": True}) as streamed:
        answer = await worker.take()
        await answer.say("a")
        while b"delta" not in await streamed.content.readline():
            pass
        await server.drain()
        told = b""
        # The client raises an exception, because the stream has no final chunk.
        with pytest.raises(ClientPayloadError):
            while piece := await streamed.content.readany():
                told += piece
    async with await plain as response:
        assert (503, "server_restarting", None) == await refusal(response)
        assert first.job.id == response.headers["X-Response-Id"]
        assert "false" == response.headers["X-Should-Retry"]
        error = (await response.json())["error"]
        assert first.job.id == error["response_id"]
        assert first.job.id in error["message"]
    async with client.get("/readyz") as response:
        assert (503, True) == (response.status, (await response.json())["draining"])

    last = json.loads(told.rpartition(b"data: ")[2])
    assert ("error", "server_restarting") == (last["type"], last["error"]["code"])
    assert answer.job.id == last["error"]["response_id"]
    assert "sequence_number" not in last


async def test_a_waiting_caller_receives_an_answer_within_the_grace_period(
    serve: Serve, worker: Worker
) -> None:
    client = await serve(shutdown_grace_seconds="20")
    plain = asyncio.create_task(client.post(ALL, json={"input": "Why?"}))
    answer = await worker.take()
    draining = asyncio.create_task(client.app[SERVER].drain())
    await wait_until(lambda: client.app[SERVER].streams.stopped)
    async with client.post(ALL, json={"input": "More?"}) as refused:
        assert (503, "server_restarting", None) == await refusal(refused)
        assert "close" == refused.headers["Connection"]
        assert "X-Should-Retry" not in refused.headers
    assert not draining.done()
    await answer.say("So")
    await answer.complete()
    async with await plain as response:
        assert (200, answer.job.id) == (response.status, (await response.json())["id"])
    await draining


async def test_a_stalled_stream_reader_is_dropped_and_holds_no_backlog(
    client: Client, worker: Worker, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeouts, "STUCK_SECONDS", 0.5)
    id_ = await background(client)
    answer = await worker.take()
    await answer.say(*["x" * 100_000] * 100)
    largest = 0
    with contextlib.closing(socket.socket()) as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(("127.0.0.1", client.port))
        reader.sendall(f"GET {ALL}/{id_}?stream=true HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        await wait_until(lambda: server.streams._open)
        [stream] = server.streams._open

        def dropped() -> bool:
            nonlocal largest
            largest = max(largest, stream._size)
            return at_rest(server) and not server.streams._open

        await wait_until(dropped)

    assert largest < 1_000_000
    await answer.complete()


async def test_stalled_readers_of_a_body_are_dropped_and_hold_one_piece_each(
    client: Client, worker: Worker, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeouts, "STUCK_SECONDS", 1.0)
    id_ = await answered(client, worker, *["x" * 100_000] * 40)
    request = f"GET {ALL}/{id_} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    largest = 0
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", client.port))
            # The requests on one connection are answered one after another.
            reader.sendall(request * 3)
        await wait_until(lambda: len(client.server.handler.connections) >= 10)

        def dropped() -> bool:
            nonlocal largest
            transports = [c.transport for c in client.server.handler.connections if c.transport]
            largest = max([largest, *(each.get_write_buffer_size() for each in transports)])
            return len(transports) < 10

        await wait_until(dropped)

    assert 0 < largest <= PIECE_BYTES
    async with client.get(f"{ALL}/{id_}") as response:
        assert 4_000_000 == len((await response.json())["output"][0]["content"][0]["text"])


async def test_a_quiet_stream_sends_keepalive_comments(serve: Serve, worker: Worker) -> None:
    client = await serve(ping_seconds="0.1")
    async with client.post(ALL, json={"input": "Why?", "stream": True}) as response:
        answer = await worker.take()
        lines = []
        while b": still here\n" not in lines:
            lines.append(await response.content.readline())
        await answer.say("a")
        await answer.complete()
        assert (await events_of(response))[1]


@pytest.mark.parametrize(
    ("cause", "status", "code", "again"),
    [
        ("upstream_input_too_long", 400, "context_length_exceeded", "false"),
        ("upstream_model_not_found", 404, "model_not_found", "false"),
        ("upstream_busy", 429, "rate_limit_exceeded", None),
        ("upstream_unauthorized", 503, "server_error", "false"),
    ],
)
@pytest.mark.parametrize("url", [ALL, "/v1/chat/completions"])
async def test_a_failure_before_any_output_is_an_http_error(
    client: Client,
    worker: Worker,
    url: str,
    cause: str,
    status: int,
    code: str,
    again: str | None,
) -> None:
    body = {"input": "Why?"} if url == ALL else {"messages": [{"role": "user", "content": "Why?"}]}
    asking = asyncio.create_task(client.post(url, json=body))
    taken = await worker.take()
    await taken.fail(cause)
    async with await asking as answer:
        assert (status, cause, None) == await refusal(answer)
        assert code == (await answer.json())["error"]["code"]
        assert taken.job.id == answer.headers["X-Response-Id"]
        assert again == answer.headers.get("X-Should-Retry")
    async with client.get(f"{ALL}/{taken.job.id}") as fetched:
        response = await fetched.json()
    assert (200, "failed") == (fetched.status, response["status"])
    assert (code, cause) == (response["error"]["code"], response["holdline"]["error_code"])


async def test_a_failure_after_some_output_keeps_the_output(client: Client, worker: Worker) -> None:
    asking = asyncio.create_task(client.post(ALL, json={"input": "Why?"}))
    taken = await worker.take()
    await taken.say("So")
    await taken.fail("upstream_stalled")
    async with await asking as answer:
        response = await answer.json()
    assert (200, "failed") == (answer.status, response["status"])
    assert "So" == response["output"][0]["content"][0]["text"]
