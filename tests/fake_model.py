"""The tests' model: a real HTTP server that speaks chat completions and does as it is told.

It speaks the standard itself as well: see `tests.fake_responses`.

A simulation, plainly: its answers are numbered tokens. It obeys words of the form `name=value` in
the last user message, so one prompt is a whole script:

    async with FakeModel() as model:
        ...                      # point OPENAI_BASE_URL at model.url
        "mode=slow tokens=50"    # as the prompt

    mode      what it does (see `MODES`); default `ok`
    tokens    how many tokens (20)
    pace      seconds between tokens (0)
    at        the token before which something happens (half of the tokens)
    times     how often the mode applies before the answer is `ok` (always); counted per prompt
    after     the Retry-After of a refusal, in seconds
    say       what to say in place of numbered tokens, `_` for a space, `|` for a new line
    name      the function to call, and
    args      with which arguments; see `tests/fake_standard.py`

`model.key = (header, value)` refuses every call without that header, and counts it in `refused`.
`model.script = {...}` says the same for every prompt that does not. Every call is recorded in
`model.calls`. A token carries the number of its call (`c3t17 `), so a text that was spliced from
two calls can be seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import re
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, Self

WORDS = re.compile(r"\b([a-z]+)=(\S+)")


@dataclass
class Call:
    """One request, and what became of it. Times are of the monotonic clock."""

    number: int
    prompt: str
    mode: str
    body: dict[str, Any]
    headers: dict[str, str]
    began: float = field(default_factory=time.monotonic)
    sent: str = ""
    ended: float | None = None
    closed_by_client: float | None = None


@dataclass
class Script:
    """What a prompt asks for."""

    mode: str = "ok"
    tokens: int = 20
    pace: float = 0.0
    at: int = -1
    times: int = -1
    after: str = ""
    say: str = ""
    name: str = ""
    args: str = "{}"

    @property
    def turn(self) -> int:
        return self.tokens // 2 if self.at < 0 else self.at


class FakeModel:
    """Use it as an async context manager; `url` is its base URL."""

    def __init__(self, **script: Any) -> None:
        self.script = script
        self.calls: list[Call] = []
        self.key: tuple[str, str] | None = None
        self.refused = 0
        self.url = ""
        self._asked: Counter[str] = Counter()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def open_calls(self) -> list[Call]:
        """The calls whose answer is still being given."""
        return [call for call in self.calls if call.ended is None]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            # A reset by the other side, at any moment, is its right.
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                early: bytes | None = b""
                while early is not None:
                    early = await self._one(early, reader, writer)
        except asyncio.CancelledError:
            pass  # asyncio's own callback on this task would report it.
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(
        self, early: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes | None:
        """One request and its answer; None if the connection can take no other one, else what
        has already been read of the next.
        """
        head = (early + await reader.readuntil(b"\r\n\r\n")).decode()
        line, *fields = head.splitlines()
        headers = {k.lower(): v.strip() for k, _, v in (f.partition(":") for f in fields) if k}
        content = await reader.readexactly(int(headers.get("content-length", "0")))
        wire = _Wire(writer)
        passes = line.startswith("POST /v1/responses ")
        if not passes and not line.startswith("POST /v1/chat/completions "):
            await wire.plain(200, json.dumps({"object": "list", "data": []}))
            return b""
        if self.key is not None and headers.get(self.key[0]) != self.key[1]:
            self.refused += 1
            await wire.plain(401, json.dumps({"error": {"code": "invalid_api_key"}}))
            return b""
        body = json.loads(content)
        said = body["input"] if passes else body["messages"]
        prompt = next((text_of(m) for m in reversed(said) if m.get("role") == "user"), "")
        script = self._read(prompt)
        call = Call(len(self.calls) + 1, prompt, script.mode, body, headers)
        self.calls.append(call)
        # The client sends nothing while it is answered: what comes is its farewell, or, just
        # after the end, the first byte of its next request.
        farewell = asyncio.create_task(reader.read(1))
        modes = MODES | fake_responses().MODES if passes else MODES
        answer = asyncio.create_task(_answer(modes[script.mode], wire, script, call))
        try:
            await asyncio.wait({farewell, answer}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                call.closed_by_client = time.monotonic()
            elif not answer.cancelled() and answer.exception() is not None:
                if not isinstance(answer.exception(), ConnectionError):
                    answer.result()
                call.closed_by_client = time.monotonic()
        finally:
            call.ended = time.monotonic()
            for task in (farewell, answer):
                task.cancel()
            await asyncio.gather(farewell, answer, return_exceptions=True)
        if not wire.whole or call.closed_by_client is not None:
            return None
        return b"" if farewell.cancelled() else farewell.result()

    def _read(self, prompt: str) -> Script:
        words = {**self.script, **dict(WORDS.findall(prompt))}
        known = {name: value for name, value in words.items() if name in Script.__annotations__}
        kinds: dict[str, Callable[[Any], Any]] = {
            "tokens": int,
            "at": int,
            "times": int,
            "pace": float,
        }
        script = Script(**{name: kinds.get(name, str)(value) for name, value in known.items()})
        self._asked[prompt] += 1
        if 0 <= script.times < self._asked[prompt]:
            script.mode = "ok"
        return script


class _Wire:
    """An HTTP response by hand: only so can it be wrong in every way."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.whole = False
        self.chunked = True

    async def plain(
        self, status: int, text: str, *, kind: str = "application/json", extra: str = ""
    ) -> None:
        content = text.encode()
        self.writer.write(
            f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{extra}"
            f"Content-Length: {len(content)}\r\n\r\n".encode()
            + content
        )
        await self.writer.drain()
        self.whole = True

    async def begin(self, *, chunked: bool = True) -> None:
        self.chunked = chunked
        framing = "Transfer-Encoding: chunked" if chunked else "Connection: close"
        self.writer.write(
            f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{framing}\r\n\r\n".encode()
        )
        await self.writer.drain()

    async def raw(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)
        await self.writer.drain()

    async def event(self, payload: Any) -> None:
        await self.raw(b"data: %b\n\n" % json.dumps(payload).encode())

    async def end(self) -> None:
        if self.chunked:
            self.writer.write(b"0\r\n\r\n")
            await self.writer.drain()
            self.whole = True

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Mode = Callable[[_Wire, Script, Call], Awaitable[None]]
MODES: dict[str, Mode] = {}


