"""Calls a model at its endpoint, and reads the stream of its answer.

`client` makes the call with the openai package, but this module reads the stream as bytes. Reading
it through the package's event objects takes sixteen times as long and hides errors: a truncated
stream looks complete, an incomplete event disappears silently, and an HTML page with status 200
looks like an empty answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote

from jobs.config.models import RESPONSES
from runtime.deadline import Deadline
from worker.spans import note_answer_id

from .background import BackgroundAnswer
from .chat.chunks import ChatChunkReader
from .client import ModelClient, StatusError, iter_body
from .deltas import Answer, Delta, ErrorInStream, Malformed, Stopped, Text, WholeAnswer, parse
from .model_errors import Broken, NoSuchRoute, NotKept, translated
from .payload import is_done
from .responses.events import Position, ResponsesEventReader, compacted, counted
from .sse import EventTooLarge, Splitter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    import aiohttp

    from worker.config import Endpoint

    from .credentials import Credential

# After the stop reason, the worker waits this long for the usage, which providers send last.
USAGE_SECONDS: Final = 5.0
# After the last event, the worker waits this long for the end of the body, which usually arrives at
# once.
DRAIN_SECONDS: Final = 0.1
# The limit on the time to cancel an answer that the endpoint generates in the background.
CANCEL_SECONDS: Final = 5.0
# The content types of web pages, for example from a captive portal or a wrong address. For all
# other types, the content of the body decides whether it is an answer.
_PAGES: Final = frozenset({"text/html", "application/xhtml+xml"})
# The statuses with which endpoints refuse a route that they do not have.
_NO_ROUTE: Final = (404, 405, 501)
# The statuses with which endpoints refuse to send an answer again that they do not have.
_NOT_KEPT: Final = (400, 404, 405, 409, 410, 422, 501)
# The factor and the additional bytes for the size limit of an event. One event may contain a whole
# answer, and JSON may encode one byte of text as six bytes.
_ESCAPED: Final = 6
_ENVELOPE: Final = 65_536


_Reader = ChatChunkReader | ResponsesEventReader


class UpstreamModel:
    """One model at its endpoint.

    Use it as an async context manager, in the event loop that makes the calls.
    """

    def __init__(self, endpoint: Endpoint, max_output_bytes: int) -> None:
        self._endpoint = endpoint
        self._max_output_bytes = max_output_bytes
        self._client = ModelClient(endpoint)

    @property
    def credential(self) -> Credential:
        """The source of the endpoint's API key."""
        return self._client.credential

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.__aexit__()

    def answer(
        self, arguments: dict[str, Any], until: float
    ) -> AbstractAsyncContextManager[Answer]:
        """Returns a context manager that calls the model with these arguments for an answer.

        On exit the connection is closed. `until` is the deadline of the whole attempt, as a time of
        the event loop. If the model's own time limit ends earlier, that limit applies.

        Raises: ModelError, which the methods of the answer raise too.
        """
        send = partial(self._client.send, arguments)
        return self._stream(send, self._reader(arguments), until)

    @contextlib.asynccontextmanager
    async def background_answer(
        self,
        given: dict[str, Any] | Position,
        until: float,
        on_accepted: Callable[[Position], None] | None = None,
    ) -> AsyncIterator[BackgroundAnswer]:
        """Yields an answer that the endpoint generates in the background.

        `given` are the arguments of a new call, or the position after which to read an answer that
        an earlier call began. `until` is as for `answer`. `on_accepted` is called with the first
        position, as soon as the endpoint has accepted the request.

        Raises: ModelError, which the methods of the answer raise too; NotKept if the endpoint no
        longer has the answer.
        """
        start, arguments = (given, None) if isinstance(given, Position) else (None, given)
        reader = ResponsesEventReader(start, on_accepted)

        def connect(after: Position | None) -> AbstractAsyncContextManager[_Stream]:
            begin = partial(self._client.send, arguments)
            send = begin if after is None else partial(self._read_again, after)
            return self._stream(send, reader, until, begun=after is not None)

        async with contextlib.aclosing(BackgroundAnswer(connect, reader, until)) as answer:
            await answer.connect()
            yield answer

    async def _read_again(self, after: Position) -> aiohttp.ClientResponse:
        query = f"stream=true&starting_after={after.sequence_number}"
        try:
            return await self._client.send(None, f"/{quote(after.upstream_id, safe='')}", query)
        except StatusError as error:
            if error.status in _NOT_KEPT:
                raise NotKept(f"StatusError {error.status}") from None
            raise

    async def cancel(self, upstream_id: str) -> None:
        """Ends the generation of an answer in the background. Errors are ignored.

        The endpoint may have ended the answer, or may be unavailable.
        """
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CANCEL_SECONDS):
                below = f"/{quote(upstream_id, safe='')}/cancel"
                async with await self._client.send({}, below):
                    pass

    @contextlib.asynccontextmanager
    async def _stream(
        self,
        send: Callable[[], Awaitable[aiohttp.ClientResponse]],
        reader: _Reader,
        until: float,
        *,
        begun: bool = False,
    ) -> AsyncIterator[_Stream]:
        """Yields the stream of an answer, which another stream has `begun` if that is True."""
        loop = asyncio.get_running_loop()
        total_at = min(loop.time() + self._endpoint.timeout_seconds, until)
        first_at = min(loop.time() + self._endpoint.first_token_seconds, total_at)
        try:
            async with asyncio.timeout_at(first_at):
                response = await send()
        except Exception as error:  # noqa: BLE001 - every error becomes a ModelError
            raise translated(error, late="upstream_timeout") from None
        async with response:
            media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if media_type in _PAGES:
                raise Broken("upstream_malformed", f"unsupported content type {media_type}")
            splitter = Splitter(self._max_output_bytes * _ESCAPED + _ENVELOPE)
            silence = self._endpoint.stall_timeout_seconds
            raw = iter_body(response)
            with contextlib.closing(
                _Stream(
                    raw,
                    response.content.at_eof,
                    splitter,
                    reader,
                    silence,
                    first_at,
                    total_at,
                    begun=begun,
                )
            ) as stream:
                try:
                    yield stream
                finally:
                    note_answer_id(reader.answer_id)

    async def compact(self, arguments: dict[str, Any], until: float) -> WholeAnswer:
        """Calls `POST /responses/compact` of an endpoint, which must have the Responses API.

        Raises: NoSuchRoute if the endpoint has no `POST /responses/compact`; ModelError.
        """
        return await self._whole(arguments, "/compact", until, compacted)

    async def count(self, arguments: dict[str, Any], until: float) -> WholeAnswer:
        """Calls `POST /responses/input_tokens` of an endpoint, which must have the Responses API.

        Raises: NoSuchRoute if the endpoint has no `POST /responses/input_tokens`; ModelError.
        """
        return await self._whole(arguments, "/input_tokens", until, counted)

    async def _whole(
        self,
        arguments: dict[str, Any],
        below: str,
        until: float,
        read: Callable[[Any], list[Delta]],
    ) -> WholeAnswer:
        limit = self._max_output_bytes * _ESCAPED + _ENVELOPE
        total_at = asyncio.get_running_loop().time() + self._endpoint.timeout_seconds
        try:
            async with asyncio.timeout_at(min(total_at, until)):
                async with await self._client.send(arguments, below) as response:
                    body = await _whole(iter_body(response), limit)
                return WholeAnswer(read(parse(body)))
        except StatusError as error:
            if error.status in _NO_ROUTE:
                raise NoSuchRoute from None
            raise translated(error, late="upstream_over_time") from None
        except Exception as error:  # noqa: BLE001 - every error becomes a ModelError
            raise translated(error, late="upstream_over_time") from None

    def _reader(self, arguments: dict[str, Any]) -> _Reader:
        if self._endpoint.api == RESPONSES:
            return ResponsesEventReader()
        tools = arguments.get("tools") or ()
        return ChatChunkReader(frozenset(tool["function"]["name"] for tool in tools))


