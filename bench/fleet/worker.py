"""Runs the real worker, with an answer that takes virtual time in the place of a model call."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from bench.answers import last_event
from jobs.errors import Fenced, Gone
from jobs.log.codec import decode_job, encode_event
from jobs.log.log import LogWriter
from jobs.queue import Queue
from jobs.record import Status
from jobs.worker_registry import RunningRecord
from worker import config
from worker.append_interval import AppendInterval
from worker.context import WorkerContext
from worker.conversation_settler import conversation_settler
from worker.outcome import Policy
from worker.rescue import Rescue
from worker.stop import ENDED, Stop
from worker.worker import Worker

from .redis import VirtualPipe, VirtualSubscriber

if TYPE_CHECKING:
    from jobs.redis.pipe import Pipe
    from jobs.redis.subscriber import Subscriber
    from jobs.replies import Grant
    from jobs.scripts import Call
    from worker.compactor import Compactor
    from worker.config import Config
    from worker.execute import Execution
    from worker.upstream.router import Router

    from .redis import VirtualRedis

TOKENS_PER_SECOND: Final = 50


@dataclass(slots=True)
class Record:
    """The times in the life of one job. `began` has one time for each attempt."""

    tenant: str
    tokens: int
    submitted: float
    began: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)


Book = dict[str, Record]


def settings(concurrency: int, partitions: int) -> Config:
    """Returns the settings of a simulated worker. All other settings have their default values."""
    return config.load(
        {
            "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",  # never called
            "HOLDLINE_CONCURRENCY": str(concurrency),
            "HOLDLINE_PARTITIONS": str(partitions),
            "HOLDLINE_MAX_WAITING": "1000000",
        }
    )


class Answer:
    """Has the methods of `worker.execute.Execution` that a worker uses."""

    exhausted = False
    can_be_continued = False
    size = 0

    def __init__(self, pipe: VirtualPipe, book: Book, partition: int, grant: Grant) -> None:
        self._pipe = pipe
        self._job = book[grant.response_id]
        self._retention_ms = 60_000
        self._stopped: Stop | None = None
        self._stop = asyncio.Event()
        self.partition = partition
        self.grant = grant

    async def run(self) -> None:
        """Waits for the time of the answer, and ends the job."""
        grant, record = self.grant, self._job
        record.began.append(asyncio.get_running_loop().time())
        try:
            async with asyncio.timeout(record.tokens / TOKENS_PER_SECOND):
                await self._stop.wait()
            return
        except TimeoutError:
            pass
        pipe = cast("Pipe", self._pipe)
        writer = LogWriter(pipe, grant.response_id, grant.claim, grant.length)
        last = encode_event(last_event(decode_job(grant.job)))
        # An error means that another worker has the job.
        with contextlib.suppress(Fenced, Gone):
            await writer.finish(
                Status.COMPLETED, [last], retention_ms=self._retention_ms, tokens=record.tokens
            )

    def stop(self, reason: Stop) -> None:
        """Ends the answer without a result, because the worker no longer has the job."""
        if reason in ENDED:
            self._stop.set()

    def steer(self) -> None:
        """Does nothing, because no client steers the responses."""

    def record(self, _: float) -> RunningRecord:
        """Returns what the record of this worker says about the job."""
        age = asyncio.get_running_loop().time() - self._job.began[-1] if self._job.began else 0.0
        return RunningRecord(self.grant.response_id, "", self.grant.attempt, round(1000 * age))

    async def fail(self) -> None:
        """Reports an error in `run`, which is a fault of the simulation."""
        raise AssertionError("a simulated answer has failed")


class SimulatedWorker(Worker):
    """The real worker, which runs an `Answer` for each job that it claims."""

    def __init__(self, redis: VirtualRedis, config: Config, book: Book) -> None:
        self.pipe = VirtualPipe(redis)
        self.subscriber = VirtualSubscriber(redis)
        self.empty = 0  # the number of claims that found no job
        self._book = book
        self.pipe.executed = self._executed
        pipe = cast("Pipe", self.pipe)
        context = WorkerContext(
            config,
            pipe,
            Queue(pipe, config.shared),
            cast("Router", None),  # is asked only for models that have their own limits
            Policy(),
            cast("Compactor", None),  # answers are not compacted
            AppendInterval(time.monotonic()),
        )
        subscriber = cast("Subscriber", self.subscriber)
        self._settler = conversation_settler(context)
        super().__init__(context, subscriber, Rescue(context), asyncio.Event(), asyncio.Event())

    async def run(self) -> None:
        """Runs the loops of a worker process until `die`."""
        async with self._settler:
            await super().run()

    @property
    def held(self) -> list[str]:
        """The ids of the responses that the worker runs."""
        return [execution.grant.response_id for execution in self._held]

    def _executed(self, call: Call, reply: Any) -> None:
        """Records the end of a job, also if this worker has died before it received the reply."""
        if call[0] == "finish" and reply[0] == b"ok":
            [record] = [self._book[one] for one in call if one in self._book]
            record.ended.append(asyncio.get_running_loop().time())

    async def _claim(self, partition: int) -> None:
        before, claims = len(self._held), self.pipe.calls["claim"]
        await super()._claim(partition)
        self.empty += self.pipe.calls["claim"] > claims and len(self._held) == before

    def _start(self, partition: int, grant: Grant) -> None:
        answer = Answer(self.pipe, self._book, partition, grant)
        execution = cast("Execution", answer)
        self._held[execution] = asyncio.create_task(self._work(execution), name="job")

    async def die(self, task: asyncio.Task[None]) -> None:
        """Ends the worker as SIGKILL does: no job is given back, and no command is sent."""
        self.pipe.die()
        self.subscriber.close()
        for job in self._held.values():
            job.cancel()
        await asyncio.gather(*self._held.values(), return_exceptions=True)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
