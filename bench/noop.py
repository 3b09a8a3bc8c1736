"""A worker that runs empty jobs with the real Lua scripts of the queue.

`python -m bench.noop` reads commands from standard input (see `Process.ask`). `fill N` submits N
jobs. `drain N` claims and finishes N jobs, 100 at a time. Like a real worker, this worker claims as
many jobs as it has free slots.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
from typing import Final

from jobs.errors import HoldlineError
from jobs.log.codec import encode_event
from jobs.log.log import LogWriter
from jobs.queue import Queue
from jobs.record import Status
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from jobs.replies import Grant
from runtime.gc_tuning import freeze_and_tune_gc

from .answers import SETTINGS, a_job, in_turns, last_event, submit

PLACES: Final = 100


# Building output is not part of the queue's cost, so all jobs share one final event.
SAID: Final = [encode_event(last_event(a_job()))]


class Drain:
    """Empties the queue, and claims as many jobs at once as there are free slots."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._queue = Queue(pipe, SETTINGS)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._freed = asyncio.Event()

    async def run(self, count: int) -> None:
        """Claims and finishes `count` jobs."""
        left = count
        while left:
            while free := min(PLACES - len(self._running), left):
                grants = await self._queue.leases.claim(0, secrets.token_hex(8), free)
                for grant in grants:
                    self._running[grant.response_id] = asyncio.create_task(self._one(grant))
                left -= len(grants)
            await self._once_freed()
        while self._running:
            await self._once_freed()

    async def _one(self, grant: Grant) -> None:
        try:
            writer = LogWriter(self._pipe, grant.response_id, grant.claim, grant.length)
            await writer.finish(Status.COMPLETED, SAID, retention_ms=SETTINGS.retention_ms)
        except HoldlineError as error:
            raise SystemExit(f"cannot finish a job: {error}") from error
        finally:
            del self._running[grant.response_id]
            self._freed.set()

    async def _once_freed(self) -> None:
        self._freed.clear()
        await self._freed.wait()


async def _serve() -> None:
    async with Pipe(Redis(os.environ["REDIS_URL"]), deadline=30) as pipe:
        queue = Queue(pipe, SETTINGS)
        freeze_and_tune_gc()
        while words := (await asyncio.to_thread(sys.stdin.readline)).split():
            match words:
                case ["fill", count]:
                    await in_turns(submit(queue, a_job()) for _ in range(int(count)))
                case ["drain", count]:
                    await Drain(pipe).run(int(count))
                case _:
                    raise SystemExit(f"unknown command: {words}")
            print("ok", flush=True)


def main() -> None:
    """Runs the commands from standard input until it ends."""
    factory = None
    with contextlib.suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_serve())


if __name__ == "__main__":
    main()
