"""The fake model's behaviours ("modes") for chat completions."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from tests.fake_wire import Call, Mode, Script, Wire

MODES: dict[str, Mode] = {}


def mode(run: Mode) -> Mode:
    MODES[run.__name__] = run
    return run


def text_of(message: dict[str, Any]) -> str:
    """Returns the text of a message, without images and other parts."""
    content = message["content"] or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def chunk(delta: dict[str, Any] | None = None, reason: str | None = None) -> dict[str, Any]:
    """Returns one chunk of a chat completion."""
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "fake",
        "choices": [{"index": 0, "delta": delta or {}, "finish_reason": reason}],
    }


def tokens(script: Script, call: Call) -> list[str]:
    """Returns the tokens of the answer to a model call."""
    if script.say:
        return list(script.say.replace("_", " ").replace("|", "\n"))
    if begun := re.match(r"c(\d+)t", call.before):
        # The model continues the text of the call that began it.
        rest = numbered(int(begun[1]), script.tokens)
        assert rest.startswith(call.before), "the text is not the beginning of a call's text"
        return re.findall(r"\S* ", rest[len(call.before) :])
    return re.findall(r"\S* ", numbered(call.number, script.tokens))


def unending(call: Call) -> Iterator[str]:
    """Yields tokens until `call.closing` is set."""
    for index in itertools.count():
        if call.closing:
            return
        yield f"c{call.number}t{index} "


def numbered(call: int, tokens: int) -> str:
    """Returns the text that call number `call` of the fake model sends."""
    return "".join(f"c{call}t{index} " for index in range(tokens))


async def say(
    wire: Wire,
    script: Script,
    call: Call,
    stop: int | None = None,
    said: Iterable[str] | None = None,
) -> None:
    """Sends the tokens of the answer to a model call, or only the first `stop` tokens."""
    await wire.event(chunk({"role": "assistant", "content": ""}))
    for token in tokens(script, call)[:stop] if said is None else said:
        await wire.event(chunk({"content": token}))
        call.sent += token
        if script.pace:
            await asyncio.sleep(script.pace)


async def stop(wire: Wire, script: Script, call: Call, reason: str = "stop") -> None:
    """Ends an answer correctly: finish reason, usage if requested, [DONE]."""
    await wire.event(chunk(reason=reason))
    if call.body.get("stream_options", {}).get("include_usage"):
        used = len(tokens(script, call))
        counts = {"prompt_tokens": 7, "completion_tokens": used, "total_tokens": 7 + used}
        await wire.event({**chunk(), "choices": [], "usage": counts})
    await wire.raw(b"data: [DONE]\n\n")
    await wire.end()


async def wait_forever() -> None:
    """Waits until the client disconnects and this task is cancelled."""
    await asyncio.Event().wait()


@mode
async def ok(wire: Wire, script: Script, call: Call) -> None:
    """Sends a complete answer."""
    await wire.begin()
    await say(wire, script, call)
    await stop(wire, script, call)


@mode
async def slow(wire: Wire, script: Script, call: Call) -> None:
    """Sends an answer with a pause between tokens."""
    script.pace = script.pace or 0.02
    await ok(wire, script, call)


@mode
async def until(wire: Wire, script: Script, call: Call) -> None:
    """Sends tokens until `call.closing` is set."""
    await wire.begin()
    script.pace = script.pace or 0.02
    await say(wire, script, call, said=unending(call))
    await stop(wire, script, call)


@mode
async def fast(wire: Wire, script: Script, call: Call) -> None:
    """Sends many tokens in each write, as fast as the client reads."""
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
    """Sends an answer that ends at the token limit."""
    await wire.begin()
    await say(wire, script, call)
    await stop(wire, script, call, "length")


@mode
async def filtered(wire: Wire, script: Script, call: Call) -> None:
    """Sends an answer that a content filter stops."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await stop(wire, script, call, "content_filter")


@mode
async def empty(wire: Wire, script: Script, call: Call) -> None:
    """Sends an answer without text."""
    script.tokens = 0
    await ok(wire, script, call)


@mode
async def giant(wire: Wire, script: Script, call: Call) -> None:
    """Sends an answer of ten megabytes in pieces of 64 KB."""
    await wire.begin()
    for _ in range(160):
        await wire.event(chunk({"content": "x" * 65_536}))
    await stop(wire, script, call)


@mode
async def emoji(wire: Wire, script: Script, call: Call) -> None:
    """Sends characters and graphemes that are split between bytes, escapes and tokens."""
    script.say = "a👩‍👩‍👧é🇩🇪ü"
    await wire.begin()
    for token in tokens(script, call):
        halves = json.dumps(token)[1:-1].split("\\u")[1:] if not token.isascii() else []
        if len(halves) == 2:  # A surrogate pair: one half in each chunk.
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
    """Sends an endless answer and reports the usage with each chunk."""
    await wire.begin()
    for index, token in enumerate(tokens(script, call)):
        counts = {"prompt_tokens": 7, "completion_tokens": index + 1}
        await wire.event({**chunk({"content": token}), "usage": counts})
    await wait_forever()


