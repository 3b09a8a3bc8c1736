"""A client of the Responses API over HTTP. It records its requests and events in the timeline."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import aiohttp

from torture.answer import Answer, Json, piece_of, summary
from torture.errors import Broken
from torture.json_text import parsed
from torture.sse import EventParser
from torture.timeline import PIECE, Timeline

DONE: Final = "[DONE]"
# A request that gets no answer for this long has failed; streams have the deadlines of their cases.
_REQUEST_SECONDS: Final = 60
_READ_BYTES: Final = 2**16


class ConnectionLost(Broken):
    """A connection was refused or broke."""


@dataclass(frozen=True)
class Reply:
    """A reply with one body."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def ok(self) -> bool:
        """True if the status is a success."""
        return 200 <= self.status < 300

    @property
    def body(self) -> Json:
        """The JSON object of the body.

        Raises:
            Broken: the body is not a JSON object.
        """
        try:
            found = parsed(self.text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Broken(f"status {self.status} with a body that is no object: {self.text[:100]!r}")
        return found

    def success(self) -> Json:
        """Returns the body of a reply that must be a success.

        Raises:
            Broken: it is not.
        """
        if not self.ok:
            raise Broken(f"the request was refused with {self.status}: {self.text[:300]}")
        return self.body


class EventStream:
    """An open event stream. Iterating yields its events; `answer` checks them."""

    def __init__(
        self, who: str, timeline: Timeline, reply: aiohttp.ClientResponse, answer: Answer
    ) -> None:
        self.answer = answer
        self.done = False
        self.errors: list[Json] = []
        self._who = who
        self._timeline = timeline
        self._reply = reply
        self._parser = EventParser()
        self._events = self._read()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None
    ) -> None:
        self.drop()

    def __aiter__(self) -> AsyncIterator[Json]:
        return self._events

    async def rest(self) -> Answer:
        """Reads to the end of the stream."""
        async for _ in self:
            pass
        return self.answer

    async def until(self, kind: str, count: int = 1) -> Answer:
        """Reads until an event of a kind has arrived so many times, or to the end."""
        async for event in self:
            if event["type"] == kind:
                count -= 1
                if not count:
                    break
        return self.answer

    def drop(self) -> None:
        """Closes the connection at once, as a client that vanishes does."""
        if not self._reply.closed:
            if not self.done:
                self._timeline.add(self._who, "lost", "the client drops its connection")
            self._reply.close()

    async def _read(self) -> AsyncIterator[Json]:
        try:
            async for content in self._reply.content.iter_chunked(_READ_BYTES):
                for data in self._parser.feed(content):
                    if data == DONE:
                        self.done = True
                        continue
                    yield self._event(data)
        except (aiohttp.ClientError, ConnectionError) as error:
            self._timeline.add(self._who, "lost", f"the connection broke: {error!r}")
        except ValueError as error:
            raise Broken(f"the stream cannot be read: {error}") from None
        else:
            self._timeline.add(self._who, "arrived", "the end of the stream")

    def _event(self, data: str) -> Json:
        event = parsed(data)
        if not isinstance(event, dict) or not isinstance(event.get("type"), str):
            raise Broken(f"an event has no type: {data[:100]!r}")
        delta = event["type"] == "response.output_text.delta"
        shown = f"{PIECE}{piece_of(event)}" if delta else summary(event)
        self._timeline.add(self._who, "arrived", shown)
        if event["type"] == "error":
            self.errors.append(event)
        self.answer.add(event)
        return event


