"""Tests the WebSocket with a real Redis and a worker that the test controls."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from aiohttp import WSServerHandshakeError

from jobs.record import Status
from server.app import Server
from server.websocket import socket as socket_module
from server.websocket.following import MAX_CONVERSATIONS
from server.websocket.session import MAX_FOLLOWED, MAX_WAITING
from server.websocket.socket import MESSAGES_A_TURN, MESSAGES_AT_ONCE
from tests.server.conftest import Client, Serve
from tests.server.factories import RESPONSE, Worker
from tests.server.talk import ALL, Talk, asked, at_rest, connected, still_open
from tests.system import EXTENSIONS, wait_until

# Answering requests


async def test_the_first_frame_is_the_welcome_with_the_limits(
    client: Client, server: Server
) -> None:
    async with client.ws_connect(ALL, protocols=EXTENSIONS) as ws:
        welcome = await ws.receive_json()

    assert "holdline:welcome" == welcome["type"]
    assert 25_000 == welcome["ping_interval_ms"]
    assert (server.config.max_body_bytes, MAX_FOLLOWED, MAX_CONVERSATIONS, MAX_WAITING) == (
        welcome["limits"]["message_bytes"],
        welcome["limits"]["responses"],
        welcome["limits"]["conversations"],
        welcome["limits"]["waiting_in_lanes"],
    )


async def test_events_arrive_as_they_are_written(talk: Talk, worker: Worker) -> None:
    await talk.say("response.create", input="Why?")
    answer = await worker.take()
    for piece in "abc":
        await answer.say(piece)
        assert piece == (await talk.until("response.output_text.delta"))["delta"]
    await answer.complete()
    end = await talk.until("response.completed")

    assert "abc" == end["response"]["output"][0]["content"][0]["text"]
    numbers = [event["sequence_number"] for event in talk.logged()]
    assert list(range(len(numbers))) == numbers


async def test_lanes_run_concurrently_and_each_in_its_own_order(talk: Talk, worker: Worker) -> None:
    for lane, text in (("x", "1"), ("x", "2"), ("y", "3")):
        await talk.say("response.create", input=text, stream_id=lane)
    first, third = sorted([await worker.take(), await worker.take()], key=asked)
    assert ["1", "3"] == [asked(first), asked(third)]
    await third.say("third")
    await third.complete()
    # Wait for the end of the third response before the first one ends, because events of different
    # lanes may arrive in any order.
    ends = [await talk.until("response.completed")]
    await first.complete()
    second = await worker.take()
    assert "2" == asked(second)
    await second.complete()
    ends += [await talk.until("response.completed") for _ in range(2)]

    assert [(third.job.id, "y"), (first.job.id, "x"), (second.job.id, "x")] == [
        (end["response"]["id"], end["stream_id"]) for end in ends
    ]
    for lane, lasts in (("x", 2), ("y", 1)):
        numbers = [event["sequence_number"] for event in talk.logged(lane)]
        assert lasts == numbers.count(0)


async def test_a_waiting_request_receives_its_queue_position(talk: Talk, worker: Worker) -> None:
    for lane in "xyz":
        await talk.say("response.create", input="Why?", stream_id=lane)
    places: dict[str, int] = {}
    while len(places) < 3:
        queued = await talk.until("holdline:queued")
        places[queued["stream_id"]] = queued["position"]

    assert {1, 2, 3} == set(places.values())


# Reconnecting and resuming


async def test_a_resume_after_any_event_receives_exactly_the_rest(
    client: Client, worker: Worker
) -> None:
    async with connected(client) as first:
        await first.say("response.create", input="Why?")
        answer = await worker.answer("a", "b", "c")
        await first.until("response.completed")
    whole = first.logged()

    for after in range(-1, len(whole) - 1):
        async with connected(client) as talk:
            await talk.say("holdline:resume", response_id=answer.job.id, starting_after=after)
            await talk.until("response.completed")
            assert whole[after + 1 :] == talk.logged()


async def test_a_socket_cut_after_any_event_loses_nothing(
    client: Client, worker: Worker, server: Server
) -> None:
    async with connected(client) as talk:
        await talk.say("response.create", input="Why?")
        answer = await worker.take()
        has = [await talk.until("response.created")]
    for number in range(20):
        async with connected(client) as talk:
            last = has[-1]["sequence_number"]
            await talk.say("holdline:resume", response_id=answer.job.id, starting_after=last)
            await answer.say(str(number))
            await talk.until("response.output_text.delta")
            has += talk.logged()
            assert talk.ws._response.connection is not None
            assert talk.ws._response.connection.transport is not None
            talk.ws._response.connection.transport.abort()
    await answer.complete()
    async with connected(client) as talk:
        last = has[-1]["sequence_number"]
        await talk.say("holdline:resume", response_id=answer.job.id, starting_after=last)
        await talk.until("response.completed")
        has += talk.logged()

    assert list(range(len(has))) == [event["sequence_number"] for event in has]
    deltas = [event["delta"] for event in has if "delta" in event]
    assert [str(number) for number in range(20)] == deltas
    await wait_until(lambda: at_rest(server))


async def test_two_sockets_receive_the_same_events(client: Client, worker: Worker) -> None:
    async with connected(client) as one, connected(client) as other:
        await one.say("response.create", input="Why?")
        answer = await worker.take()
        await other.say("holdline:resume", response_id=answer.job.id, stream_id="tab")
        await answer.say("a", "b")
        await answer.complete()
        for talk in (one, other):
            await talk.until("response.completed")

        bare = [{k: v for k, v in e.items() if k != "stream_id"} for e in other.logged("tab")]
        assert one.logged() == bare


async def test_a_resend_with_the_same_key_creates_no_second_response(
    client: Client, worker: Worker
) -> None:
    async with connected(client) as talk:
        await talk.say("response.create", input="Why?", idempotency_key="k")
        first = (await talk.until("response.created"))["response"]["id"]
    async with connected(client) as talk:
        await talk.say("response.create", input="Why?", idempotency_key="k")
        answer = await worker.answer("Because.")
        end = await talk.until("response.completed")

    assert {first} == {answer.job.id, end["response"]["id"]}
    assert [] == await worker._queue.leases.claim(0, "nothing more", 5)


@pytest.mark.parametrize("id_", [RESPONSE, "resp_x", "{}", "é", "x\n", "a" * 128])
async def test_resuming_or_cancelling_an_unknown_response_keeps_the_socket_open(
    talk: Talk, id_: str
) -> None:
    await talk.say("holdline:resume", response_id=id_, stream_id="x")
    assert (404, "response_not_found", "response_id") == await talk.error()
    assert "x" == talk.events[-1]["stream_id"]
    await talk.say("response.cancel", response_id=id_, stream_id="y")
    assert (404, "response_not_found", "response_id") == await talk.error()
    assert "y" == talk.events[-1]["stream_id"]

    assert await still_open(talk)


async def test_a_resume_beyond_the_end_is_refused_and_the_socket_stays_open(
    talk: Talk, worker: Worker
) -> None:
    await talk.say("response.create", input="Why?")
    answer = await worker.answer("a")
    await talk.until("response.completed")
    await talk.say("holdline:resume", response_id=answer.job.id, starting_after=99)

    assert (400, "starting_after_beyond_end", "starting_after") == await talk.error()
    assert await still_open(talk)


# Cancelling responses


async def test_a_waiting_response_is_cancelled_at_once(talk: Talk) -> None:
    await talk.say("response.create", input="Why?")
    created = await talk.until("response.created")
    await talk.say("response.cancel", response_id=created["response"]["id"])
    end = await talk.until("response.incomplete")

    assert "cancelled" == end["response"]["status"]


async def test_a_running_response_is_ended_by_its_worker(talk: Talk, worker: Worker) -> None:
    await talk.say("response.create", input="Why?")
    answer = await worker.take()
    await answer.say("Be")
    await talk.say("response.cancel", response_id=answer.job.id)
    await answer.asked_to_stop()
    await answer.complete(Status.CANCELLED)

    assert "cancelled" == (await talk.until("response.incomplete"))["response"]["status"]


# Invalid messages


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "invalid_json"),
        ("{", "invalid_json"),
        ("[]", "invalid_json"),
        ('"hello"', "invalid_json"),
        ("[" * 50_000, "invalid_json"),
        ('{"type": "response.create", "input": "\\ud800"}', "invalid_json"),
        ("{}", "missing_required_parameter"),
        ('{"type": "response.destroy"}', "unknown_type"),
        ('{"type": "response.create", "input": 5}', "invalid_value"),
        ('{"type": "response.create", "nonsense": 5}', "unknown_parameter"),
        ('{"type": "response.create", "input": "a", "background": true}', "unsupported_parameter"),
        (
            '{"type": "response.create", "input": "", "previous_response_id": "x"}',
            "previous_response_not_found",
        ),
        ('{"type": "holdline:resume", "response_id": "x", "starting_after": -9}', "invalid_value"),
        ('{"type": "holdline:resume", "response_id": 7}', "invalid_value"),
    ],
)
async def test_an_invalid_message_is_answered_and_the_socket_stays_open(
    talk: Talk, text: str, code: str
) -> None:
    await talk.ws.send_str(text)

    assert code == (await talk.error())[1]
    assert await still_open(talk)


async def test_a_binary_frame_is_refused_and_the_socket_stays_open(talk: Talk) -> None:
    await talk.ws.send_bytes(b"\x81\xa4type\xadholdline:ping")

    assert (400, "bad_message", None) == await talk.error()
    assert await still_open(talk)


async def test_random_messages_do_no_harm(talk: Talk) -> None:
    rng = random.Random(5)
    good = json.dumps({"type": "holdline:resume", "response_id": RESPONSE, "starting_after": 1})
    for _ in range(200):
        cut = rng.randrange(len(good))
        await talk.ws.send_str(good[:cut] + chr(rng.randrange(1, 0xD7FF)) + good[cut + 1 :])

    assert await still_open(talk)


async def test_a_socket_that_sends_many_messages_takes_turns_with_others(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered: list[str] = []
    pong = socket_module.Socket._pong

    def noting(self: socket_module.Socket, id_: str) -> dict[str, Any]:
        answered.append(id_)
        return pong(self, id_)

    monkeypatch.setattr(socket_module.Socket, "_pong", noting)
    async with connected(client) as much, connected(client) as little:
        for _ in range(MESSAGES_AT_ONCE):
            await much.say("holdline:ping", id="much")
        await little.say("holdline:ping", id="little")
        await little.until("holdline:pong")
        await wait_until(lambda: MESSAGES_AT_ONCE < len(answered))
    # The server answers the message of the quieter socket after at most a few turns.
    assert answered.index("little") <= 8 * MESSAGES_A_TURN


async def test_an_oversized_message_closes_the_socket(serve: Serve) -> None:
    client = await serve(max_body_bytes="2048")
    async with connected(client) as talk:
        await talk.ws.send_str("x" * 3000)
        assert 1009 == await talk.closed()


async def test_an_unknown_subprotocol_is_refused_without_being_echoed(client: Client) -> None:
    with pytest.raises(WSServerHandshakeError) as refused:
        await client.ws_connect(ALL, protocols=["token.s3cret"])

    assert 400 == refused.value.status
    async with client.get(
        ALL, headers={"Upgrade": "websocket", "Sec-WebSocket-Protocol": "token.s3cret"}
    ) as response:
        assert "unknown_subprotocol" == (await response.json())["error"]["code"]
        assert "s3cret" not in await response.text()


async def test_requests_beyond_the_bound_of_the_lanes_are_refused_and_the_rest_runs(
    talk: Talk, worker: Worker
) -> None:
    for number in range(MAX_WAITING + 2):
        await talk.say("response.create", input=str(number))
    assert (429, "too_many", None) == await talk.error()
    for number in range(3):
        answer = await worker.answer()
        assert str(number) == asked(answer)
        await talk.until("response.completed")
