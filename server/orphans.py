"""Cancels orphans: answers that no client follows any more, if their requests allow this.

Three times in each grace period, every server reports which of these answers its clients follow, so
followers on all servers count. The first server to find an answer that no server has reported for
the grace period cancels it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import structlog

from jobs.each_partition import each_partition
from jobs.errors import HoldlineError, RedisTrouble
from jobs.log.log import read
from jobs.names import partition_of
from runtime import tracing
from runtime.loop import Loop

from .api.problem import Problem

if TYPE_CHECKING:
    from jobs.queue import Queue
    from jobs.record import SharedSettings
    from jobs.redis.pipe import Pipe

    from .live.relay import Relay
    from .responses import Responses

# The maximum number of response ids in one call to the script.
AT_ONCE: Final = 1000
MAX_FOUND: Final = 100
MIN_PERIOD_SECONDS: Final = 0.05
LOOKS_BEFORE_CANCEL: Final = 3

log = structlog.get_logger()


class Orphans:
    """Reports the answers followed on this server, and cancels orphaned answers."""

    def __init__(
        self, pipe: Pipe, queue: Queue, relay: Relay, responses: Responses, shared: SharedSettings
    ) -> None:
        self._pipe = pipe
        self._queue = queue
        self._relay = relay
        self._responses = responses
        self._shared = shared
        self._looks = 0

    def loop(self) -> Loop:
        """Returns the loop that looks for orphans three times in each grace period."""
        period = max(self._shared.orphan_ms / 3000, MIN_PERIOD_SECONDS)
        return Loop("orphans", self._look, (period, period))

    async def _look(self) -> None:
        # After the server starts, clients have a whole grace period to reconnect.
        if self._looks < LOOKS_BEFORE_CANCEL:
            self._looks += 1
            await self._report(0)
            return
        for response_id in await self._report(MAX_FOUND):
            await self._cancel(response_id)

    async def _report(self, most: int) -> set[str]:
        """Reports the answers followed here, and returns up to `most` orphans per partition."""
        found: set[str] = set()
        followed: dict[int, list[str]] = {n: [] for n in self._shared.partitions}
        for response_id in self._relay.followed:
            followed.setdefault(partition_of(response_id), []).append(response_id)

        async def report(partition: int) -> None:
            ids = followed[partition]
            for start in range(0, max(len(ids), 1), AT_ONCE):
                some = ids[start : start + AT_ONCE]
                found.update(await self._queue.orphans(partition, some, most))

        with contextlib.suppress(RedisTrouble):
            await each_partition(followed, report)
        return found - self._relay.followed

    async def _cancel(self, response_id: str) -> None:
        # After an error, the orphan is found again in a minute.
        with contextlib.suppress(HoldlineError, Problem):
            view = await read(self._pipe, response_id, 0, max_entries=0)
            if not view.status.ended:
                with tracing.within(view.trace, response_id):
                    log.info("response cancelled: no client follows it")
                    await self._responses.cancel(view.owner, response_id)
