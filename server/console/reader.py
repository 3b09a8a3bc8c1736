"""Reads the state of the service from Redis, at most once at a time and only if it is needed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from jobs.errors import RedisAway
from jobs.names import Partition
from jobs.overview import read_overview
from jobs.redis.node_state import node_states
from jobs.running import running_jobs
from jobs.server_registry import ServerRegistry
from jobs.worker_registry import WorkerRegistry

from .fleet import Fleet
from .state import MAX_ANSWERS, MAX_DEAD, state_of
from .timeline import Timelines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from jobs.record import SharedSettings
    from jobs.redis.node_state import NodeState
    from jobs.redis.pipe import Pipe
    from jobs.worker_registry import WorkerPage
    from server.api.schema.console import State, Timeline

DEADLINE_SECONDS: Final = 5.0
# A state that is younger than this is not read again, however many clients ask.
FRESH_SECONDS: Final = 0.5
# The memory of Redis changes slowly, and reading it takes three commands for each master.
NODES_SECONDS: Final = 5.0


@contextlib.asynccontextmanager
async def _in_turn(lock: asyncio.Lock) -> AsyncIterator[None]:
    """Holds the lock. The deadline includes the wait for it: earlier callers may wait for Redis."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS), lock:
            yield
    except TimeoutError:
        raise RedisAway("Redis did not reply in time") from None


class StateReader:
    """Reads the state of the service. All methods raise RedisTrouble."""

    def __init__(self, pipe: Pipe, shared: SharedSettings, models: Collection[str]) -> None:
        """`models` are the models that are shown even if no job waits for them."""
        self._pipe = pipe
        self._shared = shared
        self._models = models
        self._workers = WorkerRegistry(pipe, shared.lease_ms)
        self._servers = ServerRegistry(pipe)
        self._fleet = Fleet()
        self._timelines = Timelines(pipe, self._fleet)
        self._lock = asyncio.Lock()
        self._nodes: list[NodeState] = []
        self._nodes_until = 0.0
        self._page_lock = asyncio.Lock()
        self._last: State | None = None
        self._read_at = 0.0

    async def read(self) -> State:
        """Returns a state that is at most `FRESH_SECONDS` old."""
        async with _in_turn(self._lock):
            if self._last is None or time.monotonic() - self._read_at > FRESH_SECONDS:
                self._last = await self._read()
                self._read_at = time.monotonic()
            return self._last

    async def page(self, after: str, most: int) -> WorkerPage:
        """Returns up to `most` live workers whose ids come after `after`.

        One page is read at a time. A page takes milliseconds of processor time, and several at once
        would delay the other clients of the server.
        """
        async with _in_turn(self._page_lock):
            return await self._workers.page(after, most)

    async def _read(self) -> State:
        partitions = self._shared.partitions
        if time.monotonic() >= self._nodes_until:
            self._nodes = await node_states(self._pipe)
            self._nodes_until = time.monotonic() + NODES_SECONDS
        # The overview has the time of the state, which must not be before a record was written.
        live, servers = await asyncio.gather(self._workers.all(), self._servers.all())
        overview, running, *dead = await asyncio.gather(
            read_overview(self._pipe, self._shared, self._models),
            running_jobs(self._pipe, partitions, MAX_ANSWERS),
            *(
                self._pipe.call("LRANGE", Partition(number).dead, 0, MAX_DEAD - 1)
                for number in partitions
            ),
        )
        entries = [entry for part in dead for entry in part]
        self._fleet.update(live)
        return state_of(overview, self._fleet, running, entries, self._models, self._nodes, servers)

    async def timeline(self, response_id: str) -> Timeline:
        """Returns the timeline of a response, which has no status if the response is unknown."""
        state = await self.read()
        return await self._timelines.read(response_id, state.read_at)
