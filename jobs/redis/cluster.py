"""A Redis Cluster or Valkey Cluster: each command goes to the node that has its key.

All keys of a partition have one slot, so a script is on one node as before. The bell is plain
pub/sub, which a cluster brings to all its nodes: one connection to any of them hears everything.

The table of who has which slot is asked for at the start, every few seconds, and whenever a node
goes away or says that it is another's. Only a command that was surely not executed goes elsewhere.
A slot must move as one, as Valkey 9 does it: of one that is on two nodes a script sees half.
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
from runtime.loop import cancel_and_wait

from .connection import Redis, hosts_of, join_host_port
from .pipe import Pipe
from .wire import pack

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobs.cipher import Cipher

    from .wire import Argument, Wire

DEFAULT_PORT = 6379
REFRESH_SECONDS = 10.0
# Between two questions for the table, however much is amiss.
LEAST_SECONDS = 0.2
AGAIN_SECONDS = 0.05
# Any node will do.
_KEYLESS = {"CLUSTER", "INFO", "PING", "SCRIPT", "TIME", "WAIT"}

# host:port of a master, for every range of slots
Table = list[tuple[int, int, str]]


class Cluster(Redis):
    """`redis+cluster://[user:password@]host:port,host:port...`, any nodes of it."""

    def __init__(self, url: str, cipher: Cipher | None = None) -> None:
        self.cipher = cipher
        parts = urlsplit(url)
        login, _, _ = parts.netloc.rpartition("@")
        self._scheme = parts.scheme.partition("+")[0]
        self._login = f"{login}@" if login else ""
        self._query = parts.query
        self._seeds = hosts_of(parts, DEFAULT_PORT)
        self.table: Table = []

    @property
    def masters(self) -> set[str]:
        """`host:port` of each, as far as they are known."""
        return {place for _, _, place in self.table}

    def owner(self, slot: int) -> str | None:
        """Who has a slot, as `host:port`."""
        return next((place for low, high, place in self.table if low <= slot <= high), None)

    def node(self, place: str) -> Redis:
        """One of its nodes."""
        return Redis(urlunsplit((self._scheme, self._login + place, "", self._query, "")))

    def pipe(self, *, deadline: float = 5.0) -> ClusterPipe:
        """A pipe to all of it."""
        return ClusterPipe(self, deadline=deadline)

    async def open(self) -> Wire:
        """A new connection to any node. Raises: RedisAway."""
        for place in self._places():
            with contextlib.suppress(RedisAway):
                return await self.node(place).open()
        raise RedisAway("no node of the cluster can be reached")

    async def refresh(self) -> None:
        """Asks for the table. Raises: RedisAway where no node answers."""
        for place in self._places():
            with contextlib.suppress(RedisAway):
                reply = await self.node(place).ask("CLUSTER", "SLOTS")
                if isinstance(reply, list) and reply:
                    self.table = [_range(row, place) for row in reply]
                    return
        raise RedisAway("no node of the cluster tells who has which slot")

    def _places(self) -> list[str]:
        """Everybody who may answer, in any order: who is dead is not always the first."""
        known = list(self.masters | set(self._seeds))
        random.shuffle(known)
        return known


class ClusterPipe(Pipe):
    """A pipe to each master, and the table that says which of them a command is for."""

    def __init__(self, cluster: Cluster, *, deadline: float) -> None:
        super().__init__(cluster, deadline=deadline)
        self._cluster = cluster
        self._pipes: dict[str, Pipe] = {}
        self._stale = asyncio.Event()
        # One of its own for every list that is waited for, and where that list was then.
        self._waiting: dict[str, tuple[str, Pipe]] = {}
        self._popping: dict[str, asyncio.Task[list[bytes] | None]] = {}

    @property
    def connected(self) -> bool:
        """True while there is a connection to every master."""
        masters = self._cluster.masters
        return bool(masters) and all(
            place in self._pipes and self._pipes[place].connected for place in masters
        )

    async def __aenter__(self) -> Self:
        self._owner = asyncio.create_task(self._keep_table(), name="cluster")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._owner is not None:
            await cancel_and_wait(self._owner)
        for task in self._popping.values():
            task.cancel()
        await asyncio.gather(*self._popping.values(), return_exceptions=True)
        for pipe in [*self._pipes.values(), *(pipe for _, pipe in self._waiting.values())]:
            await pipe.__aexit__()

    async def nodes(self) -> list[Pipe]:
        """A pipe to each master. Raises: RedisAway."""
        await self._at(0, time.monotonic() + self._deadline)
        return [self._pipes[place] for place in sorted(self._cluster.masters & set(self._pipes))]

    def begin(
        self, script: str, keys: list[str], args: list[Argument]
    ) -> asyncio.Future[Any] | None:
        """As `Pipe.begin`."""
        pipe = self._pipes.get(self._cluster.owner(key_slot(keys[0].encode())) or "")
        return None if pipe is None else pipe.begin(script, keys, args)

    async def call(self, *command: Argument, at: str = "") -> Any:
        """As `Pipe.call`, at the node that has the key of the command."""
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
                self._stale.set()
                raise
            except RedisRefused as refusal:
                moved = str(refusal).partition(" ")[0]
                if moved == "ASK":
                    raise RedisAway("the keys are on their way to another node") from refusal
                if moved != "MOVED" or time.monotonic() >= until:
                    raise
            self._stale.set()
            await asyncio.sleep(AGAIN_SECONDS)

    async def pop(self, keys: Iterable[str], seconds: int) -> list[bytes] | None:
        """As `Pipe.pop`. What another list gives meanwhile is the next answer."""
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
        place = self._cluster.owner(slot) or ""
        was, pipe = self._waiting.get(key, ("", None))
        if pipe is None or was != place:
            if pipe is not None:
                await pipe.__aexit__()
            pipe = await self._cluster.node(place).pipe(deadline=self._deadline).__aenter__()
            self._waiting[key] = place, pipe
        try:
            return await pipe.pop([key], seconds)
        except RedisRefused as refusal:
            self._stale.set()
            raise RedisAway(str(refusal).partition(" ")[0]) from refusal

    async def _at(self, slot: int, until: float) -> Pipe:
        """The pipe to whoever has this slot, once there is a connection to it."""
        while True:
            pipe = self._pipes.get(self._cluster.owner(slot) or "")
            if pipe is not None and pipe.connected:
                return pipe
            self._stale.set()
            if time.monotonic() >= until:
                raise RedisAway("no connection to the node that has this key")
            await asyncio.sleep(AGAIN_SECONDS)

    async def _keep_table(self) -> None:
        while True:
            with contextlib.suppress(RedisAway):
                await self._cluster.refresh()
                await self._follow_table()
            await asyncio.sleep(LEAST_SECONDS)
            self._stale.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_SECONDS):
                    await self._stale.wait()

    async def _follow_table(self) -> None:
        masters = self._cluster.masters
        for place in masters - set(self._pipes):
            pipe = self._cluster.node(place).pipe(deadline=self._deadline)
            self._pipes[place] = await pipe.__aenter__()
        for place in set(self._pipes) - masters:
            await self._pipes.pop(place).__aexit__()


def _range(row: list[Any], asked: str) -> tuple[int, int, str]:
    low, high, (host, port, *_), *_ = row
    # A node that does not know its own address leaves it out: it is where it was asked.
    return (
        low,
        high,
        join_host_port(host.decode() if host else urlsplit(f"//{asked}").hostname, port),
    )