@mode
async def busy(wire: Wire, script: Script, call: Call) -> None:
    """Returns status 429, with a Retry-After header if the script sets one."""
    extra = f"Retry-After: {script.after}\r\n" if script.after else ""
    await wire.plain(429, error(call), extra=extra)


def status(code: int) -> Mode:
    async def refuse(wire: Wire, _script: Script, call: Call) -> None:
        await wire.plain(code, error(call))

    return refuse


MODES |= {str(code): status(code) for code in (400, 401, 402, 403, 404, 408, 418, 500, 502, 503)}


def error(call: Call) -> str:
    """Returns an error that leaks the key and the prompt, as some real endpoints do."""
    words = f"no: {call.headers.get('authorization')} {call.prompt}"
    return json.dumps({"error": {"message": words, "type": "fake", "code": "fake"}})


@mode
async def html(wire: Wire, _script: Script, _call: Call) -> None:
    """Returns status 200 with an HTML page, like a captive portal."""
    await wire.plain(200, "<html>Welcome to the hotel</html>", kind="text/html")


@mode
async def silent(_wire: Wire, _script: Script, _call: Call) -> None:
    """Sends no response, not even headers."""
    await wait_forever()


@mode
async def headers(wire: Wire, _script: Script, _call: Call) -> None:
    """Sends headers without a body."""
    await wire.begin()
    await wait_forever()


@mode
async def hang(wire: Wire, script: Script, call: Call) -> None:
    """Stops sending mid-answer and keeps the connection open."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await wait_forever()


@mode
async def comments(wire: Wire, script: Script, call: Call) -> None:
    """From token `at` on, sends only comments and empty deltas, forever."""
    await wire.begin()
    if script.at > 0:
        await say(wire, script, call, script.at)
    while True:
        await wire.raw(b": still here\n\n")
        await wire.event(chunk({"content": ""}))
        await asyncio.sleep(0.01)  # the interval of the keepalives


@mode
async def eof(wire: Wire, script: Script, call: Call) -> None:
    """Ends the body mid-answer without a finish reason."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await wire.end()


@mode
async def done(wire: Wire, script: Script, call: Call) -> None:
    """Sends [DONE] mid-answer without a finish reason."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await wire.raw(b"data: [DONE]\n\n")
    await wire.end()


@mode
async def cutchunk(wire: Wire, script: Script, call: Call) -> None:
    """Closes the connection inside an HTTP chunk."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    wire.writer.write(b'ff\r\ndata: {"choices":[{"delta":{"content":"ha')
    await wire.writer.drain()


@mode
async def cutevent(wire: Wire, script: Script, call: Call) -> None:
    """Ends the body inside an event, which is valid HTTP."""
    await wire.begin(chunked=False)
    await say(wire, script, call, script.turn)
    await wire.raw(b'data: {"choices":[{"delta":{"content":"ha')


@mode
async def rst(wire: Wire, script: Script, call: Call) -> None:
    """Resets the connection mid-answer."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await asyncio.sleep(0.02)  # otherwise the reset would discard tokens in transit
    wire.reset()


@mode
async def drop(wire: Wire, _script: Script, _call: Call) -> None:
    """Resets the connection before the first byte."""
    wire.reset()


@mode
async def badjson(wire: Wire, script: Script, call: Call) -> None:
    """Sends a complete event with truncated JSON."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await wire.raw(b'data: {"choices":[{"delta":\n\n')
    await stop(wire, script, call)


@mode
async def badutf(wire: Wire, script: Script, call: Call) -> None:
    """Sends invalid UTF-8."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await wire.raw(b'data: {"choices":[{"delta":{"content":"\xff\xfe"}}]}\n\n')
    await stop(wire, script, call)


@mode
async def shape(wire: Wire, script: Script, call: Call) -> None:
    """Sends JSON of an unexpected shape, with an event name that the SDK ignores."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await wire.raw(b'event: error\ndata: {"message": "overloaded"}\n\n')
    await stop(wire, script, call)


@mode
async def errorobject(wire: Wire, script: Script, call: Call) -> None:
    """Sends an error object in the middle of the stream."""
    await wire.begin()
    await say(wire, script, call, script.turn)
    await wire.raw(b"data: %b\n\n" % error(call).encode())
    await wire.end()


@mode
async def resetbeforeusage(wire: Wire, script: Script, call: Call) -> None:
    """Sends the finish reason, then resets the connection before the usage.

    The answer is complete.
    """
    await wire.begin()
    await say(wire, script, call)
    await wire.event(chunk(reason="stop"))
    await asyncio.sleep(0.05)  # otherwise the reset would discard the finish reason in transit
    wire.reset()


@mode
async def thinking(wire: Wire, script: Script, call: Call) -> None:
    """Sends reasoning for longer than the stall timeout, then an answer."""
    await wire.begin()
    for _ in range(script.tokens):
        await wire.event(chunk({"reasoning_content": "hm "}))
        await asyncio.sleep(script.pace)
    script.pace = 0
    await say(wire, script, call)
    await stop(wire, script, call)
