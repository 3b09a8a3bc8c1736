"""The tests' model: a real HTTP server for chat completions whose behaviour the prompt selects.

It also serves the Responses API: see `tests.fake_responses`.

Its answers consist of numbered tokens. Words of the form `name=value` in the last user message
control the answer, so a prompt is a script:

    async with FakeModel() as model:
        ...                      # point OPENAI_BASE_URL at model.url
        "mode=slow tokens=50"    # as the prompt

    mode      the behaviour (see `tests/fake_chat.py`); default `ok`
    tokens    how many tokens (20)
    pace      seconds between tokens (0)
    at        the token before which the mode acts (half of the tokens)
    times     how often the mode applies before the answer is `ok` (always); counted per prompt
    after     the Retry-After of an error, in seconds
    say       text to send instead of numbered tokens, `_` for a space, `|` for a new line
    name      the tool to call; see `tests/fake_standard.py` and `tests/fake_tools.py`
    args      its arguments
    rude      how an endpoint fails to continue a text; see `tests/fake_continuing.py`

With `model.key = (header, value)`, calls without that header are rejected and counted in `refused`.
`model.script = {...}` sets defaults for these words. Every call is recorded in `model.calls`. Each
token contains the number of its call (`c3t17 `), so text spliced from two calls can be recognized.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

from tests import (
    fake_chat,
    fake_continuing,  # noqa: F401 - adds its modes to those of fake_chat
    fake_hosted,  # noqa: F401 - adds its mode to those of fake_responses
    fake_responses,
    fake_standard,  # noqa: F401 - adds its modes to those of fake_chat
    fake_tools,  # noqa: F401 - adds its mode to those of fake_responses
)
from tests.fake_background import Background
from tests.fake_wire import Call, Mode, Script, Wire

WORDS = re.compile(r"\b([a-z]+)=(\S+)")
# The error with which OpenAI refuses a request without a message.
EMPTY = {
    "message": "Invalid 'messages': empty array. Expected an array with minimum length 1.",
    "type": "invalid_request_error",
    "param": "messages",
    "code": "empty_array",
}


class FakeModel:
    """The fake endpoint. It is an async context manager, and `url` is its base URL."""

    def __init__(self, **script: Any) -> None:
        self.url = ""
        self.background = Background()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.reset(**script)

    def reset(self, **script: Any) -> None:
        """Forgets all calls and settings, so that the next test finds a new model."""
        self.script = script
        self.calls: list[Call] = []
        self.key: tuple[str, str] | None = None
        self.refused = 0
        # Returns the error with which a call with this body is refused with `status`, or None.
        self.status = 400
        self.refuse: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda _: None
        # The output of `POST /v1/responses/compact`, or None if there is no such route.
        self.compacts: list[dict[str, Any]] | None = None
        # The number that `POST /v1/responses/input_tokens` returns, or None without such a route.
        self.counts: int | None = None
        self.background.cancel()
        self.background = Background()
        # The connections on which answers are being sent.
        self._wires: set[Wire] = set()
        self._asked_count: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self.background.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def open_calls(self) -> list[Call]:
        """The calls that are still being answered."""
        running = {one.call.number for one in self.background.stored.values() if not one.over}
        return [call for call in self.calls if call.ended is None or call.number in running]

    def cut(self, choose: Callable[[list[Wire]], list[Wire]]) -> int:
        """Resets some of the connections on which answers are being sent. Returns their number."""
        chosen = choose(list(self._wires))
        for wire in chosen:
            wire.reset()
        return len(chosen)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            # The client may reset the connection at any time.
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                early: bytes | None = b""
                while early is not None:
                    early = await self._serve_one(early, reader, writer)
        except asyncio.CancelledError:
            pass  # otherwise asyncio's callback on this task would report it
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve_one(
        self, early: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes | None:
        """Answers one request.

        Returns the bytes of the next request that were already read, or None if the connection
        cannot be used again.
        """
        head = (early + await reader.readuntil(b"\r\n\r\n")).decode()
        line, *fields = head.splitlines()
        headers = {k.lower(): v.strip() for k, _, v in (f.partition(":") for f in fields) if k}
        content = await reader.readexactly(int(headers.get("content-length", "0")))
        wire = Wire(writer)
        method, target, _ = line.split(" ", 2)
        passes = line.startswith("POST /v1/responses ")
        if line.startswith("POST /v1/responses/compact "):
            await self._compact(wire, json.loads(content), headers)
            return b""
        if line.startswith("POST /v1/responses/input_tokens "):
            await self._count(wire, json.loads(content), headers)
            return b""
        if target.startswith("/v1/responses/"):
            return await self._retrieve(method, target, wire, reader)
        if not passes and not line.startswith("POST /v1/chat/completions "):
            await wire.plain(200, json.dumps({"object": "list", "data": []}))
            return b""
        if self.key is not None and headers.get(self.key[0]) != self.key[1]:
            self.refused += 1
            await wire.plain(401, json.dumps({"error": {"code": "invalid_api_key"}}))
            return b""
        body = json.loads(content)
        if (error := self.refuse(body)) is not None:
            await wire.plain(self.status, json.dumps({"error": error}))
            return b""
        said = body["input"] if passes else body["messages"]
        if not said:
            await wire.plain(400, json.dumps({"error": EMPTY}))
            return b""
        prompt = next((fake_chat.text_of(m) for m in reversed(said) if m.get("role") == "user"), "")
        script = self._read(prompt)
        call = Call(len(self.calls) + 1, prompt, script.mode, body, headers)
        if not passes and said[-1].get("role") == "assistant":
            call.before = fake_chat.text_of(said[-1])
        self.calls.append(call)
        self._wires.add(wire)
        # The client sends nothing during an answer, so a read returns only when the client
        # disconnects or, just after the end, when it sends its next request.
        next_byte = asyncio.create_task(reader.read(1))
        modes = fake_chat.MODES | fake_responses.MODES if passes else fake_chat.MODES
        if body.get("background"):
            stored = self.background.begin(modes[script.mode], script, call)
            answer = asyncio.create_task(self.background.send(stored, wire))
        else:
            answer = asyncio.create_task(_answer(modes[script.mode], wire, script, call))
        try:
            await asyncio.wait({next_byte, answer}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                call.closed_by_client = time.monotonic()
            elif not answer.cancelled() and answer.exception() is not None:
                if not isinstance(answer.exception(), ConnectionError):
                    answer.result()
                call.closed_by_client = time.monotonic()
        finally:
            call.ended = time.monotonic()
            self._wires.discard(wire)
            for task in (next_byte, answer):
                task.cancel()
            await asyncio.gather(next_byte, answer, return_exceptions=True)
        if not wire.whole or call.closed_by_client is not None:
            return None
        return b"" if next_byte.cancelled() else next_byte.result()

    async def _retrieve(
        self, method: str, target: str, wire: Wire, reader: asyncio.StreamReader
    ) -> bytes | None:
        """Serves a stored response until the client disconnects. Returns what `_serve_one` does."""
        gone = asyncio.create_task(reader.read(1))
        answer = asyncio.create_task(self.background.serve(method, target, wire))
        self._wires.add(wire)
        try:
            await asyncio.wait({gone, answer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._wires.discard(wire)
            for task in (gone, answer):
                task.cancel()
            await asyncio.gather(gone, answer, return_exceptions=True)
        if not wire.whole:
            return None
        return b"" if gone.cancelled() else gone.result()

    async def _compact(self, wire: Wire, body: Any, headers: dict[str, str]) -> None:
        if self.compacts is None:
            await wire.plain(404, json.dumps({"error": {"message": "Not Found"}}))
            return
        if (error := self.refuse(body)) is not None:
            await wire.plain(400, json.dumps({"error": error}))
            return
        self.calls.append(Call(len(self.calls) + 1, "", "compact", body, headers))
        counts = {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}
        answer = {"object": "response.compaction", "output": self.compacts, "usage": counts}
        await wire.plain(200, json.dumps(answer))

    async def _count(self, wire: Wire, body: Any, headers: dict[str, str]) -> None:
        if self.counts is None:
            await wire.plain(404, json.dumps({"error": {"message": "Not Found"}}))
            return
        self.calls.append(Call(len(self.calls) + 1, "", "count", body, headers))
        answer = {"object": "response.input_tokens", "input_tokens": self.counts}
        await wire.plain(200, json.dumps(answer))

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
        self._asked_count[prompt] += 1
        if 0 <= script.times < self._asked_count[prompt]:
            script.mode = "ok"
        return script


async def _answer(run: Mode, wire: Wire, script: Script, call: Call) -> None:
    await run(wire, script, call)
