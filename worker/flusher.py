"""Batches an attempt's output into log appends, so that reading the model never waits for Redis.

Rules:

- Only one flusher writes to a log, and only one producer, the model call, adds output to a flusher.
  The producer adds nothing while it awaits `drain` or `finish`.
- At most one append is in flight. Output that arrives in the meantime is buffered, and the next
  append takes all of it. Therefore the first delta is sent at once, a slow model causes one append
  per delta, and the output of a fast model is batched at the speed of Redis.
- In a busy worker, text also waits until the interval since the last text is over, unless it fills
  a delta (see `append_interval`). Other events, the text after them and the end do not wait.
- A callback handles the reply to an append. Only a repeated or divided append needs a task.
- The flusher keeps its entries in memory until the attempt ends. If Redis loses the last entries of
  the log in a failover, the flusher appends them again with the same sequence numbers, and readers
  do not notice the loss.

The module `flusher_state` lists the states and their transitions.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from jobs.errors import Diverged, Fenced, HoldlineError
from jobs.log.log import ANY_STEERS, Steered
from jobs.redis.retry import retry
from runtime import tracing
from runtime.loop import cancel_and_wait

from .append_interval import NEVER
from .batch import MAX_BATCH_BYTES, OutputBuffer, batch
from .flusher_state import State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from jobs.log.codec import Event
    from jobs.log.items import Place
    from jobs.log.log import LogWriter, Successor
    from jobs.record import Status

    from .append_interval import AppendInterval
    from .metrics import WorkerMetrics

# A failover of Redis loses the end of a log once. After this many losses in a row, the attempt
# makes no progress and fails.
MAX_REPAIRS: Final = 10


class LogLost(HoldlineError):
    """Redis lost log entries that this attempt cannot append again.

    Either an earlier attempt wrote the entries, or Redis lost entries more than `MAX_REPAIRS` times
    in a row.
    """


class Flusher:
    """Appends the output of one attempt to its log. Use it as an async context manager.

    The flusher calls `on_cancel` when the reply to an append reports that the client has cancelled
    the response. It calls `on_loss` when an append has failed permanently; the next call to
    `check`, `drain` or `finish` raises the error. While Redis is unavailable, the flusher repeats
    an append for up to `retry_seconds`. The flusher is `full` while more than `max_unsent_bytes` of
    output are unsent. After `finish`, it calls `compact` with all entries of the attempt. All
    flushers of a worker share one `interval`.

    If `checkpoint` is set, each append also stores what it returns: the checkpoint of the log with
    all output that was added so far.
    """

    def __init__(
        self,
        writer: LogWriter,
        interval: AppendInterval,
        *,
        on_cancel: Callable[[], None],
        on_loss: Callable[[], None],
        retry_seconds: float,
        max_unsent_bytes: int,
        compact: Callable[[list[bytes]], Awaitable[None]],
        metrics: WorkerMetrics,
    ) -> None:
        self._writer = writer
        self._append_entries = metrics.append_entries
        self._append_seconds = metrics.append_seconds
        self._interval = interval
        self._first = writer.length
        self._compact = compact
        self._on_cancel = on_cancel
        self._on_loss = on_loss
        self._retry_seconds = retry_seconds
        self._max_unsent = max_unsent_bytes
        self.checkpoint: Callable[[], bytes] | None = None
        # The number of entries that the last checkpoint covers, and this checkpoint.
        self._covered: tuple[int, bytes] = 0, b""
        self._state = State.IDLE
        self._reply: asyncio.Future[object] | None = None  # the reply to the append in flight
        self._in_flight = 0, 0.0  # the append's pieces of text, and the time when it was sent
        self._text_sent = NEVER  # the time at which the last text was sent, if no event followed
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._lost: Exception | None = None
        self._entries: list[bytes] = []
        self._sent = 0
        self._repairs = 0
        self._buffer = OutputBuffer()
        self._unsent = 0
        self._room = asyncio.Event()
        self._room.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._state = State.CLOSED
        tracing.current().set({"holdline.log_entries": self._writer.length - self._first})
        self._stop_timer()
        if self._task is not None:
            await cancel_and_wait(self._task)
        # Breaks reference cycles: the tracebacks of stored errors refer to this object.
        self._task = self._lost = self.checkpoint = None

    # Methods for the producer, which is the model call

    @property
    def full(self) -> bool:
        """True while so much output is unsent that nothing more should be read from the model."""
        return not self._room.is_set()

    async def room(self) -> None:
        """Waits until the flusher is no longer full."""
        await self._room.wait()

    def add(self, *events: Event) -> None:
        """Schedules events to be appended."""
        self._buffer.add(*events)
        if self._state is State.IDLE or self._state is State.WAITING:
            self._schedule()

    def add_text(self, place: Place, text: str, logprobs: list[Any] | None = None) -> None:
        """Schedules a piece of text to be appended. Several pieces may become one delta event."""
        self._unsent += self._buffer.add_text(place, text, logprobs)
        if self._unsent > self._max_unsent and self._lost is None:
            self._room.clear()
        if self._state is State.IDLE or (self._state is State.WAITING and self._buffer.urgent):
            self._schedule()

    def check(self) -> None:
        """Raises the error of an append that has failed permanently, if there is one.

        Raises: Fenced, Gone, LogLost, RedisTrouble.
        """
        if self._lost is not None:
            raise self._lost

    async def drain(self) -> None:
        """Waits until all added output is in the log.

        Raises: Fenced, Gone, LogLost or RedisTrouble if an append has failed permanently.
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
        steers: int = ANY_STEERS,
        successor: Successor | str = "",
        http_status: int | None = None,
    ) -> bool:
        """Appends all added output and the event `last`, and ends the response in one script.

        `LogWriter.finish` describes the other arguments.

        Returns False if the response has more steers. Then `last` was not appended, and the caller
        calls this method again.

        Raises: the same errors as `drain`.
        """
        async with self._draining():
            self._buffer.add(last)
            self._encode()

            async def end() -> bool:
                rest = self._entries[self._sent :]
                try:
                    await self._writer.finish(
                        status,
                        rest,
                        retention_ms=retention_ms,
                        bury=bury,
                        tokens=tokens,
                        money=money,
                        steers=steers,
                        successor=successor,
                        http_status=http_status,
                    )
                except Steered:
                    return False
                return True

            ended = None
            while ended is None:
                if self._unsent > MAX_BATCH_BYTES:
                    # The last event must be appended by the script that ends the response. All
                    # other entries are appended before it.
                    await self._append_up_to(len(self._entries) - 1)
                ended = await self._written(end)
            if not ended:
                self._entries.pop()
                self._measure()
                return False
        await self._compact(self._entries)
        return True

    def store(self, checkpoint: Callable[[], bytes]) -> None:
        """Sets `checkpoint`, and stores it at once if all output is in the log.

        Otherwise, or if Redis is unavailable, the next append stores the checkpoint.
        """
        self.checkpoint = checkpoint
        if self._state is State.IDLE:
            self._send()

    # Transitions between the states

    def _schedule(self) -> None:
        self._stop_timer()
        self._state = State.SCHEDULED
        asyncio.get_running_loop().call_soon(self._on_turn)

    def _on_turn(self) -> None:
        # The state differs if the producer has called `drain` or `finish` in the meantime.
        if self._state is State.SCHEDULED:
            self._send_when_due()

    def _send_when_due(self) -> None:
        """Appends the buffered output now, or sets a timer until the append is due."""
        buffer, now = self._buffer, time.monotonic()
        if not buffer:
            self._state = State.IDLE
        elif not buffer.urgent and (due := self._interval.due(self._text_sent)) > now:
            self._state = State.WAITING
            self._timer = asyncio.get_running_loop().call_later(due - now, self._send)
        else:
            self._send()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _send(self) -> None:
        """Appends the buffered output, without creating a task if possible."""
        now, self._timer = time.monotonic(), None
        self._in_flight = max(self._buffer.pieces, 1), now
        self._text_sent = now if self._buffer.ends_with_text else NEVER
        self._encode()
        self._reply = self._writer.begin(*self._next(len(self._entries)))
        if self._reply is None:
            self._flush()
        else:
            self._state = State.SENDING
            self._reply.add_done_callback(self._on_reply)

    def _on_reply(self, reply: asyncio.Future[object]) -> None:
        self._reply = None
        now, (pieces, sent) = time.monotonic(), self._in_flight
        self._append_seconds.observe(now - sent)
        if self._state is State.CLOSED:
            return
        with contextlib.suppress(HoldlineError):  # a failed append is repeated below
            cancel = self._writer.appended(reply.result())
            self._repairs = 0
            self._at(self._writer.length)
            self._interval.count(pieces, now - sent, now)
            if cancel:
                self._on_cancel()
        if self._state is State.DRAINING:
            # The producer waits for this reply, and then appends the rest itself.
            pass
        elif self._sent < len(self._entries):
            self._flush()
        else:
            self._send_when_due()

    def _flush(self) -> None:
        self._state = State.FLUSHING
        self._task = asyncio.create_task(self._append_gathered(), name="flusher")

    async def _append_gathered(self) -> None:
        try:
            await self._append_up_to(len(self._entries))
            while self._buffer:
                self._encode()
                await self._append_up_to(len(self._entries))
        except Exception as error:  # noqa: BLE001 - `check` raises it again
            self._lose(error)
            self._on_loss()
        else:
            self._state = State.IDLE

    @contextlib.asynccontextmanager
    async def _draining(self) -> AsyncIterator[None]:
        """Lets the producer append to the log itself inside this context.

        After a cancellation in this context, the producer may only exit the flusher.
        """
        if self._state is State.FLUSHING and self._task is not None:
            await asyncio.wait([self._task])
        self.check()
        self._stop_timer()
        self._state = State.DRAINING
        if self._reply is not None:
            await asyncio.wait([self._reply])
        try:
            yield
        except HoldlineError as error:
            self._lose(error)
            raise
        self._state = State.IDLE

    def _lose(self, error: Exception) -> None:
        self._state = State.LOST
        self._lost = error
        self._room.set()

    # Encoding and appending log entries

    def _measure(self) -> None:
        self._unsent = self._buffer.size + sum(map(len, self._entries[self._sent :]))
        if self._unsent > self._max_unsent:
            self._room.clear()
        else:
            self._room.set()

    def _encode(self) -> None:
        """Encodes the buffered output as log entries."""
        self._entries += self._buffer.take()
        if self.checkpoint is not None:
            self._covered = len(self._entries), self.checkpoint()
        self._measure()

    def _next(self, stop: int) -> tuple[list[bytes], bytes]:
        """Returns the entries of the next append, up to `stop`, and the checkpoint after them."""
        entries = batch(self._entries[self._sent : stop])
        self._append_entries.observe(len(entries))
        covers, checkpoint = self._covered
        return entries, checkpoint if self._sent + len(entries) == covers else b""

    async def _append_up_to(self, stop: int) -> None:
        while self._sent < stop:
            if await self._written(partial(self._writer.append, *self._next(stop))):
                self._on_cancel()

    async def _written(self, write: Callable[[], Awaitable[bool]]) -> bool | None:
        """Calls `write`, repeats it while Redis is unavailable, and returns its result.

        Returns None if the log was shorter or longer than expected. The caller then calls this
        method again with the entries that the log lacks.
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
        """Continues from the actual end of the log after Redis has lost entries of this attempt.

        The log contains a prefix of this attempt's entries and no others, because no other attempt
        holds the claim on the job.

        Raises: LogLost; Fenced if the log has more entries than this attempt has created.
        """
        self._repairs += 1
        if error.found < self._first or self._repairs > MAX_REPAIRS:
            raise LogLost(f"the log has only {error.found} of {error.expected} entries") from error
        if error.found > self._first + len(self._entries):
            raise Fenced(error.response_id) from error
        self._writer.length = error.found
        self._at(error.found)

    def _at(self, length: int) -> None:
        self._sent = length - self._first
        self._measure()
