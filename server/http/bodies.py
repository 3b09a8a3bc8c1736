"""Builds the JSON bodies of responses. Clients that read the same body at once share it.

Large bodies are built one at a time, and only while few bytes wait to be read. This bounds the
memory that any number of clients can occupy by not reading.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from server.api.frames import encode, response_of
from server.api.problem import Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Hashable

    from server.responses import Responses

    # A function that converts a response object. It returns the error to send or None, and the
    # object to send if there is no error.
    Form = Callable[[dict[str, Any]], tuple[Problem | None, dict[str, Any]]]

# No further large body is built while clients have not yet read this many bytes.
MAX_UNREAD_BYTES: Final = 67_108_864
WAIT_SECONDS: Final = 10.0
# The maximum number of concurrent reads. Redis closes a connection with too many bytes of unread
# replies.
MAX_LOOKS: Final = 16


class Body(NamedTuple):
    """The JSON body of an answer; `problem` is set if an error is sent instead."""

    json: bytes
    problem: Problem | None = None
    ended: bool = False
    unstored: bool = False


@dataclass(eq=False, slots=True)
class _Shared:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    readers: int = 0
    body: Body | None = None


class Bodies:
    """The response bodies in use. A body is kept while at least one client is reading it."""

    def __init__(self, responses: Responses) -> None:
        self._responses = responses
        self._shared: dict[Hashable, _Shared] = {}
        self._looks = asyncio.Semaphore(MAX_LOOKS)
        self._turn = asyncio.Lock()
        self._unread = 0
        self._freed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def response(self, viewer: str, response_id: str, form: Form) -> AsyncIterator[Body]:
        """Yields the body of a response in its current state, converted by `form`.

        Raises: Problem, HoldlineError.
        """
        async with self._looks:
            view = await self._responses.look(viewer, response_id)
        small = response_of(view) if len(view.entries) == view.length else None
        key = (form, response_id, view.status, view.attempt, view.length)
        # Frees up to 256 KB, which would otherwise stay in memory as long as a slow client reads.
        del view

        async def make() -> Body:
            found = small or await self._responses.retrieve(viewer, response_id)
            problem, answer = form(found)
            return Body(encode(answer), problem, "holdline" in found, found.get("store") is False)

        async with self.shared(key, make, large=small is None) as body:
            yield body

    @contextlib.asynccontextmanager
    async def shared(
        self, key: Hashable, make: Callable[[], Awaitable[Body]], *, large: bool
    ) -> AsyncIterator[Body]:
        """Yields the body for a key: an existing one, or a new one created by `make`.

        Raises: Problem, and everything that `make` raises.
        """
        shared = self._shared.setdefault(key, _Shared())
        shared.readers += 1
        try:
            async with _deadline(), shared.lock:
                if shared.body is None:
                    shared.body = await self._made(make, large=large)
            yield shared.body
        finally:
            shared.readers -= 1
            if not shared.readers:
                del self._shared[key]
                if shared.body is not None:
                    self._unread -= len(shared.body.json)
                    self._freed.set()

    async def _made(self, make: Callable[[], Awaitable[Body]], *, large: bool) -> Body:
        async with self._turn if large else contextlib.nullcontext():
            while large and self._unread >= MAX_UNREAD_BYTES:
                self._freed.clear()
                await self._freed.wait()
            body = await make()
            self._unread += len(body.json)
            return body


@contextlib.asynccontextmanager
async def _deadline() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            yield
    except TimeoutError:
        message = "Too many large responses are waiting to be read. Try again."
        raise Problem(503, "busy", message, retry_after=1) from None
