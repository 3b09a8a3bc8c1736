"""A time-limited fuzzer for the socket in both encodings, the HTTP front end and the decoders.

    python -m tests.attacks.fuzz URL --seconds 30 --seed 1

The fuzzer sends valid messages and requests with a few changes, so that most of them pass the first
checks. It fails as soon as a decoder raises an unexpected exception or the server stops answering
valid requests.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from typing import Any

import msgpack  # type: ignore[import-untyped]

from jobs.errors import Undecodable
from jobs.log.codec import decode_event, decode_job, decode_notification
from server.api.client_messages import parse_message
from server.api.encoding import parse_packed
from server.api.frames import frame as event_frame
from server.api.json_body import parse_json
from server.api.problem import Problem
from server.api.request import parse_create
from server.http.frontends.ag_ui import Run, RunResume
from tests.attacks.raw import BINARY, CLOSE, PING, TEXT, Raw, frame

LEAVES: list[Any] = [
    *(None, True, False, 0, -1, 2**53, 2**63, -(2**63), 1e308, 1.5, "", "a", "x" * 5000, "\x00"),
    *(
        "\u202e",
        "{0}",
        "resp_000" + "0" * 32,
        "é" * 300,
        [],
        {},
        [[]],
        {"type": "message"},
        ["a"] * 50,
    ),
]
CONVERSATION = "conv_000" + "0" * 32
MESSAGES: list[dict[str, Any]] = [
    {"type": "response.create", "input": "tokens=2", "model": "m", "stream_id": "a"},
    {
        "type": "response.create",
        "model": "m",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "tokens=1"}]}],
        "metadata": {"a": "b"},
        "tools": [{"type": "function", "name": "f", "parameters": {}}],
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}},
    },
    {"type": "response.cancel", "response_id": "resp_000" + "0" * 32},
    {"type": "holdline:resume", "response_id": "resp_000" + "0" * 32, "starting_after": 1},
    {
        "type": "response.steer",
        "previous_response_id": "resp_000" + "0" * 32,
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}],
        "holdline": {"idempotency_key": "k"},
    },
    {
        "type": "holdline:follow",
        "conversation": CONVERSATION,
        "starting_after": 1,
        "event_id": "evt_1",
    },
    {"type": "holdline:unfollow", "conversation": CONVERSATION},
    {"type": "holdline:read", "conversation": CONVERSATION, "sequence_number": 1},
    {"type": "holdline:console", "response_id": None},
    {"type": "holdline:ping", "id": 1},
    {"type": "holdline:auth", "token": "t"},
]
AG_UI_RUN = {"threadId": "thread", "runId": "run"}
AG_UI_MESSAGES: list[dict[str, Any]] = [
    {
        **AG_UI_RUN,
        "messages": [
            {"id": "m1", "role": "user", "content": [{"type": "text", "text": "tokens=1"}]}
        ],
        "tools": [{"name": "f", "description": "d", "parameters": {"type": "object"}}],
        "context": [{"description": "d", "value": "v"}],
        "forwardedProps": {"holdline": {"model": "m"}},
        "state": {},
    },
    {**AG_UI_RUN, "responseId": "resp_000" + "0" * 32, "startingAfter": "1:00000000"},
    {"type": "holdline:ping", "id": 1},
    {"type": "holdline:auth", "token": "t"},
]
# The messages of each route with a WebSocket.
SOCKETS = {"/v1/responses": MESSAGES, "/v1/ag-ui": AG_UI_MESSAGES}
ENTRIES: list[Any] = [
    [1, "msg_1", 0, 0, "a"],
    [5, 0, {"id": "a"}],
    ["response.created", {"response": {"id": "a"}}],
    [1, "resp_1", "public", 5, {}, []],
    ["queued", 1, 2, "why"],
    [0, [b"a"]],
]
REQUEST = (
    b"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b'Content-Length: 32\r\n\r\n{"input":"tokens=1","model":"m"}'
)


def mutated(rng: random.Random, value: Any) -> Any:
    """Returns the value with one part replaced, removed, added or wrapped."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        name = rng.choice(list(value))
        match rng.randrange(5):
            case 0:
                return {k: v for k, v in value.items() if k != name}
            case 1:
                return value | {rng.choice(["", "x", "__proto__", name * 2]): rng.choice(LEAVES)}
            case _:
                return value | {name: mutated(rng, value[name])}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        return [*value[:at], mutated(rng, value[at]), *value[at + rng.randrange(2) :]]
    if rng.random() < 0.1:
        for _ in range(rng.choice([3, 70, 200])):
            value = [value]
        return value
    return rng.choice(LEAVES)


