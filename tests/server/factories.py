"""A log written by the test, a sink that records frames, and a worker that the test controls."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from jobs.errors import RedisTrouble
from jobs.ids import item_id
from jobs.log.codec import Event, encode_event, job_of
from jobs.log.log import LogWriter
from jobs.log.view import View
from jobs.queue import Queue
from jobs.record import Job, Status
from jobs.redis.pipe import Pipe
from jobs.replies import Grant
from server.api.frames import NOTHING, Frame, Shown, frame
from server.api.problem import Problem
from server.live.follower import Follower
from server.live.look import Look
from tests.jobs.factories import SETTINGS, ending, said, saying, text_delta

RESPONSE = "resp_000" + "a" * 32
# The log entries of a hundred text deltas.
DELTAS = [encode_event(text_delta("msg_1", 0, str(number))) for number in range(100)]


@dataclass
class RecordingSink:
    """A sink that records frames and whose writability the test controls."""

    writable: bool = True
    frames: list[Frame] = field(default_factory=list)
    positions: list[tuple[int | None, float | None, str]] = field(default_factory=list)
    problem: Problem | None = None
    ended_times: int = 0

    def deliver(self, follower: Follower, frames: list[Frame]) -> None:
        assert not self.ended_times
        self.frames += frames

    def queued(self, follower: Follower, place: int | None, eta: float | None, reason: str) -> None:
        self.positions.append((place, eta, reason))

    def ended(self, follower: Follower, problem: Problem | None) -> None:
        self.problem = problem
        self.ended_times += 1

    @property
    def numbers(self) -> list[int]:
        return [each.sequence_number for each in self.frames]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(each.json) for each in self.frames]


class ScriptedFeed:
    """A feed on a log in memory.

    The result of a read is determined when the read starts; the test decides when the read
    returns.
    """

    def __init__(self, entries: list[bytes]) -> None:
        self.response_id = RESPONSE
        self.owner = "public"
        self.status = Status.RUNNING
        self.confirmed = True
        self.quiet = False
        self.log = entries
        self.followers: set[Follower] = set()
        self.reads = 0
        self.page = 1000
        self.fails: list[Exception] = []
        self.back = asyncio.Event()
        self.back.set()
        self.tasks: list[asyncio.Task[None]] = []

    def follow(
        self,
        sink: RecordingSink,
        starting_after: int = -1,
        owner: str = "public",
        shown: Shown = NOTHING,
    ) -> Follower:
        follower = Follower(self, owner, starting_after, sink, shown)
        self.followers.add(follower)
        return follower

    def append(self, *entries: bytes, heard: bool = True) -> None:
        """Appends entries and, if `heard` is set, notifies the followers."""
        first = len(self.log)
        self.log += entries
        if heard:
            for follower in list(self.followers):
                follower.notify(first, self.frames(first, list(entries)))

    async def read(self, start: int, *, least: int, viewer: str) -> Look:
        self.reads += 1
        if self.fails:
            raise self.fails.pop()
        view = View(
            self.status,
            self.owner,
            1,
            0,
            "",
            len(self.log),
            self.log[start : start + max(self.page, least)],
        )
        await asyncio.sleep(0)
        await self.back.wait()
        return view, self.frames(start, view.entries)

    def frames(self, first: int, entries: list[bytes]) -> list[Frame]:
        return [frame(first + index, entry) for index, entry in enumerate(entries)]

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self.tasks.append(task)
        return task

    def drop(self, follower: Follower) -> None:
        self.followers.discard(follower)

    async def settle(self) -> None:
        """Returns when all reads have finished."""
        while pending := [task for task in self.tasks if not task.done()]:
            await asyncio.wait(pending)
        for task in self.tasks:
            if not task.cancelled():
                task.result()


class Away(RedisTrouble):
    """Raised by a read to simulate that Redis is unavailable."""


# The pause between two claims of a worker that waits for a job.
POLL_SECONDS = 0.005


class Worker:
    """A worker that the test controls step by step."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._queue = Queue(pipe, SETTINGS)

    async def take(self) -> Answer:
        """Claims the next waiting job as soon as there is one."""
        while True:
            for grant in await self._queue.leases.claim(0, secrets.token_hex(8), 1):
                job = job_of(grant.response_id, grant.job, self._pipe.cipher)
                context = await self._queue.turns.load(job.id, job.turns) or job.context
                return Answer(self._pipe, self._queue, grant, replace(job, context=context))
            await asyncio.sleep(POLL_SECONDS)

    async def answer(self, *pieces: str) -> Answer:
        """Claims the next waiting job and writes its complete answer."""
        answer = await self.take()
        await answer.say(*pieces)
        await answer.complete()
        return answer


class Answer:
    """One claimed job and its log."""

    def __init__(self, pipe: Pipe, queue: Queue, grant: Grant, job: Job) -> None:
        self._queue = queue
        self.job = job
        self.grant = grant
        self.writer = LogWriter(pipe, self.job.id, grant.claim, grant.length)
        self._text = ""
        self._begun = False

    async def say(self, *pieces: str) -> None:
        """Appends each delta separately."""
        if not self._begun:
            self._begun = True
            await self._append(*saying(self.job, 1, 0, []))
        for piece in pieces:
            self._text += piece
            await self._append(text_delta(item_id("msg", self.job.id, 1, 0), 0, piece))

    async def asked_to_stop(self) -> None:
        """Returns when someone has requested the cancellation of the response."""
        async with asyncio.timeout(5):
            while not await self.writer.append([]):
                pass

    async def fail(self, cause: str) -> None:
        """Ends the response as failed."""
        await self.complete(Status.FAILED, cause)

    async def complete(
        self, status: Status = Status.COMPLETED, cause: str = "server_error"
    ) -> None:
        """Appends the end of the message and of the response."""
        events = said(self.job, 1, 0, self._text) if self._begun else []
        end = ending(self.job, status, self._text if self._begun else "", cause=cause)
        entries = [encode_event(event) for event in [*events, end]]
        await self.writer.finish(status, entries, retention_ms=60_000)
        await self._queue.turns.release(self.job.id, self.job.turns)

    async def _append(self, *events: Event) -> None:
        await self.writer.append([encode_event(event) for event in events])
