"""Reads an answer that the endpoint generates in the background.

If the connection breaks, the worker reconnects and reads the events after the last one that it has
read, without another call of the model.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import structlog

from .model_errors import CONTINUABLE, AnswerLost, Broken, Busy, NotKept, Refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from .deltas import Answer, Delta
    from .responses.events import Position, ResponsesEventReader

log = structlog.get_logger()

# The delays before each reconnect, in seconds. After an event, the first delay is next.
DELAYS: Final = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)


class BackgroundAnswer:
    """An answer that the endpoint generates in the background.

    `connect` opens the stream of the answer after a position, or begins the answer if there is
    none. `reader` reads all these streams. Call `connect` first, and `aclose` at the end.
    """

    def __init__(
        self,
        connect: Callable[[Position | None], AbstractAsyncContextManager[Answer]],
        reader: ResponsesEventReader,
        until: float,
    ) -> None:
        self._connect = connect
        self._reader = reader
        self._until = until
        self._stack = contextlib.AsyncExitStack()
        self._answer: Answer | None = None
        self._failures = 0
        # True after a connection was lost, so that the rest comes from another stream.
        self.reread = False
        # True until the first pieces, if an earlier call began the answer.
        self._unproven = reader.position is not None

    @property
    def position(self) -> Position | None:
        """The position after the pieces that `next` has returned, or None if it is unknown."""
        return self._reader.position if self._reader.has_returned_all else None

    @property
    def unfinished_id(self) -> str | None:
        """The endpoint's id of the answer, or None if the endpoint has ended it."""
        position = self._reader.position
        return None if position is None or self._reader.ended else position.upstream_id

    async def connect(self) -> None:
        """Opens the first stream. Raises: ModelError."""
        if self._unproven:
            return  # the first call of `next` repeats a failure
        self._answer = await self._stack.enter_async_context(self._connect(None))

    async def next(self) -> list[Delta]:
        """Returns the next pieces, or an empty list after the last piece.

        Raises: NotKept if the endpoint no longer has an answer that an earlier call began;
        ModelError, which is `resumable` if the endpoint may still have the answer.
        """
        while True:
            before = self._reader.position
            try:
                answer = self._answer or await self._reconnect(before)
                pieces = await answer.next()
            except (Broken, Busy) as error:
                await self._failed(before, error)
                continue
            if pieces:
                self._failures, self._unproven = 0, False
            return pieces

    async def aclose(self) -> None:
        """Closes the current stream. The endpoint continues to generate the answer."""
        self._answer = None
        await self._stack.aclose()

    async def _reconnect(self, position: Position | None) -> Answer:
        self._reader.continues()
        self.reread = True
        try:
            self._answer = answer = await self._stack.enter_async_context(self._connect(position))
        except Refused as error:
            raise NotKept(error.detail) from None
        return answer

    async def _failed(self, before: Position | None, error: Broken | Busy) -> None:
        """Waits before the next reconnect. Raises the error if no reconnect can help."""
        await self.aclose()
        position = self._reader.position
        if position != before:
            self._failures = 0  # an event was read, although it had no output
        delay = DELAYS[self._failures] if self._failures < len(DELAYS) else None
        final = isinstance(error, AnswerLost) or self._reader.ended or error.code not in CONTINUABLE
        if final or position is None or (delay is None and not error.is_away):
            # What arrives after a wrong event belongs to another answer, if any. An endpoint that
            # can be reached, but never sends the next event, has lost the answer, or hangs.
            if self._unproven:
                raise NotKept(error.detail)
            # `NotKept` would mean that this call has read nothing.
            raise Broken(error.code, error.detail) if isinstance(error, NotKept) else error
        if delay is None or asyncio.get_running_loop().time() + delay >= self._until:
            error.resumable = True
            raise error
        self._failures += 1
        log.info(
            "connection to a background answer lost: reading on",
            upstream_id=position.upstream_id,
            cause=error.code,
            error=error.detail,
            seconds=delay,
        )
        await asyncio.sleep(delay)
