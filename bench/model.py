"""Simulates a model's endpoint for benchmarks, with minimal CPU cost.

The endpoint speaks chat completions. Answers that it streams at once are also available in the
Responses API, for gateways that require it.

Usage: `python -m bench.model PORT`. A prompt can contain these options:

- `tokens=N` sets the number of tokens in the answer. The default is 50.
- `pace=SECONDS` sets the time between two tokens. The default is 0.

If `pace` is 0, the endpoint sends the whole answer in one write, with one HTTP chunk per token. It
caches the bytes of such answers. Otherwise, the text of each token is the time at which the token
was sent, in nanoseconds of the monotonic clock. The receiver computes the latency from this time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import re
import sys
import time
from functools import cache
from typing import Any, Final, cast

WORDS: Final = re.compile(rb"\b(tokens|pace)=([0-9.]+)")
HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
BASE: Final = {
    "id": "chatcmpl-9f1c2b7d4e5a",
    "object": "chat.completion.chunk",
    "created": 1_700_000_000,
    "model": "bench",
    "system_fingerprint": "fp_44709d6fcb",
}

ITEM: Final = b"msg_9f1c2b7d"
NUMBERS: Final = itertools.count()
RESPONSE: Final = {
    "id": "resp_9f1c2b7d4e5a",
    "object": "response",
    "created_at": 1_700_000_000,
    "model": "bench",
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
}


def chunk(payload: bytes) -> bytes:
    """Encodes one server-sent event as one HTTP chunk."""
    event = b"data: %b\n\n" % payload
    return b"%x\r\n%b\r\n" % (len(event), event)


def _said(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return json.dumps(BASE | {"choices": [choice]}, separators=(",", ":")).encode()


BEFORE, AFTER = (part for part in _said({"content": "%TOKEN%"}).split(b"%TOKEN%"))
FIRST: Final = chunk(_said({"role": "assistant", "content": ""}))


def token(text: bytes) -> bytes:
    """Encodes one token as one HTTP chunk."""
    return chunk(BEFORE + text + AFTER)


@cache
def ending(tokens: int) -> bytes:
    """Encodes the HTTP chunks that follow the last token."""
    usage = {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens}
    count = json.dumps(BASE | {"choices": [], "usage": usage}, separators=(",", ":")).encode()
    return chunk(_said({}, "stop")) + chunk(count) + chunk(b"[DONE]") + b"0\r\n\r\n"


@cache
def at_once(tokens: int) -> bytes:
    """Encodes a whole streamed answer, including the HTTP head."""
    said = b"".join(token(b"tok%d " % (number % 1000)) for number in range(tokens))
    return HEAD + FIRST + said + ending(tokens)


@cache
def response_at_once(tokens: int) -> bytes:
    """Encodes a whole streamed answer of the Responses API, including the HTTP head."""
    text = "".join(f"tok{number % 1000} " for number in range(tokens))
    part: dict[str, Any] = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    item = {"type": "message", "id": ITEM.decode(), "role": "assistant", "content": []}
    item |= {"status": "in_progress"}
    done_part = part | {"text": text}
    done_item = item | {"content": [done_part], "status": "completed"}
    response = RESPONSE | {"status": "in_progress", "output": [], "usage": None}
    usage = {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 9 + tokens,
    }
    at = {"output_index": 0}
    place = at | {"item_id": item["id"], "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": response},
        {"type": "response.in_progress", "response": response},
        {"type": "response.output_item.added", **at, "item": item},
        {"type": "response.content_part.added", **place, "part": part},
    ]
    events += (
        {
            "type": "response.output_text.delta",
            **place,
            "delta": f"tok{number % 1000} ",
            "logprobs": [],
        }
        for number in range(tokens)
    )
    completed = response | {"status": "completed", "output": [done_item], "usage": usage}
    events += (
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": done_part},
        {"type": "response.output_item.done", **at, "item": done_item},
        {"type": "response.completed", "response": completed},
    )
    sent = HEAD
    for number, event in enumerate(events):
        payload = json.dumps(event | {"sequence_number": number}, separators=(",", ":"))
        said = f"event: {event['type']}\ndata: {payload}\n\n".encode()
        sent += b"%x\r\n%b\r\n" % (len(said), said)
    return sent + b"0\r\n\r\n"


@cache
def whole(tokens: int) -> bytes:
    """Encodes the whole HTTP response to a request without streaming."""
    text = "".join(f"tok{number % 1000} " for number in range(tokens))
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens}
    body = json.dumps(
        BASE | {"object": "chat.completion", "choices": [choice], "usage": usage}
    ).encode()
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        % len(body)
        + body
    )


class Line(asyncio.Protocol):
    """An HTTP connection that serves one request after another."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._read = b""
        self._next: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Stores the transport when a client has connected."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Cancels the next token when the connection is closed."""
        if self._next is not None:
            self._next.cancel()

    def data_received(self, data: bytes) -> None:
        """Answers a request as soon as its head and body are complete."""
        self._read += data
        head, end, rest = self._read.partition(b"\r\n\r\n")
        if not end:
            return
        found = re.search(rb"(?i)content-length: *(\d+)", head)
        size = int(found[1]) if found else 0
        if len(rest) >= size:
            body, self._read = rest[:size], rest[size:]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        words = dict(WORDS.findall(body))
        tokens, pace = int(words.get(b"tokens", 50)), float(words.get(b"pace", 0))
        if not pace:
            if b"/responses " in head:
                # Gateways that store the item require a unique id.
                item = b"msg_%08x" % next(NUMBERS)
                self._write(response_at_once(tokens).replace(ITEM, item))
            else:
                streams = re.search(rb'"stream": ?true', body)
                self._write(at_once(tokens) if streams else whole(tokens))
            return
        self._write(HEAD + FIRST)
        loop = asyncio.get_running_loop()
        # As with a real model, streams that begin together must not run in lockstep.
        first = loop.time() + pace * random.uniform(0.5, 1.5)
        self._next = loop.call_at(first, self._say, tokens, tokens, pace, first)

    def _say(self, left: int, tokens: int, pace: float, due: float) -> None:
        if not left:
            self._write(ending(tokens))
            return
        self._write(token(b"%d " % time.monotonic_ns()))
        loop = asyncio.get_running_loop()
        self._next = loop.call_at(due + pace, self._say, left - 1, tokens, pace, due + pace)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Line, "127.0.0.1", port, backlog=4096)
    print("listening", flush=True)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serves the simulated model until the process is killed."""
    factory = None
    with contextlib.suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
