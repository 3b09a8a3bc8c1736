"""A master with a replica and three Sentinels, in place of a run's single Redis."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

from jobs.errors import HoldlineError
from tests.chaos.faults import Fault, Faults
from tests.chaos.storage import Storage
from tests.paths.redis_faults.store import Store
from tests.paths.topologies.several import with_sentinels
from tests.system import START_SECONDS


class Pair(Storage):
    """A master and its replica. `port` is the master's port."""

    def __init__(
        self, folder: Path, url: str, nodes: tuple[Store, Store], down_seconds: float
    ) -> None:
        super().__init__(folder, nodes[0].port)
        self.url = url
        self.down_seconds = down_seconds
        self._nodes = nodes

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the master."""
        next(node for node in self._nodes if node.port == self.port).signal(number)

    async def wait_until_settled(self) -> None:
        """Waits until one node is the master and the other one is its connected replica."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(HoldlineError):
                roles = [await node.call("ROLE") for node in self._nodes]
                masters = [role[0] == b"master" for role in roles]
                if sum(masters) == 1 and b"connected" in roles[not masters.index(True)]:
                    self.port = self._nodes[masters.index(True)].port
                    return
            await asyncio.sleep(0.05)  # the polling interval


@contextlib.asynccontextmanager
async def start_pair(folder: Path, down_seconds: float) -> AsyncIterator[Pair]:
    """Starts both nodes, and Sentinels that replace a master after `down_seconds` of silence."""
    down_ms = f"{down_seconds * 1000:.0f}"
    async with with_sentinels(folder, down_ms=down_ms) as (url, master, replica):
        yield Pair(folder, url, (master, replica), down_seconds)


async def _freeze(f: Faults, least: float, most: float) -> str:
    if f.redis_busy or not isinstance(f.storage, Pair):
        return ""
    f.redis_busy = True
    seconds = f.rng.uniform(least, most) * f.storage.down_seconds
    f.fleet.redis_away_at = time.monotonic() + seconds
    before = f.storage.port
    f.storage.signal(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    f.storage.signal(signal.SIGCONT)
    await asyncio.sleep(1)  # an election may be in progress
    await f.storage.wait_until_settled()
    f.redis_busy = False
    return f"{seconds:.2f} s" + (", replaced" if before != f.storage.port else "")


async def sentinel_freeze(f: Faults) -> str:
    """Freezes the master for less time than the Sentinels wait, so they do not replace it."""
    return await _freeze(f, 0.1, 0.5)


async def loss_failover(f: Faults) -> str:
    """Freezes the master, usually until its replica has replaced it.

    The replica may lack the last writes.
    """
    return await _freeze(f, 1.2, 6.0)


KINDS: dict[str, Fault] = {
    "sentinel.freeze": sentinel_freeze,
    "loss.failover": loss_failover,
}
