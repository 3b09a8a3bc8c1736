"""Simulates a chat completions endpoint for benchmarks, with minimal CPU cost.

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
import json
import random
import re
import sys
import time
from functools import cache
from typing import Final, cast

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
            self._answer(body)

    def _answer(self, body: bytes) -> None:
        words = dict(WORDS.findall(body))
        tokens, pace = int(words.get(b"tokens", 50)), float(words.get(b"pace", 0))
        if not pace:
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