def mode(run: Mode) -> Mode:
    MODES[run.__name__] = run
    return run


def text_of(message: dict[str, Any]) -> str:
    """The text of a message, whatever else it shows."""
    content = message["content"] or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


async def _answer(run: Mode, wire: _Wire, script: Script, call: Call) -> None:
    await run(wire, script, call)


def fake_responses() -> Any:
    """The Responses API, which is written on top of this module."""
    return importlib.import_module("tests.fake_responses")


def chunk(delta: dict[str, Any] | None = None, reason: str | None = None) -> dict[str, Any]:
    """One chunk of a chat completion."""
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "fake",
        "choices": [{"index": 0, "delta": delta or {}, "finish_reason": reason}],
    }


def tokens(script: Script, call: Call) -> list[str]:
    """What this call says, token by token."""
    if script.say:
        return list(script.say.replace("_", " ").replace("|", "\n"))
    return [f"c{call.number}t{index} " for index in range(script.tokens)]


async def say(wire: _Wire, script: Script, call: Call, stop: int | None = None) -> None:
    """Sends the tokens, or those before `stop`."""
    await wire.event(chunk({"role": "assistant", "content": ""}))
    for token in tokens(script, call)[:stop]:
        await wire.event(chunk({"content": token}))
        call.sent += token
        if script.pace:
            await asyncio.sleep(script.pace)


async def stop(wire: _Wire, script: Script, call: Call, reason: str = "stop") -> None:
    """Ends an answer as it should be ended."""
    await wire.event(chunk(reason=reason))
    if call.body.get("stream_options", {}).get("include_usage"):
        used = len(tokens(script, call))
        counts = {"prompt_tokens": 7, "completion_tokens": used, "total_tokens": 7 + used}
        await wire.event({**chunk(), "choices": [], "usage": counts})
    await wire.raw(b"data: [DONE]\n\n")
    await wire.end()


