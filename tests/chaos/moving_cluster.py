"""A cluster with replicas in place of a run's single Redis, and its faults.

A slot moves at once or key by key, a replica takes its master's place as planned or after the
master has failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from redis.crc import key_slot

from jobs.errors import HoldlineError
from jobs.names import Partition
from jobs.redis.retry import retry
from tests.chaos.faults import Fault, Faults
from tests.chaos.storage import Storage
from tests.paths.redis_faults.store import Store
from tests.paths.topologies.several import Nodes, ask, cluster, migrate_keys, port_of_master
from tests.system import START_SECONDS, wait_until

MASTERS = 3
PARTITIONS = 12
# The time limit for one step of a move, which other faults may interrupt.
STEP_SECONDS = 20.0
MIGRATED_AT_ONCE = 20


class Group(Storage):
    """A cluster. `port` is the port of some running node, to which other faults send commands."""

    partitions = PARTITIONS

    def __init__(self, folder: Path, nodes: Nodes, down_seconds: float, rng: random.Random) -> None:
        super().__init__(folder, 0)
        self.url = nodes.url
        self.down_seconds = down_seconds
        self.nodes = nodes
        self._rng = rng
        self._all = [*nodes.masters, *nodes.replicas]
        self.down: set[Store] = set()

    @property
    def port(self) -> int:
        return self._rng.choice([node.port for node in self._all if node not in self.down])

    @port.setter
    def port(self, port: int) -> None:
        del port  # the nodes have ports of their own

    @property
    def direct_url(self) -> str:
        return self.url

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to all nodes."""
        for node in self._all:
            node.signal(number)

    async def masters(self) -> list[Store]:
        """Returns the running nodes that say that they are masters."""
        up = [node for node in self._all if node not in self.down]
        return [node for node in up if (await ask(node, "ROLE"))[0] == b"master"]

    async def master_of(self, slot: int) -> Store:
        """Returns the master of a slot."""
        masters = await self.masters()
        port = await port_of_master(slot, masters[0])
        return next(node for node in self._all if node.port == port)

    async def replica_of(self, master: Store) -> Store:
        """Returns the replica of a master."""
        [(_, port, _)] = (await ask(master, "ROLE"))[2]
        return next(node for node in self._all if node.port == int(port))

    async def wait_until_settled(self) -> None:
        """Waits until each master has a connected replica, and all nodes agree on the slots."""

        async def settled() -> bool:
            with contextlib.suppress(HoldlineError):
                masters = await self.masters()
                for node in self._all:
                    if b"cluster_state:ok" not in await ask(node, "CLUSTER", "INFO"):
                        return False
                links = [await ask(node, "INFO", "replication") for node in masters]
                tables = [await ask(node, "CLUSTER", "SLOTS") for node in self._all]
                return (
                    len(masters) == MASTERS
                    and all(b"state=online" in link for link in links)
                    and all(_owners(table) == _owners(tables[0]) for table in tables)
                )
            return False

        await wait_until(settled, START_SECONDS)


def _owners(table: list[tuple[int, int, tuple[bytes, int]]]) -> set[tuple[int, int, int]]:
    return {(first, last, master[1]) for first, last, master, *_ in table}


@contextlib.asynccontextmanager
async def start_group(
    folder: Path, down_seconds: float, rng: random.Random
) -> AsyncIterator[Group]:
    """Starts the cluster. A replica replaces its master after `down_seconds` of silence."""
    down_ms = f"{down_seconds * 1000:.0f}"
    async with cluster(MASTERS, replicas=True, down_ms=down_ms) as nodes:
        yield Group(folder, nodes, down_seconds, rng)


def _alone(fault: Callable[[Faults, Group], Awaitable[str]]) -> Fault:
    """Returns a fault that is not injected while another fault of this kind is under way."""

    async def alone(f: Faults) -> str:
        if f.redis_busy or not isinstance(f.storage, Group):
            return ""
        f.redis_busy = True
        try:
            return await fault(f, f.storage)
        finally:
            f.redis_busy = False

    return alone


async def _choose(f: Faults, group: Group) -> tuple[int, Store, Store]:
    """Returns the slot of some partition, its master and another master."""
    slot = key_slot(Partition(f.rng.randrange(PARTITIONS)).queues.encode())
    source = await group.master_of(slot)
    others = [node for node in await group.masters() if node is not source]
    return slot, source, f.rng.choice(others)


async def _move(f: Faults, group: Group) -> str:
    """Moves a slot with all its keys at once."""
    slot, source, target = await _choose(f, group)
    try:
        await group.nodes.move(slot, source, target)
    except AssertionError:
        return ""  # another fault has interrupted the move, so Redis has cancelled it
    return f"slot {slot} from {source.port} to {target.port}"


async def _reshard(f: Faults, group: Group) -> str:
    """Moves a slot in pieces, with a pause after a random part of its keys."""
    slot, source, target = await _choose(f, group)
    pause, part, moved = f.rng.uniform(0.1, 1.0), f.rng.random(), 0

    async def step(action: Callable[[], Awaitable[int | None]]) -> int:
        return await retry(action, seconds=STEP_SECONDS) or 0

    await step(lambda: group.nodes.begin_move(slot, source, target))
    wanted = part * await step(lambda: ask(source, "CLUSTER", "COUNTKEYSINSLOT", slot))
    while moved < wanted:
        more = await step(lambda: migrate_keys(slot, source, target, MIGRATED_AT_ONCE))
        if not more:
            break
        moved += more
    await asyncio.sleep(pause)
    await step(lambda: group.nodes.end_move(slot, source, target))
    return f"slot {slot} from {source.port} to {target.port}, {pause:.2f} s after {moved} keys"


async def _switch(f: Faults, group: Group) -> str:
    """Lets a replica take the place of its master as planned, which loses nothing."""
    master = f.rng.choice(await group.masters())
    replica = await group.replica_of(master)
    await ask(replica, "CLUSTER", "FAILOVER")
    await asyncio.sleep(1)  # an election may be in progress
    await group.wait_until_settled()
    return f"{master.port} by {replica.port}"


async def _fail(f: Faults, group: Group) -> str:
    """Kills or freezes a master, usually until its replica has replaced it.

    The replica may lack the last writes.
    """
    master = f.rng.choice(await group.masters())
    seconds = f.rng.uniform(0.5, 4.0) * group.down_seconds
    frozen = f.rng.random() < 0.3
    f.fleet.redis_away_at = time.monotonic() + seconds
    group.down.add(master)
    if frozen:
        master.signal(signal.SIGSTOP)
    else:
        await master.kill()
    await asyncio.sleep(seconds)
    if frozen:
        master.signal(signal.SIGCONT)
    else:
        await master.start()
    group.down.discard(master)
    await asyncio.sleep(1)  # an election may be in progress
    await group.wait_until_settled()
    return f"{master.port} {'frozen' if frozen else 'killed'} for {seconds:.2f} s"


KINDS: dict[str, Fault] = {
    "cluster.move": _alone(_move),
    "cluster.reshard": _alone(_reshard),
    "cluster.switch": _alone(_switch),
    "loss.master": _alone(_fail),
}
