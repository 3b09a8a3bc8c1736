"""Connects to a Redis Cluster or Valkey Cluster, and sends each command to the node with its key.

All keys of a partition are in one slot, so each script runs on one node. Notifications use plain
pub/sub, which a cluster forwards to all nodes. So a connection to any node receives all messages.

The slot table, which maps slots to nodes, is read at the start, every few seconds, and whenever a
node is lost or replies MOVED. A command is sent to another node only if the first node certainly
did not execute it. Operators must move slots atomically, as Valkey 9 does. While a slot is divided
between two nodes, a script would see only some of its keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit, urlunsplit

from redis.crc import key_slot

from jobs.errors import RedisAway, RedisRefused
from runtime.loop import Loop

from .connection import Redis, hosts_of, join_host_port
from .pipe import Pipe
from .wire import pack

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobs.cipher import Cipher
    from jobs.scripts import Call

    from .wire import Argument, Wire

DEFAULT_PORT = 6379
REFRESH_SECONDS = 10.0
# The minimum number of seconds between two reads of the slot table, even after many errors.
MIN_REFRESH_SECONDS = 0.2
RETRY_SECONDS = 0.05
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

    @property
    def masters(self) -> set[str]:
        """The `host:port` of each master in the slot table."""
        return {host for _, _, host in self.table}

    def owner(self, slot: int) -> str | None:
        """Returns the `host:port` of the master that has a slot, or None if no master is known."""
        return next((host for low, high, host in self.table if low <= slot <= high), None)

    def node(self, host: str) -> Redis:
        """Returns an object that opens connections to the node at `host:port`."""
        return Redis(urlunsplit((self._scheme, self._login + host, "", self._query, "")))

    def pipe(self, *, deadline: float = 5.0) -> ClusterPipe:
        """Returns a pipe to all masters. `deadline` is the time limit of a command in seconds."""
        return ClusterPipe(self, deadline=deadline)

    async def open(self) -> Wire:
        """Opens a connection to any node of the cluster. Raises: RedisAway."""
        for host in self._hosts():
            with contextlib.suppress(RedisAway, RedisRefused):
                return await self.node(host).open()
        raise RedisAway("no node of the cluster can be reached")

    async def refresh(self) -> None:
        """Reads the slot table from any node. Raises: RedisAway if no node replies."""
        for host in self._hosts():
            with contextlib.suppress(RedisAway, RedisRefused):
                reply = await self.node(host).ask("CLUSTER", "SLOTS")
                if isinstance(reply, list) and reply:
                    self.table = [_range(row, host) for row in reply]
                    return
        raise RedisAway("no node of the cluster has sent a slot table")

    def _hosts(self) -> list[str]:
        """Returns all known nodes in random order, so that a dead node is not always the first."""
        known = list(self.masters | set(self._seeds))
        random.shuffle(known)
        return known


class ClusterPipe(Pipe):
    """Sends each command over the pipe to the master that has the command's key."""

    sees_subscribers = False

    def __init__(self, cluster: Cluster, *, deadline: float) -> None:
        super().__init__(cluster, deadline=deadline)
        self._cluster = cluster
        self._pipes: dict[str, Pipe] = {}
        pause = (REFRESH_SECONDS, REFRESH_SECONDS)
        self._refreshing = Loop("cluster", self._refresh, pause)
        # A blocking pop delays all later commands on its pipe, so each list has a separate pipe.
        # The dictionary also stores the node of each pipe, because a list may move to another node.
        self._waiting: dict[str, tuple[str, Pipe]] = {}
        self._popping: dict[str, asyncio.Task[list[bytes] | None]] = {}

    @property
    def connected(self) -> bool:
        """True while every master is connected."""
        masters = self._cluster.masters
        return bool(masters) and all(
            host in self._pipes and self._pipes[host].connected for host in masters
        )

    async def __aenter__(self) -> Self:
        self._refreshing.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._refreshing.stop()
        for task in self._popping.values():
            task.cancel()
        await asyncio.gather(*self._popping.values(), return_exceptions=True)
        for pipe in [*self._pipes.values(), *(pipe for _, pipe in self._waiting.values())]:
            await pipe.__aexit__()

    async def nodes(self) -> list[Pipe]:
        """Returns a pipe to each master. Raises: RedisAway."""
        await self._at(0, time.monotonic() + self._deadline)
        return [self._pipes[host] for host in sorted(self._cluster.masters & set(self._pipes))]

    def begin(self, call: Call) -> asyncio.Future[Any] | None:
        """Sends a script once to the node that has its keys, in the same way as `Pipe.begin`."""
        pipe = self._pipes.get(self._cluster.owner(key_slot(call[2].encode())) or "")
        return None if pipe is None else pipe.begin(call)

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
            except RedisAway:
                self._refreshing.wake()
                raise
            except RedisRefused as refusal:
                moved = str(refusal).partition(" ")[0]
                if moved == "ASK":
                    raise RedisAway("the keys are being moved to another node") from refusal
                if moved != "MOVED" or time.monotonic() >= until:
                    raise
            self._refreshing.wake()
            await asyncio.sleep(RETRY_SECONDS)

    async def pop(self, keys: Iterable[str], seconds: int) -> list[bytes] | None:
        """Pops an element from one of several lists, in the same way as `Pipe.pop`.

        If several lists return an element at once, later calls return the other elements.
        """
        for key in keys:
            if key not in self._popping:
                self._popping[key] = asyncio.create_task(self._pop(key, seconds), name="pop")
        await asyncio.wait(self._popping.values(), return_when=asyncio.FIRST_COMPLETED)
        for key, task in list(self._popping.items()):
            if task.done():
                del self._popping[key]
                if (popped := task.result()) is not None:
                    return popped
        return None

    async def _pop(self, key: str, seconds: int) -> list[bytes] | None:
        slot = key_slot(key.encode())
        await self._at(slot, time.monotonic() + self._deadline)
        host = self._cluster.owner(slot) or ""
        last_host, pipe = self._waiting.get(key, ("", None))
        if pipe is None or last_host != host:
            if pipe is not None:
                await pipe.__aexit__()
            pipe = await self._cluster.node(host).pipe(deadline=self._deadline).__aenter__()
            self._waiting[key] = host, pipe
        try:
            return await pipe.pop([key], seconds)
        except RedisRefused as refusal:
            self._refreshing.wake()
            raise RedisAway(str(refusal).partition(" ")[0]) from refusal

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
            await self._cluster.refresh()
            await self._update_pipes()
        await asyncio.sleep(MIN_REFRESH_SECONDS)

    async def _update_pipes(self) -> None:
        masters = self._cluster.masters
        for host in masters - set(self._pipes):
            pipe = self._cluster.node(host).pipe(deadline=self._deadline)
            self._pipes[host] = await pipe.__aenter__()
        for host in set(self._pipes) - masters:
            await self._pipes.pop(host).__aexit__()


def _range(row: list[Any], asked: str) -> tuple[int, int, str]:
    low, high, (host, port, *_), *_ = row
    # A node that does not know its own address omits the host in its rows. So a row without a host
    # belongs to the node that was asked.
    name = host.decode() if host else urlsplit(f"//{asked}").hostname
    return low, high, join_host_port(name, port)