class Client:
    """A client of one server."""

    def __init__(
        self,
        who: str,
        url: str,
        headers: dict[str, str],
        timeline: Timeline,
        http: aiohttp.ClientSession,
        opened: Callable[[EventStream], object] = lambda _stream: None,
    ) -> None:
        self.who = who
        self.url = url
        self.headers = headers
        self.timeline = timeline
        self.http = http
        # Receives each stream, so that it can be closed after the case.
        self._opened = opened

    async def create(self, body: Json, key: str = "", **headers: str) -> Reply:
        """Sends a prompt and returns the reply, which is not a stream."""
        return await self.request("POST", "/responses", body, self._keyed(key, headers))

    async def stream(self, body: Json, key: str = "", **headers: str) -> EventStream:
        """Sends a prompt and returns its open stream.

        Raises:
            Broken: the request was refused.
        """
        body = {**body, "stream": True}
        return await self.open("POST", "/responses", body, self._keyed(key, headers))

    async def retrieve(self, response_id: str) -> Reply:
        """Fetches a response."""
        return await self.request("GET", f"/responses/{response_id}")

    async def resume(self, answer: Answer) -> EventStream:
        """Continues an answer after its last event, on a new stream.

        Raises:
            Broken: an event has no sequence number, or the request was refused.
        """
        answer.check_resumable()
        cursor = "" if answer.cursor < 0 else f"&starting_after={answer.cursor}"
        path = f"/responses/{answer.response_id}?stream=true{cursor}"
        return await self.open("GET", path, answer=answer)

    async def cancel(self, response_id: str) -> Reply:
        """Cancels a response."""
        return await self.request("POST", f"/responses/{response_id}/cancel")

    async def request(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """Sends a request and reads the reply.

        Raises:
            ConnectionLost: the connection was refused or broke.
        """
        self._note(method, path, body)
        try:
            async with (
                asyncio.timeout(_REQUEST_SECONDS),
                self.http.request(
                    method, self.url + path, json=body, headers={**self.headers, **(headers or {})}
                ) as found,
            ):
                text = await found.text(errors="replace")
        except (aiohttp.ClientError, ConnectionError) as error:
            self.timeline.add(self.who, "lost", f"{method} {path}: {error!r}")
            raise ConnectionLost(f"{method} {path}: {error!r}") from None
        except TimeoutError:
            raise Broken(f"{method} {path}: no answer within {_REQUEST_SECONDS} s") from None
        self.timeline.add(self.who, "arrived", f"{found.status} {text}")
        return Reply(found.status, {k.lower(): v for k, v in found.headers.items()}, text)

    async def open(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        headers: dict[str, str] | None = None,
        answer: Answer | None = None,
    ) -> EventStream:
        """Sends a request whose reply must be an event stream.

        Raises:
            ConnectionLost: the connection was refused or broke.
            Broken: the reply is not a stream.
        """
        self._note(method, path, body)
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                reply = await self.http.request(
                    method,
                    self.url + path,
                    json=body,
                    headers={
                        **self.headers,
                        "Accept": "text/event-stream",
                        **(headers or {}),
                    },
                )
        except (aiohttp.ClientError, ConnectionError) as error:
            self.timeline.add(self.who, "lost", f"{method} {path}: {error!r}")
            raise ConnectionLost(f"{method} {path}: {error!r}") from None
        except TimeoutError:
            raise Broken(f"{method} {path}: no answer within {_REQUEST_SECONDS} s") from None
        if reply.status != 200 or reply.content_type != "text/event-stream":
            text = (await reply.text(errors="replace"))[:300]
            self.timeline.add(self.who, "arrived", f"{reply.status} {text}")
            raise Refused(reply.status, reply.content_type, text)
        self.timeline.add(self.who, "arrived", f"{reply.status} {reply.content_type}")
        stream = EventStream(self.who, self.timeline, reply, answer or Answer())
        self._opened(stream)
        return stream

    def _note(self, method: str, path: str, body: Json | None) -> None:
        shown = "" if body is None else " " + json.dumps(body, ensure_ascii=False)
        self.timeline.add(self.who, "sent", f"{method} {path}{shown}")

    @staticmethod
    def _keyed(key: str, headers: dict[str, str]) -> dict[str, str]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return {**named, "Idempotency-Key": key} if key else named


class Refused(Broken):
    """A request for a stream got another reply."""

    def __init__(self, status: int, kind: str, text: str) -> None:
        super().__init__(f"not a stream, but status {status} with {kind}: {text}")
        self.status = status
        self.text = text