def corrupted(rng: random.Random, data: bytes) -> bytes:
    """Returns the data with a few bytes changed, cut, inserted or repeated."""
    out = bytearray(data)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(4):
            case 0:
                out[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del out[at : at + rng.randrange(1, 9)]
            case 2:
                out[at:at] = out[at : at + rng.randrange(1, 40)]
            case _:
                out[at:at] = rng.randbytes(rng.randrange(1, 5))
    return bytes(out)


def decoders(rng: random.Random) -> None:
    """Runs each decoder once. Invalid input may raise only the exceptions suppressed here."""
    message = mutated(rng, mutated(rng, rng.choice([*MESSAGES, *AG_UI_MESSAGES])))
    for parse in (parse_message, parse_create, Run, RunResume):
        if isinstance(message, dict):
            with contextlib.suppress(Problem):
                parse(message)
    with contextlib.suppress(Problem):
        parse_json(corrupted(rng, json.dumps(message).encode()))
    with contextlib.suppress(Problem, ValueError, OverflowError):
        parse_packed(corrupted(rng, msgpack.packb(message)))
    packed = corrupted(rng, msgpack.packb(mutated(rng, rng.choice(ENTRIES))))
    for decode in (
        decode_event,
        decode_job,
        decode_notification,
        lambda data: event_frame(0, data).json,
    ):
        with contextlib.suppress(Undecodable):
            decode(packed)


def frames(rng: random.Random, messages: list[dict[str, Any]], *, packed: bool) -> bytes:
    """Returns one frame, which usually contains an almost valid message."""
    message = rng.choice(messages)
    for _ in range(rng.randrange(3)):
        message = mutated(rng, message)
    try:
        payload = msgpack.packb(message) if packed else json.dumps(message).encode()
    except (ValueError, OverflowError):
        payload = b""
    if rng.random() < 0.3:
        payload = corrupted(rng, payload)
    broken = rng.random() < 0.1
    return frame(
        payload,
        rng.randrange(16)
        if broken
        else rng.choice(
            [TEXT, BINARY, BINARY if packed else TEXT, PING, CLOSE][
                : 5 if rng.random() < 0.1 else 3
            ]
        ),
        fin=rng.random() < 0.95,
        rsv=rng.randrange(8) if broken else 0,
        mask=rng.random() < 0.95,
        length=rng.randrange(2**20) if rng.random() < 0.02 else None,
    )


async def socket_round(url: str, rng: random.Random, seen: Counter[str]) -> None:
    """Opens a WebSocket on each route, sends 40 frames and reads until the server closes it."""
    for path, messages in SOCKETS.items():
        await _socket_round(url, path, messages, rng, seen)


async def _socket_round(
    url: str, path: str, messages: list[dict[str, Any]], rng: random.Random, seen: Counter[str]
) -> None:
    packed = messages is MESSAGES and rng.random() < 0.5  # AG-UI has no MessagePack
    offer = "holdline.msgpack" if packed else rng.choice(["holdline.v1", "bearer.x"])
    async with Raw(url) as raw:
        status, _ = await raw.upgrade(f"Sec-WebSocket-Protocol: {offer}", path=path)
        assert 101 == status
        for _ in range(40):
            await raw.send(frames(rng, messages, packed=packed))
        raw.done()
        received = await raw.rest(20)
        failed = b"internal_error" in received
        seen[f"socket at {path}: internal_error" if failed else f"socket at {path}"] += 1


async def request_round(url: str, rng: random.Random, seen: Counter[str]) -> None:
    """Sends one almost valid request over a new connection."""
    async with Raw(url) as raw:
        await raw.send(corrupted(rng, corrupted(rng, REQUEST)))
        raw.done()
        received = await raw.rest(20)
        seen[f"HTTP {received[9:12].decode('latin-1') or 'closed'}"] += 1


async def check_bystander(url: str) -> None:
    """Checks that a valid request is still answered."""
    async with Raw(url) as raw:
        assert 200 == (await raw.answer(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"))[0]


async def fuzz(url: str, seconds: float, seed: int) -> Counter[str]:
    """Runs rounds until the time is up, and returns the number of results of each kind."""
    rng, seen = random.Random(seed), Counter[str]()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for _ in range(50):
            decoders(rng)
        seen["decoders"] += 50
        await socket_round(url, rng, seen)
        for _ in range(4):
            await request_round(url, rng, seen)
        await check_bystander(url)
    for what in seen:
        assert "internal_error" not in what, f"seed {seed}: {dict(seen)}"
        assert not what.startswith("HTTP 5"), f"seed {seed}: {dict(seen)}"
    return seen


def main() -> None:
    """Fuzzes a running server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    print(dict(asyncio.run(fuzz(arguments.url, arguments.seconds, arguments.seed))))


if __name__ == "__main__":
    main()