class _Stream:
    """Reads pieces of an answer from a body, with a deadline for each wait.

    There are deadlines for the first piece, for stalls between two pieces, and for the whole
    answer. Only a piece restarts the stall timeout; comments and empty deltas do not. The timeout
    runs only during `next`, so a pause of the caller does not count as a stall of the provider.
    """

    def __init__(
        self,
        raw: AsyncIterator[bytes],
        is_read: Callable[[], bool],
        splitter: Splitter,
        reader: _Reader,
        silence: float,
        first_at: float,
        total_at: float,
        *,
        begun: bool,
    ) -> None:
        self._raw = raw
        self._is_read = is_read  # returns True after the end of the body
        self._silence = silence
        self._splitter = splitter
        self._reader = reader
        self._ready: deque[bytes] = deque()
        self._first_at: float | None = first_at
        self._total_at = total_at
        self._begun = begun  # True if the endpoint has begun the answer
        self._stopped = False
        self._ended = False  # True if the body has ended
        self._over = False
        self._broken: Exception | None = None
        self._loop = asyncio.get_running_loop()
        self._deadline = Deadline()

    def close(self) -> None:
        """Cancels the timer of the deadlines. Afterwards `next` must not be called."""
        self._deadline.close()

    async def next(self) -> list[Delta]:
        now = self._loop.time()
        if self._stopped:
            deadline, late = now + USAGE_SECONDS, "upstream_stalled"
        elif self._first_at is not None:
            deadline, late = self._first_at, "upstream_timeout"
        else:
            deadline, late = now + self._silence, "upstream_stalled"
        if self._total_at <= deadline:
            deadline, late = self._total_at, "upstream_over_time"
        try:
            with self._deadline.at(deadline):
                pieces = await self._read()
        except Exception as error:  # noqa: BLE001 - every error becomes a ModelError
            if self._stopped and not isinstance(error, Malformed):
                return []  # the answer is complete and lacks only its usage
            raise translated(error, late=late, begun=self._begun) from None
        if pieces:
            self._first_at, self._begun = None, True
        elif not self._stopped:
            raise Broken("upstream_truncated", "the stream ended without a finish reason")
        return pieces

    async def _read(self) -> list[Delta]:
        while not self._over or self._broken is not None:
            pieces: list[Delta] = []
            try:
                self._read_ready(pieces)
                self._over = self._over or (self._ended and not self._ready)
                if self._over and self._broken is None:
                    pieces += self._reader.end()
            except (Malformed, ErrorInStream) as error:
                self._ready.clear()
                # The pieces before the error are returned first. The next call raises the error.
                self._broken = error
            self._stopped = self._stopped or any(isinstance(piece, Stopped) for piece in pieces)
            if pieces:
                return pieces
            if self._broken is not None:
                try:
                    raise self._broken
                finally:
                    # Breaks a reference cycle: the traceback of the error refers to this frame.
                    self._broken = None
            if not self._over:
                await self._receive()
        await self._drain()
        return []

    async def _receive(self) -> None:
        """Waits for more bytes of the body, and adds the payloads of their events."""
        chunk = await anext(self._raw, None)
        if chunk is None:
            self._ended = True
            # If the body ends without an empty line, its last event is used only if it is complete.
            # A truncated event is dropped.
            lines = [line for rest in self._splitter.rest() for line in _lines(rest)]
            self._ready.extend(filter(_is_whole, lines))
        else:
            self._ready.extend(self._splitter.feed(chunk))

    def _read_ready(self, pieces: list[Delta]) -> None:
        """Adds the pieces of the available payloads, and joins consecutive texts to one piece."""
        while self._ready and not self._over:
            if texts := self._reader.fast_texts(self._ready):
                pieces.append(Text("".join(texts)))
            elif is_done(payload := self._ready.popleft()):
                self._over = True
                if isinstance(self._reader, ChatChunkReader):
                    pieces += self._reader.done()
            elif len(lines := _lines(payload)) > 1:
                self._ready.extendleft(reversed(lines))
            else:
                pieces += self._reader.read(payload)

    async def _drain(self) -> None:
        """Reads the rest of the body, so that the connection can be reused."""
        if self._is_read():
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while await anext(self._raw, None) is not None:
                    pass


async def _whole(raw: AsyncIterator[bytes], limit: int) -> bytes:
    """Returns a whole body. Raises: EventTooLarge."""
    body = bytearray()
    async for chunk in raw:
        body += chunk
        if len(body) > limit:
            raise EventTooLarge(limit)
    return bytes(body)


def _lines(payload: bytes) -> list[bytes]:
    """Divides a payload into its lines, if each line is a separate event.

    Some servers omit the empty lines between events.
    """
    return payload.split(b"\n") if b"\n" in payload and not _is_whole(payload) else [payload]


def _is_whole(payload: bytes) -> bool:
    """Returns True if a payload is valid JSON or marks the end of the stream."""
    if is_done(payload):
        return True
    try:
        parse(payload)
    except Malformed:
        return False
    return True