async def for_ever() -> None:
    """Until the client goes away."""
    await asyncio.Event().wait()


@mode
async def ok(wire: _Wire, script: Script, call: Call) -> None:
    """An answer."""
    await wire.begin()
    await say(wire, script, call)
    await stop(wire, script, call)


@mode
async def slow(wire: _Wire, script: Script, call: Call) -> None:
    """An answer at a human pace."""
    script.pace = script.pace or 0.02
    await ok(wire, script, call)


@mode
async def fast(wire: _Wire, script: Script, call: Call) -> None:
    """Many tokens in each write, as fast as they are taken."""
    await wire.begin()
    said = tokens(script, call)
    for at in range(0, len(said), 100):
        some = said[at : at + 100]
        call.sent += "".join(some)
        await wire.raw(
            b"".join(b"data: %b\n\n" % json.dumps(chunk({"content": t})).encode() for t in some)
        )
    await stop(wire, script, call)


@mode
async def length(wire: _Wire, script: Script, call: Call) -> None:
    """Stopped by its limit."""
    await wire.begin()
    await say(wire, script, call)
    await stop(wire, script, call, "length")


@mode
async def filtered(wire: _Wire, script: Script, call: Call) -> None:
    """Stopped by a filter."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await stop(wire, script, call, "content_filter")


@mode
async def empty(wire: _Wire, script: Script, call: Call) -> None:
    """An answer without a word."""
    script.tokens = 0
    await ok(wire, script, call)


@mode
async def giant(wire: _Wire, script: Script, call: Call) -> None:
    """Ten megabytes, in pieces of 64 KB."""
    await wire.begin()
    for _ in range(160):
        await wire.event(chunk({"content": "x" * 65_536}))
    await stop(wire, script, call)


@mode
async def emoji(wire: _Wire, script: Script, call: Call) -> None:
    """Characters and graphemes cut everywhere: by bytes, by escapes, by tokens."""
    script.say = "a👩‍👩‍👧é🇩🇪ü"
    await wire.begin()
    for token in tokens(script, call):
        halves = json.dumps(token)[1:-1].split("\\u")[1:] if not token.isascii() else []
        if len(halves) == 2:  # A surrogate pair, one half in each chunk.
            for half in halves:
                await wire.raw(
                    b'data: {"choices":[{"delta":{"content":"\\u%b"}}]}\n\n' % half.encode()
                )
        else:
            event = json.dumps(chunk({"content": token}), ensure_ascii=False).encode()
            for byte in b"data: %b\r\n\r\n" % event:
                await wire.raw(bytes([byte]))
        call.sent += token
    await stop(wire, script, call)


@mode
async def usage(wire: _Wire, script: Script, call: Call) -> None:
    """Tells its usage with every chunk, then goes on for ever."""
    await wire.begin()
    for index, token in enumerate(tokens(script, call)):
        counts = {"prompt_tokens": 7, "completion_tokens": index + 1}
        await wire.event({**chunk({"content": token}), "usage": counts})
    await for_ever()


@mode
async def busy(wire: _Wire, script: Script, call: Call) -> None:
    """429, with Retry-After if the script has one."""
    extra = f"Retry-After: {script.after}\r\n" if script.after else ""
    await wire.plain(429, error(call), extra=extra)


def status(code: int) -> Mode:
    async def refuse(wire: _Wire, _script: Script, call: Call) -> None:
        await wire.plain(code, error(call))

    return refuse


MODES |= {str(code): status(code) for code in (400, 401, 402, 403, 404, 408, 418, 500, 502, 503)}


def error(call: Call) -> str:
    """An error as thoughtless as real ones: it repeats the key and the prompt."""
    words = f"no: {call.headers.get('authorization')} {call.prompt}"
    return json.dumps({"error": {"message": words, "type": "fake", "code": "fake"}})


@mode
async def html(wire: _Wire, _script: Script, _call: Call) -> None:
    """A captive portal: status 200 and a page."""
    await wire.plain(200, "<html>Welcome to the hotel</html>", kind="text/html")


@mode
async def silent(_wire: _Wire, _script: Script, _call: Call) -> None:
    """Not even headers."""
    await for_ever()


@mode
async def headers(wire: _Wire, _script: Script, _call: Call) -> None:
    """Headers, and then nothing."""
    await wire.begin()
    await for_ever()


@mode
async def hang(wire: _Wire, script: Script, call: Call) -> None:
    """Falls silent in mid-answer."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await for_ever()


