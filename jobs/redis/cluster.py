"""Connects to a Redis Cluster or Valkey Cluster, and sends each command to the node with its key.

All keys and channels of a partition are in one slot, so each script runs on one node. One
connection to each master carries the commands of all its partitions.

The slot table, which maps slots to nodes, is read at the start, every few seconds, and whenever a
node is lost or replies MOVED. A command is sent to another node only if the first node certainly
did not execute it.

Valkey 9 can move a slot at once. Other versions move it key by key, and meanwhile two nodes have a
part of the keys each. A script that ran on one of them would miss keys, and could fail after some
of its writes. Redis refuses a script if a key that it declares is missing, but scripts do not
declare all keys that they use. So each call declares one more key, which never exists (`guarded`).
Redis then refuses all scripts of a slot that is being moved, with the reply ASK or TRYAGAIN, and
the pipe repeats them until the slot has moved.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit, urlunsplit

from redis.crc import key_slot

from jobs.errors import RedisAway, RedisNotReady, RedisRefused
from runtime.loop import Loop

from .connection import Redis, hosts_of, join_host_port
from .pipe import WATCH_SECONDS, Pipe
from .wire import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jobs.cipher import Cipher
    from jobs.scripts import Call

    from .wire import Argument

DEFAULT_PORT = 6379
REFRESH_SECONDS = 10.0
# The minimum number of seconds between two reads of the slot table, even after many errors.
MIN_REFRESH_SECONDS = 0.2
# The time limit for one node to send its slot table. A frozen node must not delay the others.
TABLE_SECONDS = 2.0
RETRY_SECONDS = 0.05
# The replies of a node to a command that it has not executed, because the slot is being moved.
MOVING = {"ASK", "TRYAGAIN"}
# The commands that have no key, so any node can execute them.
_KEYLESS = {"CLUSTER", "INFO", "PING", "SCRIPT", "TIME", "WAIT"}

# Each row has the first slot and the last slot of a range, and the `host:port` of its master.
SlotTable = list[tuple[int, int, str]]


class Cluster(Redis):
    """Opens connections to the nodes of a cluster.

    The URL has the form `redis+cluster://[user:password@]host:port,host:port...`. Its hosts may be
    any nodes of the cluster.
    """

    def __init__(self, url: str, cipher: Cipher | None = None) -> None:
        self.cipher = cipher
        parts = urlsplit(url)
        login, _, _ = parts.netloc.rpartition("@")
        self._scheme = parts.scheme.partition("+")[0]
        self._login = f"{login}@" if login else ""
        self._query = parts.query
        self._seeds = hosts_of(parts, DEFAULT_PORT)
        self.table: SlotTable = []
        self._owners: dict[int, str | None] = {}
        self.on_doubt: set[Callable[[], None]] = set()

    @property
    def masters(self) -> set[str]:
        """The `host:port` of each master in the slot table."""
        return {host for _, _, host in self.table}

    def owner(self, slot: int) -> str | None:
        """Returns the `host:port` of the master that has a slot, or None if no master is known."""
        try:
            return self._owners[slot]
        except KeyError:
            rows = self.table
            found = next((host for low, high, host in rows if low <= slot <= high), None)
            return self._owners.setdefault(slot, found)

    def node_of(self, key: str) -> str | None:
        """Returns the `host:port` of the master that has a key or a channel, or None."""
        return self.owner(key_slot(key.encode()))

    def node(self, host: str) -> Redis:
        """Returns an object that opens connections to the node at `host:port`."""
        return Redis(urlunsplit((self._scheme, self._login + host, "", self._query, "")))

    def doubt(self) -> None:
        """Makes the pipes of this cluster read the slot table again."""
        for wake in self.on_doubt:
            wake()

    def pipe(self, *, deadline: float = 5.0) -> ClusterPipe:
        """Returns a pipe to all masters. `deadline` is the time limit of a command in seconds."""
        return ClusterPipe(self, deadline=deadline)

    async def refresh(self, pipes: Mapping[str, Pipe]) -> None:
        """Reads the slot table from any node, over its pipe if it is connected.

        A node that has lost the majority of the masters may have an old table. Its table is used
        only if no other table is known. Raises: RedisAway if no node replies.
        """
        for host in self._hosts():
            with contextlib.suppress(RedisAway, RedisRefused, TimeoutError):
                pipe = pipes.get(host)
                ask = pipe.call if pipe is not None and pipe.connected else self.node(host).ask
                async with asyncio.timeout(TABLE_SECONDS):
                    info, rows = await ask("CLUSTER", "INFO"), await ask("CLUSTER", "SLOTS")
                if not isinstance(info, bytes) or not isinstance(rows, list) or not rows:
                    continue
                if not self.table or b"cluster_state:ok" in info:
                    table = sorted(_range(row, host) for row in rows)
                    if table != self.table:
                        self.table, self._owners = table, {}
                        self.version += 1
                    return
        raise RedisAway("no node of the cluster has sent a slot table")

    def _hosts(self) -> list[str]:
        """Returns all known nodes in random order, so that a dead node is not always the first."""
        known = list(self.masters | set(self._seeds))
        random.shuffle(known)
        return known


class ClusterPipe(Pipe):
    """Sends each command over the pipe to the master that has the command's key."""

    def __init__(self, cluster: Cluster, *, deadline: float) -> None:
        super().__init__(cluster, deadline=deadline)
        self._cluster = cluster
        self._pipes: dict[str, Pipe] = {}
        pause = (REFRESH_SECONDS, REFRESH_SECONDS)
        self._refreshing = Loop("cluster", self._refresh, pause)

    @property
    def connected(self) -> bool:
        """True while every master is connected."""
        masters = self._cluster.masters
        return bool(masters) and all(
            host in self._pipes and self._pipes[host].connected for host in masters
        )

    def is_connected_for(self, key: str) -> bool:
        """Returns True while the master that has this key is connected."""
        pipe = self._pipes.get(self._cluster.node_of(key) or "")
        return pipe is not None and pipe.connected

    async def __aenter__(self) -> Self:
        self._refreshing.start()
        self._cluster.on_doubt.add(self._refreshing.wake)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._cluster.on_doubt.discard(self._refreshing.wake)
        await self._refreshing.stop()
        for pipe in self._pipes.values():
            await pipe.__aexit__()

    async def nodes(self) -> list[Pipe]:
        """Returns a pipe to each master. Raises: RedisAway."""
        await self._at(0, time.monotonic() + self._deadline)
        return [self._pipes[host] for host in sorted(self._cluster.masters & set(self._pipes))]

    async def run(self, call: Call) -> Any:
        """Runs a script on the node that has its keys, in the same way as `Pipe.run`."""
        return await super().run(guarded(call))

    def begin(self, call: Call) -> asyncio.Future[Any] | None:
        """Sends a script once to the node that has its keys, in the same way as `Pipe.begin`."""
        pipe = self._pipes.get(self._cluster.owner(key_slot(call[2].encode())) or "")
        return None if pipe is None else pipe.begin(guarded(call))

    async def call(self, *command: Argument, at: str = "") -> Any:
        """Sends a command once to the node that has its key, in the same way as `Pipe.call`."""
        key = at if at or command[0] in _KEYLESS else command[1]
        name = key if isinstance(key, bytes) else str(key)
        return await self._reply(pack(*command), name, time.monotonic() + self._deadline)

    async def _reply(self, packed: bytes, key: str | bytes, until: float) -> Any:
        slot = key_slot(key if isinstance(key, bytes) else key.encode())
        while True:
            pipe = await self._at(slot, until)
            try:
                return await pipe.send(packed, until)
            # A command that was sent just before its deadline would end the connection.
            except RedisAway as error:
                self._refreshing.wake()
                moving = isinstance(error, RedisNotReady) and error.code in MOVING
                if not moving or time.monotonic() + WATCH_SECONDS >= until:
                    raise
            except RedisRefused as refusal:
                moved = str(refusal).startswith("MOVED ")
                if not moved or time.monotonic() + WATCH_SECONDS >= until:
                    raise
            self._refreshing.wake()
            await asyncio.sleep(RETRY_SECONDS)

    async def _at(self, slot: int, until: float) -> Pipe:
        """Waits until the master that has this slot is connected, and returns the pipe to it."""
        while True:
            pipe = self._pipes.get(self._cluster.owner(slot) or "")
            if pipe is not None and pipe.connected:
                return pipe
            self._refreshing.wake()
            if time.monotonic() >= until:
                raise RedisAway("no connection to the node that has this key")
            await asyncio.sleep(RETRY_SECONDS)

    async def _refresh(self) -> None:
        with contextlib.suppress(RedisAway):
            await self._cluster.refresh(self._pipes)
            await self._update_pipes()
        await asyncio.sleep(MIN_REFRESH_SECONDS)

    async def _update_pipes(self) -> None:
        masters = self._cluster.masters
        for host in masters - set(self._pipes):
            pipe = self._cluster.node(host).pipe(deadline=self._deadline)
            self._pipes[host] = await pipe.__aenter__()
        for host in set(self._pipes) - masters:
            await self._pipes.pop(host).__aexit__()


def guarded(call: Call) -> Call:
    """Returns a call with one more key, so that Redis refuses it while the slot is being moved.

    The key is in the same slot as the others, and never exists.
    """
    name, count, key = call[:3]
    end = 2 + count
    never = f"{key[: key.index('}') + 1]}:never"
    return (name, count + 1, *call[2:end], never, *call[end:])


def _range(row: list[Any], asked: str) -> tuple[int, int, str]:
    low, high, (host, port, *_), *_ = row
    # A node that does not know its own address omits the host in its rows. So a row without a host
    # belongs to the node that was asked.
    name = host.decode() if host else urlsplit(f"//{asked}").hostname
    return low, high, join_host_port(name, port)
