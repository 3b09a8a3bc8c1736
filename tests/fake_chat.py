"""The fake model's chat completions: what each `mode` does."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.fake_wire import Call, Mode, Script, Wire

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


async def say(wire: Wire, script: Script, call: Call, stop: int | None = None) -> None:
    """Sends the tokens, or those before `stop`."""
    await wire.event(chunk({"role": "assistant", "content": ""}))
    for token in tokens(script, call)[:stop]:
        await wire.event(chunk({"content": token}))
        call.sent += token
        if script.pace:
            await asyncio.sleep(script.pace)


async def stop(wire: Wire, script: Script, call: Call, reason: str = "stop") -> None:
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
async def ok(wire: Wire, script: Script, call: Call) -> None:
    """An answer."""
    await wire.begin()
    await say(wire, script, call)
    await stop(wire, script, call)


@mode
async def slow(wire: Wire, script: Script, call: Call) -> None:
    """An answer at a human pace."""
    script.pace = script.pace or 0.02
    await ok(wire, script, call)


@mode
async def fast(wire: Wire, script: Script, call: Call) -> None:
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
async def length(wire: Wire, script: Script, call: Call) -> None:
    """Stopped by its limit."""
    await wire.begin()
    await say(wire, script, call)
    await stop(wire, script, call, "length")


@mode
async def filtered(wire: Wire, script: Script, call: Call) -> None:
    """Stopped by a filter."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await stop(wire, script, call, "content_filter")


@mode
async def empty(wire: Wire, script: Script, call: Call) -> None:
    """An answer without a word."""
    script.tokens = 0
    await ok(wire, script, call)


@mode
async def giant(wire: Wire, script: Script, call: Call) -> None:
    """Ten megabytes, in pieces of 64 KB."""
    await wire.begin()
    for _ in range(160):
        await wire.event(chunk({"content": "x" * 65_536}))
    await stop(wire, script, call)


@mode
async def emoji(wire: Wire, script: Script, call: Call) -> None:
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
async def usage(wire: Wire, script: Script, call: Call) -> None:
    """Tells its usage with every chunk, then goes on for ever."""
    await wire.begin()
    for index, token in enumerate(tokens(script, call)):
        counts = {"prompt_tokens": 7, "completion_tokens": index + 1}
        await wire.event({**chunk({"content": token}), "usage": counts})
    await for_ever()


@mode
async def busy(wire: Wire, script: Script, call: Call) -> None:
    """429, with Retry-After if the script has one."""
    extra = f"Retry-After: {script.after}\r\n" if script.after else ""
    await wire.plain(429, error(call), extra=extra)


def status(code: int) -> Mode:
    async def refuse(wire: Wire, _script: Script, call: Call) -> None:
        await wire.plain(code, error(call))

    return refuse


MODES |= {str(code): status(code) for code in (400, 401, 402, 403, 404, 408, 418, 500, 502, 503)}


def error(call: Call) -> str:
    """An error as thoughtless as real ones: it repeats the key and the prompt."""
    words = f"no: {call.headers.get('authorization')} {call.prompt}"
    return json.dumps({"error": {"message": words, "type": "fake", "code": "fake"}})


@mode
async def html(wire: Wire, _script: Script, _call: Call) -> None:
    """A captive portal: status 200 and a page."""
    await wire.plain(200, "<html>Welcome to the hotel</html>", kind="text/html")


@mode
async def silent(_wire: Wire, _script: Script, _call: Call) -> None:
    """Not even headers."""
    await for_ever()


@mode
async def headers(wire: Wire, _script: Script, _call: Call) -> None:
    """Headers, and then nothing."""
    await wire.begin()
    await for_ever()


@mode
async def hang(wire: Wire, script: Script, call: Call) -> None:
    """Falls silent in mid-answer."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await for_ever()


@mode
async def comments(wire: Wire, script: Script, call: Call) -> None:
    """From `at` on nothing but comments, empty deltas and heartbeats, for ever."""
    await wire.begin()
    if script.at > 0:
        await say(wire, script, call, script.at)
    while True:
        await wire.raw(b": still here\n\n")
        await wire.event(chunk({"content": ""}))
        await asyncio.sleep(0.01)  # the pace of the heartbeats


@mode
async def eof(wire: Wire, script: Script, call: Call) -> None:
    """A clean end in mid-answer, without a reason."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await wire.end()


@mode
async def done(wire: Wire, script: Script, call: Call) -> None:
    """[DONE] in mid-answer, without a reason."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await wire.raw(b"data: [DONE]\n\n")
    await wire.end()


@mode
async def cutchunk(wire: Wire, script: Script, call: Call) -> None:
    """The connection ends inside an HTTP chunk."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    wire.writer.write(b'ff\r\ndata: {"choices":[{"delta":{"content":"ha')
    await wire.writer.drain()


@mode
async def cutevent(wire: Wire, script: Script, call: Call) -> None:
    """The body ends inside an event, and HTTP sees nothing wrong."""
    await wire.begin(chunked=False)
    await say(wire, script, call, script.turn)
    await wire.raw(b'data: {"choices":[{"delta":{"content":"ha')


@mode
async def rst(wire: Wire, script: Script, call: Call) -> None:
    """A reset in mid-answer."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await asyncio.sleep(0.02)  # or the reset would overtake the tokens
    wire.reset()


@mode
async def drop(wire: Wire, _script: Script, _call: Call) -> None:
    """A reset before the first byte."""
    wire.reset()


@mode
async def badjson(wire: Wire, script: Script, call: Call) -> None:
    """Half a JSON object in a whole event."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await wire.raw(b'data: {"choices":[{"delta":\n\n')
    await stop(wire, script, call)


@mode
async def badutf(wire: Wire, script: Script, call: Call) -> None:
    """Bytes that are no UTF-8."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await wire.raw(b'data: {"choices":[{"delta":{"content":"\xff\xfe"}}]}\n\n')
    await stop(wire, script, call)


@mode
async def shape(wire: Wire, script: Script, call: Call) -> None:
    """JSON of another shape, with an event name that the SDK does not look at."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await wire.raw(b'event: error\ndata: {"message": "overloaded"}\n\n')
    await stop(wire, script, call)


@mode
async def errorobject(wire: Wire, script: Script, call: Call) -> None:
    """An error object in mid-stream."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await wire.raw(b"data: %b\n\n" % error(call).encode())
    await wire.end()


@mode
async def wholebutcut(wire: Wire, script: Script, call: Call) -> None:
    """The reason for stopping, then a reset before the usage: the answer is whole."""
    await wire.begin()
    await say(wire, script, call)
    await wire.event(chunk(reason="stop"))
    await asyncio.sleep(0.05)  # or the reset would overtake the reason
    wire.reset()


@mode
async def thinking(wire: Wire, script: Script, call: Call) -> None:
    """Reasons for a while, longer than a silence may last, then answers."""
    await wire.begin()
    for _ in range(script.tokens):
        await wire.event(chunk({"reasoning_content": "hm "}))
        await asyncio.sleep(script.pace)
    script.pace = 0
    await say(wire, script, call)
    await stop(wire, script, call)
