"""One run of one case: its prompts, its clients, and the recorded calls of the model."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

import aiohttp

from torture.answer import TERMINAL_STATUSES, Answer, Json, output_text, text_of
from torture.client import Client, ConnectionLost, Refused
from torture.errors import Broken, PaidTwice
from torture.model.record import Call
from torture.model.script import Script
from torture.model.server import Model
from torture.model.text import answer, describe
from torture.owner import group_of_port
from torture.system import Member, System
from torture.timeline import Timeline

_POLL_SECONDS: Final = 0.05
# A second call of the model that must not happen would happen within this time.
QUIET_SECONDS: Final = 0.5
_SLOW_BUFFER_BYTES: Final = 8192
_T = TypeVar("_T")


@dataclass(frozen=True)
class Prompt:
    """A prompt that no other case uses, and the script of its answer."""

    text: str
    script: Script

    @property
    def id(self) -> str:
        """The id under which the model records the calls for this prompt."""
        return self.script.id


class Trial:
    """One run of a case. It is an async context manager, which closes the clients."""

    def __init__(self, system: System, model: Model, seed: int, case_id: str) -> None:
        self.system = system
        self.target = system.target
        self.limits = system.target.limits
        # Without the simulated model, the text of an answer and the number of calls are unknown.
        # The cases then only check that several clients see the same answer.
        self.scripted = system.target.simulated
        self.timeline = Timeline()
        self.random = random.Random(f"{seed} {case_id}")  # noqa: S311 - reproducible, not secret
        self.prompts: list[Prompt] = []
        self._model = model
        self._clients = 0
        self._stack = AsyncExitStack()
        self._http: aiohttp.ClientSession
        self._slow_http: aiohttp.ClientSession
        system.timeline = self.timeline
        model.records.watch = self._note_call

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=None)
        # Each request has a connection of its own, so that a dropped one disturbs no other.
        for factory in (None, _small_socket):
            connector = aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=factory)
            session = aiohttp.ClientSession(
                connector=connector, timeout=timeout, read_bufsize=2**14
            )
            await self._stack.enter_async_context(session)
            if factory is None:
                self._http = session
            else:
                self._slow_http = session
        return self

    async def __aexit__(self, *_: object) -> None:
        for prompt in self.prompts:
            self._model.records.release(prompt.id)
        await self._stack.aclose()

    # Prompts and clients

    def prompt(self, **script: Any) -> Prompt:
        """Returns a new prompt. The arguments are those of `Script`."""
        chosen = Script(id=f"{self.random.getrandbits(48):012x}", **script)
        if self.scripted:
            text = f"Write {chosen.pieces} words. {chosen.write()}"
        else:
            # A real model answers this in a few seconds.
            text = f"Write a story of 200 words about the number {chosen.id}."
        prompt = Prompt(text, chosen)
        self.prompts.append(prompt)
        return prompt

    def key(self) -> str:
        """Returns a new idempotency key."""
        return f"key-{self.random.getrandbits(96):024x}"

    def client(self, server: int = 0, *, slow: bool = False) -> Client:
        """Returns a new client of a server, counted from 0 and modulo the number of servers.

        A slow client has a small buffer for unread data.
        """
        self._clients += 1
        urls = self.system.urls
        fill = self.system.placeholders.fill
        headers = {name: fill(value) for name, value in self.target.headers.items()}
        if self.target.api_key:
            headers["Authorization"] = f"Bearer {fill(self.target.api_key)}"
        url = urls[server % len(urls)]
        http = self._slow_http if slow else self._http
        return Client(
            f"client {self._clients}",
            url,
            headers,
            self.timeline,
            http,
            lambda stream: self._stack.callback(stream.drop),
        )

    def body(self, prompt: Prompt, **fields: Any) -> Json:
        """Returns a request for a response."""
        return {"model": self.target.model, "input": prompt.text, **fields}

    def member(self, role: str, number: int = 0) -> Member:
        """Returns a process with a role."""
        return self.system.with_role(role)[number]

    # The model

    def calls(self, prompt: Prompt) -> list[Call]:
        """Returns the model's calls for a prompt."""
        return self._model.records.calls(prompt.id)

    def release(self, prompt: Prompt) -> None:
        """Lets the held calls for a prompt continue."""
        self._model.records.release(prompt.id)

    async def called(self, prompt: Prompt, pieces: int = 0, count: int = 1) -> Call:
        """Waits until the model has been called, and has sent some pieces in the latest call."""

        def found() -> Call | None:
            calls = self.calls(prompt)
            ready = len(calls) >= count and calls[-1].pieces >= pieces
            return calls[-1] if ready else None

        seconds = self.limits.answer_seconds if count == 1 else self.limits.recovery_seconds
        return await self.wait(found, seconds, f"the model was not called {count} times")

    def check_calls(self, prompt: Prompt, most: int = 1) -> None:
        """Checks that a prompt has cost no more calls.

        Raises:
            PaidTwice: it has.
        """
        calls = len(self.calls(prompt))
        if calls > most:
            raise PaidTwice(f"the model was called {calls} times for one prompt, not {most}")

    async def check_calls_later(self, prompt: Prompt, most: int = 1) -> None:
        """Checks the number of calls now and after a while."""
        self.check_calls(prompt, most)
        if self.scripted:
            await asyncio.sleep(QUIET_SECONDS)
        self.check_calls(prompt, most)

    def check_text(self, prompt: Prompt, text: str) -> None:
        """Checks that a text is the whole answer of one call.

        Raises:
            Broken: it is not. The message names the missing, repeated or mixed pieces.
        """
        if not self.scripted:
            if not text:
                raise Broken("the answer is empty")
            return
        script = prompt.script
        for call in range(1, len(self.calls(prompt)) + 1):
            if text == answer(self._model.seed, script.id, call, script.pieces, script.size):
                return
        raise Broken(f"the text is not the model's: {describe(text, script.pieces)}")

    def check_prefix(self, prompt: Prompt, text: str) -> None:
        """Checks that a text is the beginning of the answer of one call.

        Raises:
            Broken: it is not.
        """
        script = prompt.script
        for call in range(1, len(self.calls(prompt)) + 1):
            whole = answer(self._model.seed, script.id, call, script.pieces, script.size)
            if whole.startswith(text):
                return
        raise Broken("the text is not the beginning of an answer of the model")

    def check_completed(self, prompt: Prompt, response: Json) -> None:
        """Checks that a response is completed, with the whole answer of one call."""
        status = response.get("status")
        if status != "completed":
            raise Broken(f"the status is {status}, not completed; error: {response.get('error')}")
        self.check_text(prompt, output_text(response))

    # Waiting

    async def wait(self, condition: Callable[[], _T | None], seconds: float, complaint: str) -> _T:
        """Polls a condition and returns its first true value.

        Raises:
            Broken: it does not become true in time.
        """
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise Broken(f"{complaint} within {seconds:g} s")
            await asyncio.sleep(_POLL_SECONDS)
        return found

    async def within(self, awaitable: Awaitable[_T], complaint: str, seconds: float = 0) -> _T:
        """Waits for a result, by default as long as an answer or a recovery may take.

        Raises:
            Broken: the result does not come in time.
        """
        seconds = seconds or self.limits.answer_seconds
        try:
            async with asyncio.timeout(seconds):
                return await awaitable
        except TimeoutError:
            raise Broken(f"{complaint} within {seconds:g} s") from None

    async def poll(self, response_id: str, server: int = 0, seconds: float = 0) -> Json:
        """Fetches a response until it has ended. Tries another server if a connection breaks.

        Raises:
            Broken: it has not ended in time, or the server does not know it.
        """
        seconds = seconds or self.limits.answer_seconds
        deadline = time.monotonic() + seconds
        seen = ""
        while time.monotonic() < deadline:
            client = self.client(server)
            client.who = "client"
            try:
                reply = await client.retrieve(response_id)
            except ConnectionLost as error:
                server, seen = server + 1, str(error)
            else:
                if reply.status < 500 and reply.status != 429:
                    response = reply.success()
                    seen = text_of(response, "status")
                    if seen in TERMINAL_STATUSES:
                        return response
                else:
                    seen = f"{reply.status} {reply.text[:100]}"
            await asyncio.sleep(_POLL_SECONDS)
        raise Broken(f"the response has not ended within {seconds:g} s; last: {seen}")

    async def follow(
        self, answer: Answer, server: int = 0, seconds: float = 0, http: Client | None = None
    ) -> Json:
        """Resumes a stream until its response has ended, as a client that reconnects does.

        Returns the last response object. Each event may arrive once only, in order.

        Raises:
            Broken: it has not ended in time, or an event is lost or repeated.
        """
        seconds = seconds or self.limits.recovery_seconds
        deadline = time.monotonic() + seconds
        seen = "nothing"
        while not answer.ended:
            client = http or self.client(server)
            try:
                async with asyncio.timeout_at(_loop_time(deadline)):
                    async with await client.resume(answer) as stream:
                        await stream.rest()
                seen = f"a stream that ended after event {answer.cursor}"
            except TimeoutError:
                seen = f"a stream that stays open after event {answer.cursor}"
            except ConnectionLost as error:
                seen = str(error)
            except Refused as error:
                if error.status < 500 and error.status != 429:
                    raise
                seen = str(error)
            if time.monotonic() > deadline:
                raise Broken(f"the stream has not ended within {seconds:g} s; last: {seen}")
            server += 1
            await asyncio.sleep(_POLL_SECONDS)
        return answer.final

    async def caller(self, call: Call) -> Member:
        """Returns the process that makes a call of the model: one with the role worker.

        If the operating system does not show the process, it is the first one.
        """
        workers = self.system.with_role("worker")
        group = await asyncio.to_thread(group_of_port, call.port)
        return next((one for one in workers if one.process.group == group), workers[0])

    def _note_call(self, call: Call, text: str) -> None:
        self.timeline.add(f"model call {call.number}", "model", text)


def _small_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Returns a socket with a small receive buffer."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SLOW_BUFFER_BYTES)
    made.setblocking(False)
    return made


def _loop_time(deadline: float) -> float:
    """Converts a time of the monotonic clock to the clock of the event loop."""
    return asyncio.get_running_loop().time() + deadline - time.monotonic()
