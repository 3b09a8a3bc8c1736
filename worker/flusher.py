"""Batches an attempt's output into log appends, so that reading the model never waits for Redis.

Rules:

- The log has one writer and the flusher one producer. The producer adds nothing while it awaits
  `drain` or `finish`.
- At most one append is under way. Output that is added meanwhile gathers, and the next append takes
  all of it. So the first delta is sent at once, a slow model costs one append a delta, and a fast
  model is batched at the speed of Redis, without a timer.
- A usual append needs no task: the reply is handled by a callback. Only an append that has to be
  repeated, divided or delayed gets one.
- Entries stay in memory until the attempt ends. The length of the log therefore says how much of
  the attempt it holds. If Redis lost a tail, the same entries are appended again under the same
  numbers, and readers notice nothing.

Who writes the log is the state:

    IDLE        nobody: everything that was added is in the log
    SCHEDULED   a callback, in the next turn of the event loop
    SENDING     nobody: one append is under way, and a callback handles its reply
    FLUSHING    a task
    DRAINING    the producer, in `drain` or `finish`
    LOST        nobody: an append failed for good, and `check` raises its error
    CLOSED      nobody: the flusher was left

    state       event                                      next state
    IDLE        output is added                            SCHEDULED
    SCHEDULED   the turn begins, the connection is up      SENDING
    SCHEDULED   the turn begins, the connection is down    FLUSHING
    SENDING     reply, nothing has gathered                IDLE
    SENDING     reply, output has gathered                 SENDING, FLUSHING as from SCHEDULED
    SENDING     an error, or entries are left over         FLUSHING
    FLUSHING    everything is in the log                   IDLE
    FLUSHING    an error that retrying does not help       LOST, `on_loss` is called
    IDLE, SCHEDULED, SENDING
                the producer drains or finishes            DRAINING, after the reply if SENDING
    FLUSHING    the producer drains or finishes            FLUSHING until its end, then DRAINING
    DRAINING    everything is in the log                   IDLE
    DRAINING    an error that retrying does not help       LOST, the producer gets the error
    any         exit                                       CLOSED
"""

from __future__ import annotations

import asyncio
import contextlib
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from jobs.errors import Diverged, Fenced, HoldlineError
from jobs.log.codec import encode_event
from jobs.redis.retry import retry
from runtime.loop import cancel_and_wait

from .batch import LOGPROB_BYTES, MAX_BATCH_BYTES, TextRun, batch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from jobs.log.codec import Event
    from jobs.log.items import Place
    from jobs.log.log import LogWriter
    from jobs.record import Status

# A failover loses a tail once. Losing tails again and again makes no progress.
MAX_REPAIRS: Final = 10


class LogLost(HoldlineError):
    """Redis lost entries from before this attempt, which cannot append them again."""


class _State(Enum):
    """Who writes the log; the table is at the top of the module."""

    IDLE = auto()
    SCHEDULED = auto()
    SENDING = auto()
    FLUSHING = auto()
    DRAINING = auto()
    LOST = auto()
    CLOSED = auto()


