"""What an attempt says -> its log; reading the model never waits for Redis.

Pieces gather while an append is under way, and the next append takes whatever has gathered. So the
first piece goes at once, a slow model costs one append a piece, and a fast one is batched by the
speed of Redis itself, without a timer.

Every entry of the attempt stays in memory until its end. The log has only this one writer, so its
length alone says how much of the attempt it holds: where Redis lost a tail, the same entries are
written again under the same numbers, and no reader sees that anything happened.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from jobs.errors import Diverged, Fenced, HoldlineError
from jobs.log.codec import encode_event, encode_text_delta
from jobs.log.items import delta
from jobs.redis.retry import RETRY_SECONDS, retry
from runtime.loop import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from jobs.log.codec import Event
    from jobs.log.items import Place
    from jobs.log.log import LogWriter
    from jobs.record import Status

# At most four bytes a character: no delta is larger than 16 KB.
DELTA_CHARACTERS: Final = 4096
# Log probabilities are many times the size of what they are about.
MOST_LOGPROBS: Final = 64
LOGPROB_BYTES: Final = 40
# One script that holds up the others for a few ms at most.
BATCH_BYTES: Final = 262_144
# A minute without Redis at a usual model's pace is a tenth of it.
UNSENT_BYTES: Final = 1_000_000
# Redis loses a tail once in a failover; one that loses it again and again is not getting anywhere.
MOST_REPAIRS: Final = 10


class LogLost(HoldlineError):
    """Redis lost entries that are older than this attempt, which cannot write them again."""


@dataclass(slots=True)
class _Run:
    """Text of one place that has gathered."""

    place: Place
    pieces: list[str]
    logprobs: list[Any]

    def entries(self) -> list[bytes]:
        """The deltas that say it."""
        place, text = self.place, "".join(self.pieces)
        if place.kind == "output_text" and not self.logprobs and len(text) <= DELTA_CHARACTERS:
            return [encode_text_delta(place.item_id, place.index, place.part, text)]  # nearly all
        cuts = range(0, len(text), DELTA_CHARACTERS)
        said = [text[at : at + DELTA_CHARACTERS] for at in cuts]
        return [
            encode_event(delta(place, piece, None if number else self.logprobs))
            for number, piece in enumerate(said)
        ]


class Flusher:
    """Appends what one attempt says; use it as an async context manager.

    `on_cancel` is called when the log's owner asks for the end, `on_loss` when nothing can be
    appended any more; the error is raised again by whatever is called next. `seal` is called with
    all entries of the attempt when the log has ended.
    """

    def __init__(
        self,
        writer: LogWriter,
        *,
        on_cancel: Callable[[], None],
        on_loss: Callable[[], None],
        retry_seconds: float = RETRY_SECONDS,
        compact: Callable[[list[bytes]], Awaitable[None]],
    ) -> None:
        self._writer = writer
        self._begin = writer.length
        self._compact = compact
        self._entries: list[bytes] = []
        self._sent = 0
        self._repairs = 0
        self._gathered: list[Event | _Run] = []
        self._gathered_size = 0  # in characters, which is near enough for a bound
        self._unsent = 0
        self._room = asyncio.Event()
        self._room.set()
        # Held while the log is written: one append at a time, in order.
        self._writing = asyncio.Lock()
        self._on_cancel = on_cancel
        self._on_loss = on_loss
        self._retry_seconds = retry_seconds
        self._lost: HoldlineError | None = None
        # What appends next, if anybody is about to: soon, then by a reply that nobody awaits, or
        # where that is not enough as a task.
        self._soon: asyncio.Handle | None = None
        self._appending: asyncio.Future[object] | None = None
        self._flushing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._soon is not None:
            self._soon.cancel()
        if self._appending is not None:
            self._appending.remove_done_callback(self._appended)
        if self._flushing is not None:
            await cancel_and_wait(self._flushing)

    @property
    def full(self) -> bool:
        """True while so much waits for Redis that the model must wait as well; see `room`."""
        return not self._room.is_set()

    async def room(self) -> None:
        """Returns when there is room for more."""
        await self._room.wait()

    def add(self, *events: Event) -> None:
        """Appends these events soon."""
        self._gathered.extend(events)
        self._begin_soon()

    def say(self, place: Place, text: str, logprobs: list[Any] | None = None) -> None:
        """Appends text to a place soon; several pieces may become one delta."""
        last = self._gathered[-1] if self._gathered else None
        if isinstance(last, _Run) and last.place == place and len(last.logprobs) < MOST_LOGPROBS:
            last.pieces.append(text)
        else:
            self._gathered.append(last := _Run(place, [text], []))
        size = len(text)
        if logprobs:
            last.logprobs += logprobs
            size += LOGPROB_BYTES * sum(1 + len(token["top_logprobs"]) for token in logprobs)
        self._gathered_size += size
        self._unsent += size
        if self._unsent > UNSENT_BYTES:
            self._room.clear()
        self._begin_soon()

    def check(self) -> None:
        """Raises what was the loss, if there was one: Fenced, Gone, LogLost, RedisTrouble."""
        if self._lost is not None:
            raise self._lost

    async def drain(self) -> None:
        """Returns when all that was added is in the log.

        Raises: Fenced, Gone, LogLost, RedisTrouble: this attempt can write nothing more.
        """
        async with self._writing:
            await self._settled()
            self.check()
            await self._append_all()

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
        """All that was added is in the log, then `last`, and the response has ended.

        `tokens` and `money` are what it took, where that is known.

        Raises: as `drain`.
        """
        async with self._writing:
            await self._settled()
            self.check()
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
                if self._unsent > BATCH_BYTES:
                    # The last event stays back: it ends the log in the same breath as the job.
                    await self._append_up_to(len(self._entries) - 1)
                ended = await self._written(end)
        await self._compact(self._entries)

    def _begin_soon(self) -> None:
        """Has what was said in this turn of the loop appended in the next one, unless whoever said
        it has had it written by then.
        """
        if self._soon is None and self._appending is None and self._flushing is None:
            self._soon = asyncio.get_running_loop().call_soon(self._begin_flushing)

    def _begin_flushing(self) -> None:
        self._soon = None
        if self._gathered and self._lost is None and not self._append_at_once():
            self._flushing = asyncio.create_task(self._flush(), name="flusher")

    def _append_at_once(self) -> bool:
        """Sends what has gathered; False where that has to wait for something."""
        if self._writing.locked():
            return False
        self._encode()
        self._appending = self._writer.begin(self._batch(len(self._entries)))
        if self._appending is None:
            return False
        self._appending.add_done_callback(self._appended)
        return True

    def _appended(self, reply: asyncio.Future[object]) -> None:
        self._appending = None
        with contextlib.suppress(HoldlineError):  # then the same again, by whoever is patient
            cancel = self._writer.appended(reply.result())
            self._repairs = 0
            self._at(self._writer.length)
            if cancel:
                self._on_cancel()
        if self._writing.locked():
            pass  # by somebody who waits for this, and goes on with the rest
        elif self._sent < len(self._entries):
            self._flushing = asyncio.create_task(self._flush(), name="flusher")
        else:
            self._begin_flushing()

    async def _settled(self) -> None:
        """Returns when no append is under way; called by whoever holds the log, so none begins."""
        while self._appending is not None:
            await asyncio.wait([self._appending])

    async def _flush(self) -> None:
        try:
            async with self._writing:
                await self._append_all()
                while self._gathered:
                    await self._append_all()
        except HoldlineError as error:
            self._lost = error
            self._room.set()
            self._on_loss()
        self._flushing = None  # but not after an error that nobody foresaw: `__aexit__` raises it

    def _measure(self) -> None:
        self._unsent = self._gathered_size + sum(map(len, self._entries[self._sent :]))
        if self._unsent > UNSENT_BYTES:
            self._room.clear()
        else:
            self._room.set()

    def _encode(self) -> None:
        """Turns what has gathered into entries."""
        gathered, self._gathered, self._gathered_size = self._gathered, [], 0
        for what in gathered:
            if isinstance(what, _Run):
                self._entries += what.entries()
            else:
                self._entries.append(encode_event(what))
        self._measure()

    def _batch(self, stop: int) -> list[bytes]:
        """The next entries before `stop`: at least one if there is one, then within the bound."""
        batch: list[bytes] = []
        size = 0
        for entry in self._entries[self._sent : stop]:
            size += len(entry)
            if batch and size > BATCH_BYTES:
                break
            batch.append(entry)
        return batch

    async def _append_all(self) -> None:
        self._encode()
        await self._append_up_to(len(self._entries))

    async def _append_up_to(self, stop: int) -> None:
        while self._sent < stop:
            if await self._written(partial(self._writer.append, self._batch(stop))):
                self._on_cancel()

    async def _written(self, write: Callable[[], Awaitable[bool]]) -> bool | None:
        """What `write` returns, or None where the log had another length than we believed: then
        what is to be written has changed.
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
        """Goes back to where the log is. It is a prefix of ours: nobody else holds the claim."""
        self._repairs += 1
        if error.found < self._begin or self._repairs > MOST_REPAIRS:
            raise LogLost(f"{error.found} entries left of {error.expected}") from error
        if error.found > self._begin + len(self._entries):
            raise Fenced(error.response_id) from error
        self._writer.length = error.found
        self._at(error.found)

    def _at(self, length: int) -> None:
        self._sent = length - self._begin
        self._measure()
