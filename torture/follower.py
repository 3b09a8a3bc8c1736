"""A client that gets the answer to a prompt in spite of faults: it streams, or it polls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from torture.answer import Answer, Json, text_of
from torture.client import ConnectionLost, EventStream
from torture.trial import Prompt, Trial

STREAM: Final = "stream"
POLL: Final = "poll"
# The routes that each way needs.
NEEDS: Final = {STREAM: ("stream", "background", "resume"), POLL: ("background",)}
# The names of the ways in claims.
SHOWN: Final = {STREAM: "a client that streams", POLL: "a client that polls"}


class Follower:
    """A client that starts a response in the background and gets its answer.

    With the way `stream`, it resumes the stream after a lost connection, on the next server. With
    the way `poll`, it fetches the response until it has ended.
    """

    def __init__(self, trial: Trial, prompt: Prompt, way: str, server: int = 0) -> None:
        self.prompt = prompt
        self.answer = Answer()
        self._trial = trial
        self._way = way
        self._server = server
        self._stream: EventStream | None = None
        self._reading: asyncio.Task[Answer] | None = None

    @property
    def response_id(self) -> str:
        """The id of the response."""
        return self.answer.response_id

    async def start(self, key: str = "", **fields: Any) -> str:
        """Sends the prompt, and returns the id of its response."""
        trial, client = self._trial, self._trial.client(self._server)
        body = trial.body(self.prompt, background=True, **fields)
        if self._way == POLL:
            reply = (await client.create(body, key)).success()
            self.answer.response_id = text_of(reply, "id")
        else:
            self._stream = await client.stream(body, key)
            self.answer = self._stream.answer
            await trial.within(self._stream.until("response.created"), "no response.created came")
            # Reads on at once, as a client does. A fault must find the client reading.
            self._reading = asyncio.create_task(self._stream.rest())
        return self.response_id

    async def finish(self, seconds: float = 0) -> Json:
        """Returns the response when it has ended.

        Raises:
            Broken: it has not ended in time, or an event is lost or repeated.
        """
        trial = self._trial
        seconds = seconds or trial.limits.recovery_seconds
        if self._stream is None or self._reading is None:
            return await trial.poll(self.response_id, self._server, seconds)
        try:
            async with asyncio.timeout(seconds):
                await self._reading
        except TimeoutError:
            trial.timeline.add("client", "lost", "the client gives up the open stream")
        except ConnectionLost:
            pass  # the client resumes below
        finally:
            self._stream.drop()
        return await trial.follow(self.answer, self._server + 1, seconds)

    async def close(self) -> None:
        """Drops the connection."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._stream is not None:
            self._stream.drop()


@asynccontextmanager
async def streams(
    trial: Trial, prompts: list[Prompt]
) -> AsyncIterator[Callable[[], Awaitable[list[Json]]]]:
    """Streams an answer to each prompt, on the servers in turn, inside this context.

    Yields a function that returns the responses, in the order of the prompts, when all have ended.
    """
    followers = [Follower(trial, one, STREAM, number) for number, one in enumerate(prompts)]

    async def finish() -> list[Json]:
        seconds = trial.limits.answer_seconds + trial.limits.recovery_seconds
        return await asyncio.gather(*(one.finish(seconds) for one in followers))

    try:
        await asyncio.gather(*(one.start() for one in followers))
        yield finish
    finally:
        for follower in followers:
            await follower.close()