class Flusher:
    """Appends the output of one attempt; use it as an async context manager.

    `on_cancel` is called when an append finds that the response is to be cancelled. `on_loss` is
    called when nothing can be appended any more; the error is raised by the next call of `check`,
    `drain` or `finish`. An append is repeated for up to `retry_seconds`. Meanwhile the flusher is
    `full` beyond `max_unsent_bytes` of output. `compact` is called with all entries of the attempt
    after `finish`.
    """

    def __init__(
        self,
        writer: LogWriter,
        *,
        on_cancel: Callable[[], None],
        on_loss: Callable[[], None],
        retry_seconds: float,
        max_unsent_bytes: int,
        compact: Callable[[list[bytes]], Awaitable[None]],
    ) -> None:
        self._writer = writer
        self._first = writer.length
        self._compact = compact
        self._on_cancel = on_cancel
        self._on_loss = on_loss
        self._retry_seconds = retry_seconds
        self._max_unsent = max_unsent_bytes
        self._state = _State.IDLE
        self._reply: asyncio.Future[object] | None = None  # of the append that is under way
        self._task: asyncio.Task[None] | None = None
        self._lost: Exception | None = None
        self._entries: list[bytes] = []
        self._sent = 0
        self._repairs = 0
        self._gathered: list[Event | TextRun] = []
        self._gathered_size = 0  # in characters, which is near enough for a bound
        self._unsent = 0
        self._room = asyncio.Event()
        self._room.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._state = _State.CLOSED
        if self._task is not None:
            await cancel_and_wait(self._task)
        self._task = self._lost = None  # the tracebacks of their errors hold this object

    # The producer's side

    @property
    def full(self) -> bool:
        """True while so much output waits for Redis that the model has to wait; see `room`."""
        return not self._room.is_set()

    async def room(self) -> None:
        """Returns when there is room for more output."""
        await self._room.wait()

    def add(self, *events: Event) -> None:
        """Appends these events soon."""
        self._gathered.extend(events)
        if self._state is _State.IDLE:
            self._schedule()

    def add_text(self, place: Place, text: str, logprobs: list[Any] | None = None) -> None:
        """Appends text to a place soon; several pieces may become one delta."""
        last = self._gathered[-1] if self._gathered else None
        if isinstance(last, TextRun) and last.continues(place):
            last.pieces.append(text)
        else:
            self._gathered.append(last := TextRun(place, [text], []))
        size = len(text)
        if logprobs:
            last.logprobs += logprobs
            size += LOGPROB_BYTES * sum(1 + len(token["top_logprobs"]) for token in logprobs)
        self._gathered_size += size
        self._unsent += size
        if self._unsent > self._max_unsent and self._lost is None:
            self._room.clear()
        if self._state is _State.IDLE:
            self._schedule()

    def check(self) -> None:
        """Raises the error that ended the appends, if there is one.

        Raises: Fenced, Gone, LogLost, RedisTrouble.
        """
        if self._lost is not None:
            raise self._lost

    async def drain(self) -> None:
        """Returns when everything that was added is in the log.

        Raises: Fenced, Gone, LogLost, RedisTrouble: this attempt can append nothing more.
        """
        async with self._draining():
            self._encode()
            await self._append_up_to(len(self._entries))

    async def finish(
        self,
        status: Status,
        last: Event,
        *,
        retention_ms: int,
        bury: bool = False,
        tokens: int | None = None,
        money: float | None = None,
    ) -> None:
        """Appends what was added and `last`, and ends the response in the same script.

        `tokens` and `money` are the usage, where it is known.

        Raises: as `drain`.
        """
        async with self._draining():
            self._gathered.append(last)
            self._encode()

            async def end() -> bool:
                rest = self._entries[self._sent :]
                await self._writer.finish(
                    status,
                    rest,
                    retention_ms=retention_ms,
                    bury=bury,
                    tokens=tokens,
                    money=money,
                )
                return True

            ended = None
            while ended is None:
                if self._unsent > MAX_BATCH_BYTES:
                    # `last` is kept for the script that ends the response.
                    await self._append_up_to(len(self._entries) - 1)
                ended = await self._written(end)
        await self._compact(self._entries)

    # States

    def _schedule(self) -> None:
        self._state = _State.SCHEDULED
        asyncio.get_running_loop().call_soon(self._on_turn)

    def _on_turn(self) -> None:
        if self._state is _State.SCHEDULED:  # unless the producer has drained since
            self._send()

    def _send(self) -> None:
        """Sends what has gathered, without a task if that is possible."""
        if not self._gathered:
            self._state = _State.IDLE
            return
        self._encode()
        self._reply = self._writer.begin(batch(self._entries[self._sent :]))
        if self._reply is None:
            self._flush()
        else:
            self._state = _State.SENDING
            self._reply.add_done_callback(self._on_reply)

    def _on_reply(self, reply: asyncio.Future[object]) -> None:
        self._reply = None
        if self._state is _State.CLOSED:
            return
        with contextlib.suppress(HoldlineError):  # the same append follows, with retries
            cancel = self._writer.appended(reply.result())
            self._repairs = 0
            self._at(self._writer.length)
            if cancel:
                self._on_cancel()
        if self._state is _State.DRAINING:
            pass  # the producer waits for this reply, and appends the rest
        elif self._sent < len(self._entries):
            self._flush()
        else:
            self._send()

    def _flush(self) -> None:
        self._state = _State.FLUSHING
        self._task = asyncio.create_task(self._append_gathered(), name="flusher")

    async def _append_gathered(self) -> None:
        try:
            await self._append_up_to(len(self._entries))
            while self._gathered:
                self._encode()
                await self._append_up_to(len(self._entries))
        except Exception as error:  # noqa: BLE001 - the producer gets it from `check`
            self._lose(error)
            self._on_loss()
        else:
            self._state = _State.IDLE

    @contextlib.asynccontextmanager
    async def _draining(self) -> AsyncIterator[None]:
        """Makes the producer the writer. If it is cancelled, only leaving may follow."""
        if self._state is _State.FLUSHING and self._task is not None:
            await asyncio.wait([self._task])
        self.check()
        self._state = _State.DRAINING
        if self._reply is not None:
            await asyncio.wait([self._reply])
        try:
            yield
        except HoldlineError as error:
            self._lose(error)
            raise
        self._state = _State.IDLE

    def _lose(self, error: Exception) -> None:
        self._state = _State.LOST
        self._lost = error
        self._room.set()

    # Entries

    def _measure(self) -> None:
        self._unsent = self._gathered_size + sum(map(len, self._entries[self._sent :]))
        if self._unsent > self._max_unsent:
            self._room.clear()
        else:
            self._room.set()

    def _encode(self) -> None:
        """Turns what has gathered into entries."""
        gathered, self._gathered, self._gathered_size = self._gathered, [], 0
        for one in gathered:
            if isinstance(one, TextRun):
                self._entries += one.entries()
            else:
                self._entries.append(encode_event(one))
        self._measure()

    async def _append_up_to(self, stop: int) -> None:
        while self._sent < stop:
            if await self._written(
                partial(self._writer.append, batch(self._entries[self._sent : stop]))
            ):
                self._on_cancel()

    async def _written(self, write: Callable[[], Awaitable[bool]]) -> bool | None:
        """Calls `write`, with retries, and returns its result.

        Returns None if the log had another length than expected: the entries to write have changed.
        """
        try:
            answer = await retry(write, seconds=self._retry_seconds)
        except Diverged as error:
            self._repair(error)
            return None
        self._repairs = 0
        self._at(self._writer.length)
        return answer

    def _repair(self, error: Diverged) -> None:
        """Goes back to the end of the log, which holds a prefix of these entries.

        It cannot hold anything else, because no other attempt has the claim.
        """
        self._repairs += 1
        if error.found < self._first or self._repairs > MAX_REPAIRS:
            raise LogLost(f"{error.found} entries left of {error.expected}") from error
        if error.found > self._first + len(self._entries):
            raise Fenced(error.response_id) from error
        self._writer.length = error.found
        self._at(error.found)

    def _at(self, length: int) -> None:
        self._sent = length - self._first
        self._measure()
