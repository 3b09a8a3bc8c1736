"""Tests that the two encodings of a socket, JSON and MessagePack, carry the same objects."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from aiohttp import WSMsgType, WSServerHandshakeError
from hypothesis import given
from hypothesis import strategies as st

from jobs.log.codec import encode_event
from server.api.encoding import JSON, MESSAGE_PACK, Encoding, choose, parse_packed
from server.api.frames import frame, websocket_frame
from server.api.json_body import MAX_DEPTH, MAX_VALUES
from server.api.problem import Problem
from server.app import Server
from tests.server.conftest import Client, Serve
from tests.server.factories import Worker
from tests.server.talk import ALL, Talk, at_rest, connected, still_open
from tests.system import wait_until

PACKED = "holdline.msgpack"


class PackedTalk(Talk):
    """A MessagePack socket, decoded by a different library than the one that the server uses."""

    async def say(self, kind: str, **fields: Any) -> None:
        await self.ws.send_bytes(msgpack.packb({"type": kind, **fields}))

    async def next(self) -> dict[str, Any]:
        message = await self.ws.receive(timeout=8)
        assert message.type is WSMsgType.BINARY, message
        event: dict[str, Any] = msgpack.unpackb(message.data, strict_map_key=True)
        self.events.append(event)
        return event


@asynccontextmanager
async def packed(client: Client) -> AsyncIterator[PackedTalk]:
    async with client.ws_connect(ALL, protocols=[PACKED]) as ws:
        assert PACKED == ws.protocol
        talk = PackedTalk(ws)
        assert "holdline:welcome" == (await talk.next())["type"]
        yield talk


# Tests of single events

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text()
    # JSON may write a large float with digits other than those in MessagePack, but the decoded
    # values are equal.
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=20),
    max_leaves=12,
)
objects = st.dictionaries(
    st.text().filter(lambda name: name not in ("type", "sequence_number", "stream_id")),
    values,
    max_size=20,
)


@given(objects, st.none() | st.from_regex(r"[A-Za-z0-9_.-]{1,40}", fullmatch=True))
def test_both_encodings_carry_the_same_events(fields: dict[str, Any], lane: str | None) -> None:
    event = frame(7, encode_event({"type": "response.future", **fields}))
    in_json = json.loads(JSON.event(event, JSON.lane(lane)))
    in_packed = msgpack.unpackb(
        MESSAGE_PACK.event(event, MESSAGE_PACK.lane(lane)), strict_map_key=True
    )

    assert in_json == in_packed
    assert lane == in_packed.get("stream_id")
    assert 7 == in_packed["sequence_number"]
    message = {"type": "holdline:future", **fields}
    assert (
        message == json.loads(JSON.encode(message)) == msgpack.unpackb(MESSAGE_PACK.encode(message))
    )


def test_an_event_is_encoded_once_and_only_in_the_encodings_in_use() -> None:
    event = frame(0, encode_event({"type": "response.future"}))
    MESSAGE_PACK.event(event, MESSAGE_PACK.lane("a"))
    packed_bytes = event._packed

    assert event._json is None
    MESSAGE_PACK.event(event, MESSAGE_PACK.lane("b"))
    assert packed_bytes is event._packed
    assert JSON.event(event, JSON.lane(None)) == event._json


@pytest.mark.parametrize("encoding", [JSON, MESSAGE_PACK])
def test_sockets_without_a_lane_share_the_encoded_bytes(encoding: Encoding) -> None:
    event = frame(0, encode_event({"type": "response.future"}))
    nowhere = encoding.lane(None)

    assert encoding.message(event, nowhere) is encoding.message(event, nowhere)
    for lane in (nowhere, encoding.lane("a")):
        payload = encoding.event(event, lane)
        assert websocket_frame(payload, encoding.kind) == encoding.message(event, lane)


# Tests of single messages


@given(objects)
def test_a_message_pack_message_is_read_like_its_json_form(message: dict[str, Any]) -> None:
    assert message == parse_packed(msgpack.packb(message))


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_decoded_to_an_object_or_refused(data: bytes) -> None:
    with contextlib.suppress(Problem):
        json.dumps(parse_packed(data), allow_nan=False)


def deep(levels: int) -> bytes:
    return b"\x81\xa1a" + b"\x91" * levels + b"\xc0"


@pytest.mark.parametrize(
    ("data", "code", "param", "word"),
    [
        pytest.param(b"", "invalid_msgpack", None, "truncated", id="nothing"),
        pytest.param(b"\x93\x01\x02\x03", "invalid_msgpack", None, "map", id="a list"),
        pytest.param(b"\x80\x80", "invalid_msgpack", None, "trailing", id="two objects"),
        pytest.param(b"\x81\xa1a\xa1\xff", "invalid_msgpack", None, "UTF-8", id="no text"),
        pytest.param(deep(MAX_DEPTH), "invalid_msgpack", None, "64 levels of nesting", id="deep"),
        pytest.param(
            deep(900_000), "invalid_msgpack", None, "64 levels of nesting", id="very deep"
        ),
        pytest.param(
            b"\xdd\x00\x0f\x42\x40" * 200_000, "invalid_msgpack", None, "", id="lists of a million"
        ),
        pytest.param(
            b"\xdd\xff\xff\xff\xff",
            "invalid_msgpack",
            None,
            "truncated",
            id="a length without content",
        ),
        pytest.param(
            msgpack.packb({"a": [0] * MAX_VALUES}), "invalid_msgpack", None, "values", id="many"
        ),
        pytest.param(msgpack.packb({1: 1}), "invalid_value", None, "keys", id="a number as key"),
        pytest.param(
            msgpack.packb({"a": {b"k": 1}}), "invalid_value", "a", "keys", id="bytes as key"
        ),
        pytest.param(
            msgpack.packb({"input": [{"text": b"x"}]}),
            "invalid_value",
            "input[0].text",
            "bytes",
            id="bytes",
        ),
        pytest.param(
            msgpack.packb({"a": msgpack.Timestamp(1, 1)}),
            "invalid_value",
            "a",
            "extension",
            id="a time",
        ),
        pytest.param(
            msgpack.packb({"a": msgpack.ExtType(9, b"x")}),
            "invalid_value",
            "a",
            "extension",
            id="an extension",
        ),
        pytest.param(
            msgpack.packb({"top_p": float("nan")}), "invalid_value", "top_p", "finite", id="nan"
        ),
        pytest.param(
            msgpack.packb({"top_p": float("-inf")}), "invalid_value", "top_p", "finite", id="inf"
        ),
    ],
)
def test_values_that_json_lacks_are_refused_by_name(
    data: bytes, code: str, param: str | None, word: str
) -> None:
    began = time.process_time()
    with pytest.raises(Problem) as refused:
        parse_packed(data)

    assert (400, code, param) == (refused.value.status, refused.value.code, refused.value.param)
    assert word in refused.value.message
    assert time.process_time() - began < 0.5


def test_nesting_up_to_the_limit_is_accepted() -> None:
    parse_packed(deep(MAX_DEPTH - 1))


# Tests of the choice of an encoding


@pytest.mark.parametrize(
    ("offers", "encoding", "name"),
    [
        ([], JSON, None),
        (["holdline.v1"], JSON, "holdline.v1"),
        (["holdline.msgpack, holdline.v1"], MESSAGE_PACK, PACKED),
        (["holdline.v1,holdline.msgpack"], JSON, "holdline.v1"),
        (["else", PACKED], MESSAGE_PACK, PACKED),
        (["bearer.s3cret"], JSON, None),
        (["bearer.s3cret, holdline.msgpack"], MESSAGE_PACK, PACKED),
    ],
)
def test_the_first_known_subprotocol_is_selected(
    offers: list[str], encoding: object, name: str | None
) -> None:
    assert (encoding, name) == choose(offers)


@pytest.mark.parametrize("offer", ["token.s3cret", "bearer.s3cret, else", "HOLDLINE.V1"])
async def test_unknown_subprotocols_are_refused_and_the_known_ones_named(
    client: Client, offer: str
) -> None:
    headers = {"Upgrade": "websocket", "Sec-WebSocket-Protocol": offer}
    async with client.get(ALL, headers=headers) as response:
        text = await response.text()
        assert (400, "unknown_subprotocol") == (
            response.status,
            json.loads(text)["error"]["code"],
        )
        assert "s3cret" not in text
        assert "holdline.msgpack or holdline.v1" in text
    with pytest.raises(WSServerHandshakeError):
        await client.ws_connect(ALL, protocols=offer.split(", "))


async def test_a_token_in_a_subprotocol_is_never_echoed(client: Client) -> None:
    async with client.ws_connect(ALL, protocols=["bearer.s3cret"]) as ws:
        assert ws.protocol is None
    async with client.ws_connect(ALL, protocols=["bearer.s3cret", PACKED]) as ws:
        assert PACKED == ws.protocol


# Tests of a whole socket


async def test_a_message_pack_socket_receives_the_same_events_as_a_json_socket(
    client: Client, worker: Worker
) -> None:
    async with packed(client) as talk, connected(client) as plain:
        await talk.say("response.create", input="Why?", stream_id="a")
        answer = await worker.take()
        await plain.say("holdline:resume", response_id=answer.job.id, stream_id="a")
        await answer.say("Grüße", "\N{WAVING HAND SIGN}")
        await answer.complete()
        await asyncio.gather(talk.until("response.completed"), plain.until("response.completed"))

    assert plain.logged("a") == talk.logged("a")
    numbers = [event["sequence_number"] for event in talk.logged("a")]
    assert list(range(len(numbers))) == numbers


async def test_a_message_pack_socket_supports_every_message_of_a_json_socket(
    client: Client, server: Server, worker: Worker
) -> None:
    async with packed(client) as talk:
        await talk.say("response.create", input="1", stream_id="x")
        await talk.say("response.create", input="2", stream_id="x")
        await talk.say("response.create", input="3")
        third_or_first = [await worker.take(), await worker.take()]
        for answer in third_or_first:
            await answer.say("yes")
            await answer.complete()
        second = await worker.take()
        created = await talk.until("response.created")
        while created["response"]["id"] != second.job.id:
            created = await talk.until("response.created")
        await talk.say("response.cancel", response_id=second.job.id)
        await second.asked_to_stop()
        await second.complete()
        await talk.until("response.completed")
        await talk.say("holdline:ping", id=2**63)
        assert 2**63 == (await talk.until("holdline:pong"))["id"]
    async with packed(client) as talk:
        await talk.say("holdline:resume", response_id=second.job.id, starting_after=0)
        assert "response.queued" == (await talk.next())["type"]
        assert "response.completed" == (await talk.until("response.completed"))["type"]
        await talk.say("holdline:resume", response_id=second.job.id, starting_after=99)
        assert (400, "starting_after_beyond_end", "starting_after") == await talk.error()
    await wait_until(lambda: at_rest(server))


@pytest.mark.parametrize("speak", [connected, packed])
@pytest.mark.parametrize("lane", [{}, {"stream_id": "a"}])
async def test_large_events_arrive_whole_and_pongs_in_between(
    client: Client, worker: Worker, server: Server, speak: Any, lane: dict[str, str]
) -> None:
    pieces = ["a", "é" * 500_000, "b", "€" * 500_000]
    async with speak(client) as talk:
        await talk.say("response.create", input="1", **lane)
        working = asyncio.create_task(worker.answer(*pieces))
        for _ in range(3):
            await talk.say("holdline:ping", id="x")
            await talk.ws.ping()
        await talk.until("response.completed")
        assert await still_open(talk)
    await working
    events = [event for event in talk.events if "sequence_number" in event]
    assert list(range(len(events))) == [event["sequence_number"] for event in events]
    assert pieces == [event["delta"] for event in events if "delta" in event]
    assert all(event.get("stream_id") == lane.get("stream_id") for event in events)
    await wait_until(lambda: at_rest(server))


async def test_a_frame_of_the_other_type_is_refused_and_the_socket_stays_open(
    client: Client,
) -> None:
    async with packed(client) as talk:
        await talk.ws.send_str('{"type":"holdline:ping"}')
        assert (400, "bad_message", None) == await talk.error()
        assert "MessagePack" in talk.events[-1]["error"]["message"]
        assert await still_open(talk)
    async with connected(client) as plain:
        await plain.ws.send_bytes(msgpack.packb({"type": "holdline:ping"}))
        assert (400, "bad_message", None) == await plain.error()
        assert await still_open(plain)


async def test_decoding_bombs_are_refused_and_the_socket_stays_open(serve: Serve) -> None:
    client = await serve()
    async with packed(client) as talk:
        for bomb in (
            deep(900_000),
            b"\xdd\x00\x0f\x42\x40" * 200_000,
            b"\xc1",
            b"\xdf\xff\xff\xff",
        ):
            await talk.ws.send_bytes(bomb)
            assert (400, "invalid_msgpack", None) == await talk.error()
        await talk.say("response.create", input=b"bytes")
        assert (400, "invalid_value", "input") == await talk.error()
        assert await still_open(talk)


async def test_an_oversized_message_pack_message_closes_the_socket(serve: Serve) -> None:
    client = await serve(max_body_bytes="2048")
    async with packed(client) as talk:
        await talk.ws.send_bytes(b"x" * 3000)
        while (message := await talk.ws.receive(timeout=8)).type is WSMsgType.BINARY:
            talk.events.append(msgpack.unpackb(message.data))
        assert 1009 == talk.ws.close_code