@mode
async def comments(wire: _Wire, script: Script, call: Call) -> None:
    """From `at` on nothing but comments, empty deltas and heartbeats, for ever."""
    await wire.begin()
    if script.at > 0:
        await say(wire, script, call, script.at)
    while True:
        await wire.raw(b": still here\n\n")
        await wire.event(chunk({"content": ""}))
        await asyncio.sleep(0.01)  # the pace of the heartbeats


@mode
async def eof(wire: _Wire, script: Script, call: Call) -> None:
    """A clean end in mid-answer, without a reason."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await wire.end()


@mode
async def done(wire: _Wire, script: Script, call: Call) -> None:
    """[DONE] in mid-answer, without a reason."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await wire.raw(b"data: [DONE]\n\n")
    await wire.end()


@mode
async def cutchunk(wire: _Wire, script: Script, call: Call) -> None:
    """The connection ends inside an HTTP chunk."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    wire.writer.write(b'ff\r\ndata: {"choices":[{"delta":{"content":"ha')
    await wire.writer.drain()


@mode
async def cutevent(wire: _Wire, script: Script, call: Call) -> None:
    """The body ends inside an event, and HTTP sees nothing wrong."""
    await wire.begin(chunked=False)
    await say(wire, script, call, script.turn)
    await wire.raw(b'data: {"choices":[{"delta":{"content":"ha')


@mode
async def rst(wire: _Wire, script: Script, call: Call) -> None:
    """A reset in mid-answer."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await asyncio.sleep(0.02)  # or the reset would overtake the tokens
    wire.reset()


@mode
async def drop(wire: _Wire, _script: Script, _call: Call) -> None:
    """A reset before the first byte."""
    wire.reset()


@mode
async def badjson(wire: _Wire, script: Script, call: Call) -> None:
    """Half a JSON object in a whole event."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await wire.raw(b'data: {"choices":[{"delta":\n\n')
    await stop(wire, script, call)


@mode
async def badutf(wire: _Wire, script: Script, call: Call) -> None:
    """Bytes that are no UTF-8."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await wire.raw(b'data: {"choices":[{"delta":{"content":"\xff\xfe"}}]}\n\n')
    await stop(wire, script, call)


@mode
async def shape(wire: _Wire, script: Script, call: Call) -> None:
    """JSON of another shape, with an event name that the SDK does not look at."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await wire.raw(b'event: error\ndata: {"message": "overloaded"}\n\n')
    await stop(wire, script, call)


@mode
async def errorobject(wire: _Wire, script: Script, call: Call) -> None:
    """An error object in mid-stream."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await wire.raw(b"data: %b\n\n" % error(call).encode())
    await wire.end()


@mode
async def wholebutcut(wire: _Wire, script: Script, call: Call) -> None:
    """The reason for stopping, then a reset before the usage: the answer is whole."""
    await wire.begin()
    await say(wire, script, call)
    await wire.event(chunk(reason="stop"))
    await asyncio.sleep(0.05)  # or the reset would overtake the reason
    wire.reset()


@mode
async def thinking(wire: _Wire, script: Script, call: Call) -> None:
    """Reasons for a while, longer than a silence may last, then answers."""
    await wire.begin()
    for _ in range(script.tokens):
        await wire.event(chunk({"reasoning_content": "hm "}))
        await asyncio.sleep(script.pace)
    script.pace = 0
    await say(wire, script, call)
    await stop(wire, script, call)
