"""Tests the standard's WebSocket mode: warm-ups, continued turns and its own errors."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import WSServerHandshakeError
from openai.types.responses.responses_server_event import ResponseWsError

from jobs.record import Status
from jobs.redis.pipe import Pipe
from server.app import SERVER, Server
from server.websocket import session
from tests.jobs.factories import NAMES
from tests.server.conftest import Client, Serve
from tests.server.factories import Worker
from tests.server.talk import ALL, Talk, asked, connected, still_open
from tests.system import wait_until

MISSING = (400, "previous_response_not_found", "previous_response_id")


async def ended(talk: Talk) -> dict[str, Any]:
    response: dict[str, Any] = (await talk.until("response.completed"))["response"]
    return response


def said(items: list[dict[str, Any]]) -> list[str]:
    return [item["content"][0]["text"] for item in items]


# Warm-ups


@pytest.mark.parametrize("store", [True, False])
async def test_a_warm_up_ends_at_once_without_a_model_call_and_can_be_continued(
    talk: Talk, worker: Worker, pipe: Pipe, store: bool
) -> None:
    await talk.say("response.create", input="You are warm.", generate=False, store=store)
    warm = await ended(talk)

    kinds = [event["type"] for event in talk.logged()]
    assert ["response.created", "response.in_progress", "response.completed"] == kinds
    assert ([], 0) == (warm["output"], warm["usage"]["total_tokens"])
    assert warm["id"] == talk.logged()[0]["response"]["id"]
    for key in (NAMES.ready, NAMES.open, NAMES.queues):
        assert 0 == await pipe.call("EXISTS", key), "nobody is to answer it"

    # Each later turn contains the warm-up.
    for text in ("First.", "Second."):
        await talk.say(
            "response.create", input=text, previous_response_id=warm["id"], stream_id=text
        )
        answer = await worker.answer("Yes.")
        assert ["You are warm."] == said(answer.job.context)
        assert text == asked(answer)
        await ended(talk)


async def test_a_warm_up_can_be_resent_and_resumed(client: Client, talk: Talk) -> None:
    create = {"input": "Warm.", "generate": False, "idempotency_key": "k"}
    await talk.say("response.create", **create)
    first = await ended(talk)
    await talk.say("response.create", **create)
    assert first == await ended(talk)
    await talk.say("response.create", **create | {"generate": True})
    assert (422, "idempotency_key_reused", "idempotency_key") == await talk.error()
    async with connected(client) as other:
        await other.say("holdline:resume", response_id=first["id"], starting_after=1)
        assert first == await ended(other)


async def test_a_warm_up_is_known_only_to_its_socket(client: Client) -> None:
    async with client.post(ALL, json={"input": "x", "generate": False}) as refused:
        error = (await refused.json())["error"]
    assert (400, "unknown_parameter", "generate") == (refused.status, error["code"], error["param"])


async def test_a_warm_up_counts_as_a_request(serve: Serve) -> None:
    client = await serve(
        tenant_requests_per_minute="9",
        subject_requests_per_minute="2",
        max_input_tokens="100",
        tenant_waiting="1",
        subject_running="1",
    )
    async with connected(client) as talk:
        await talk.say("response.create", input="It waits.")
        await talk.until("response.created")
        warm = {"generate": False, "stream_id": "w"}
        await talk.say("response.create", input="x" * 1000, **warm)
        assert (400, "input_tokens_exceeded", "input") == await talk.error()
        await talk.say("response.create", input="Warm, beside a prompt that waits.", **warm)
        await ended(talk)
        await talk.say("response.create", input="Too many.", **warm)
        assert (429, "subject_rate_limit_exceeded", None) == await talk.error()


# Continuing responses


@pytest.mark.parametrize("store", [True, False])
async def test_a_turn_can_continue_a_response_still_running_on_its_lane(
    talk: Talk, worker: Worker, store: bool
) -> None:
    await talk.say("response.create", input="One?", store=store)
    first = await worker.take()
    created = await talk.until("response.created")
    await talk.say(
        "response.create",
        input="Two?",
        store=store,
        previous_response_id=created["response"]["id"],
    )
    # The second turn waits for the first one.
    assert await still_open(talk)
    await first.say("One.")
    await first.complete()
    second = await worker.take()

    assert ["One?", "One."] == said(second.job.context)
    await second.complete()
    await ended(talk)
    assert first.job.id == (await ended(talk))["previous_response_id"]


async def test_an_unstored_answer_can_be_continued_only_on_its_socket(
    client: Client, server: Server, talk: Talk, worker: Worker
) -> None:
    await talk.say("response.create", input="One?", store=False, stream_id="a")
    first = (await worker.answer("One.")).job.id
    await ended(talk)
    async with connected(client) as other:
        await other.say("response.create", input="Two?", previous_response_id=first)
        assert MISSING == await other.error()
    # The response can be continued at once, even on another lane, because the server waits until it
    # has remembered the response.
    await talk.say(
        "response.create", input="Two?", store=False, previous_response_id=first, stream_id="b"
    )
    second = await worker.answer("Two.")
    assert ["One?", "One."] == said(second.job.context)
    await ended(talk)
    await talk.say("response.create", input="3?", store=False, previous_response_id=second.job.id)
    third = await worker.answer("3.")
    assert ["One?", "One.", "Two?", "Two."] == said(third.job.context)
    await ended(talk)
    assert server.services.byte_limiter.used > 0
    await talk.ws.close()
    await wait_until(lambda: server.services.byte_limiter.used == 0)


@pytest.mark.parametrize(
    "wrong", [{"temperature": 9}, {"model": ""}, {"metadata": {"holdline_on_worker_death": "x"}}]
)
async def test_a_refused_turn_evicts_its_predecessor_from_its_lane(
    talk: Talk, worker: Worker, wrong: dict[str, Any]
) -> None:
    await talk.say("response.create", input="One?", store=False, stream_id="a")
    first = (await worker.answer("One.")).job.id
    await ended(talk)
    on = {"input": "Two?", "store": False, "previous_response_id": first}
    await talk.say("response.create", **on, **wrong, stream_id="fork")
    assert 400 == (await talk.error())[0]
    await talk.say("response.create", **on, stream_id="fork")
    fork = await worker.answer("Two.")
    assert ["One?", "One."] == said(fork.job.context), "a fork that failed takes nothing away"
    await ended(talk)

    await talk.say("response.create", **on, **wrong, stream_id="a")
    assert 400 == (await talk.error())[0]
    await talk.say("response.create", **on, stream_id="a")
    assert MISSING == await talk.error()


@pytest.mark.parametrize("store", [True, False])
async def test_a_failed_turn_evicts_its_predecessor(
    talk: Talk, worker: Worker, store: bool
) -> None:
    await talk.say("response.create", input="One?", store=False)
    first = (await worker.answer("One.")).job.id
    await ended(talk)
    on = {"input": "Two?", "store": store, "previous_response_id": first}
    await talk.say("response.create", **on)
    await (await worker.take()).complete(Status.FAILED)
    await talk.until("response.failed")
    await talk.say("response.create", **on)
    assert MISSING == await talk.error()


async def test_a_failed_fork_keeps_its_predecessor(talk: Talk, worker: Worker) -> None:
    await talk.say("response.create", input="One?", store=False, stream_id="a")
    first = (await worker.answer("One.")).job.id
    await ended(talk)
    on = {"input": "Two?", "store": False, "previous_response_id": first}
    await talk.say("response.create", **on, stream_id="fork")
    await (await worker.take()).complete(Status.FAILED)
    await talk.until("response.failed")
    await talk.say("response.create", **on, stream_id="a")
    assert ["One?", "One."] == said((await worker.answer("Two.")).job.context)


async def test_a_cancelled_turn_keeps_its_predecessor(talk: Talk, worker: Worker) -> None:
    await talk.say("response.create", input="One?", store=False)
    first = (await worker.answer("One.")).job.id
    await ended(talk)
    on = {"input": "Two?", "previous_response_id": first}
    await talk.say("response.create", **on)
    second = (await talk.until("response.created"))["response"]["id"]
    await talk.say("response.cancel", response_id=second)
    assert "cancelled" == (await talk.until("response.incomplete"))["response"]["status"]
    await talk.say("response.create", **on)
    assert ["One?", "One."] == said((await worker.answer("Two.")).job.context)


async def test_a_turn_refused_for_a_limit_evicts_its_predecessor(serve: Serve) -> None:
    client = await serve(subject_requests_per_minute="1")
    async with connected(client) as talk:
        await talk.say("response.create", input="Warm.", generate=False, store=False)
        on = {"input": "Two?", "previous_response_id": (await ended(talk))["id"]}
        await talk.say("response.create", **on)
        assert (429, "subject_rate_limit_exceeded", None) == await talk.error()
        await talk.say("response.create", **on)
        assert MISSING == await talk.error()


@pytest.mark.parametrize("id_", ["resp_missing", "resp_" + "0" * 35, "", "é"])
async def test_a_nonexistent_previous_response_is_reported_as_missing(talk: Talk, id_: str) -> None:
    await talk.say("response.create", input="x", previous_response_id=id_, stream_id="a")
    assert MISSING == await talk.error()
    assert "a" == talk.events[-1]["stream_id"]
    assert await still_open(talk)


# Errors and limits of WebSocket mode


async def test_the_errors_have_the_documented_form(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "MAX_FOLLOWED", 1)
    create = {"type": "response.create", "input": "x", "model": "m"}
    messages: list[dict[str, Any]] = [
        {"stream_id": "main", "previous_response_id": "resp_abc"},
        {"stream_id": ""},
        {"stream_id": "x" * 257},
        {"stream_id": "other"},
    ]
    found = []
    async with client.ws_connect(ALL) as ws:
        for message in messages:
            if message["stream_id"] == "other":
                await ws.send_json({**create, "stream_id": "main"})
                while "response.created" != (await ws.receive_json(timeout=8))["type"]:
                    pass
            await ws.send_json(create | message)
            while "error" != (event := await ws.receive_json(timeout=8))["type"]:
                pass
            known = ResponseWsError.model_validate(event, strict=True)
            assert not known.model_extra
            error = known.error
            found.append((known.status, known.stream_id, error.type, error.code, error.param))
            assert error.message
    kind = "invalid_request_error"
    assert [
        (400, "main", kind, "previous_response_not_found", "previous_response_id"),
        (400, None, kind, "invalid_stream_id", "stream_id"),
        (400, None, kind, "invalid_stream_id", "stream_id"),
        (400, "other", kind, "websocket_stream_limit_reached", "stream_id"),
    ] == found


async def test_the_sockets_of_a_server_are_bounded_by_its_setting(serve: Serve) -> None:
    client = await serve(max_sockets="2")
    async with connected(client) as one:
        async with connected(client):
            with pytest.raises(WSServerHandshakeError) as refused:
                await client.ws_connect(ALL)
            assert 429 == refused.value.status
            async with client.get(ALL, headers={"Upgrade": "websocket"}) as answer:
                assert "5" == answer.headers["Retry-After"]
                assert "2" == answer.headers["X-RateLimit-Limit-Sockets"]
                assert "socket_limit_exceeded" == (await answer.json())["error"]["code"]
            assert await still_open(one)
        await wait_until(lambda: len(client.app[SERVER].sockets) == 1)
        async with connected(client) as another:
            assert await still_open(another)


async def test_the_welcome_states_that_sockets_have_no_maximum_age(serve: Serve) -> None:
    client = await serve(unstored_seconds="7")
    async with connected(client) as talk:
        limits = talk.events[0]["limits"]
    assert (None, 7) == (limits["connection_seconds"], limits["unstored_seconds"])
