"""Connects to a Redis behind Sentinels: each new connection asks them for the current master.

At a failover, Sentinel closes the connections to the old master, and reconnecting finds the new
one. An old master that is unreachable or frozen closes nothing, so a watch on each connection also
listens for the announcement that its master was replaced.
Writes that the old master had acknowledged but not replicated are lost, as in any failover. The
length of the log reveals the loss, and the worker that still has the text appends it again.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, NoReturn
from urllib.parse import urlsplit, urlunsplit

from jobs.errors import RedisAway, RedisRefused
from runtime.loop import cancel_and_wait

from .connection import RECONNECT_SECONDS, Redis, hosts_of, join_host_port
from .wire import pack

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from jobs.cipher import Cipher

    from .wire import Wire

DEFAULT_PORT = 26_379
WATCH_SECONDS: Final = 30.0

Place = tuple[str, str]


class Sentinels(Redis):
    """The connector for `redis+sentinel://[user:password@]host:port,host:port.../name[/db]`.

    User and password are those of the master; the Sentinels need none. `rediss+sentinel` uses TLS
    for the master and the Sentinels.
    """

    def __init__(self, url: str, cipher: Cipher | None = None) -> None:
        self.cipher = cipher
        parts = urlsplit(url)
        scheme = parts.scheme.partition("+")[0]
        login, _, _ = parts.netloc.rpartition("@")
        name, _, db = parts.path.strip("/").partition("/")
        if not name:
            raise ValueError("the name of the master is missing: redis+sentinel://host:port/name")
        self._name = name
        self._opened: Place | None = None  # the master of the latest connection
        self._login = f"{login}@" if login else ""
        self._rest = scheme, f"/{db}" if db else "", parts.query
        self._sentinels = [
            Redis(urlunsplit((scheme, place, "", parts.query, "")))
            for place in hosts_of(parts, DEFAULT_PORT)
        ]

    async def open(self) -> Wire:
        """Opens a connection to the master. Raises: RedisAway."""
        for sentinel in list(self._sentinels):
            place = await self._named_by(sentinel)
            if place is None:
                # This Sentinel is moved to the end, so that the others are asked first next time.
                self._sentinels.remove(sentinel)
                self._sentinels.append(sentinel)
                continue
            master = self._master(*place)
            # A partitioned Sentinel may still name a master that has become a replica.
            if _is_replica(await master.ask("ROLE")):
                continue
            wire = await master.open()
            self._opened = place
            return wire
        raise RedisAway(f"no Sentinel knows a master named {self._name}")

    async def stay_connected(self, serve: Callable[[Wire], Awaitable[None]]) -> NoReturn:
        """As `Redis.stay_connected`; a connection is also closed when its master is replaced.

        A frozen master does not close its connections. When it runs again, it would accept writes
        until a Sentinel makes it a replica, and these writes would be lost.
        """

        async def serve_and_watch(wire: Wire) -> None:
            watch = asyncio.create_task(self._watch(wire, self._opened), name="sentinel watch")
            try:
                await serve(wire)
            finally:
                await cancel_and_wait(watch)

        await super().stay_connected(serve_and_watch)

    async def _watch(self, wire: Wire, place: Place | None) -> None:
        """Closes the connection to the master at `place` when a Sentinel names another one."""
        while True:
            for sentinel in list(self._sentinels):
                with contextlib.suppress(RedisAway, RedisRefused, TimeoutError):
                    await self._watch_by(sentinel, wire, place)
            await asyncio.sleep(RECONNECT_SECONDS[1])

    async def _watch_by(self, sentinel: Redis, wire: Wire, place: Place | None) -> None:
        """Watches for at most `WATCH_SECONDS`: the connection to the Sentinel may be dead."""
        line = await sentinel.open()

        def take(message: object) -> None:
            match message:
                case [b"message", _, bytes(told)] if told.split()[:1] == [self._name.encode()]:
                    wire.close()

        try:
            line.send(pack("SUBSCRIBE", "+switch-master"))
            async with asyncio.timeout(WATCH_SECONDS), asyncio.TaskGroup() as group:
                group.create_task(line.receive(take))
                # A switch before the subscription is not announced, so the master is asked for.
                if await self._named_by(sentinel) not in (None, place):
                    wire.close()
        finally:
            line.close()

    async def _named_by(self, sentinel: Redis) -> Place | None:
        """Returns the master's address according to one Sentinel, or None if it knows none."""
        try:
            reply = await sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
        except (RedisAway, RedisRefused):
            return None
        match reply:
            case [bytes(host), bytes(port)]:
                return host.decode(), port.decode()
            case _:
                return None

    def _master(self, host: str, port: str) -> Redis:
        scheme, db, query = self._rest
        return Redis(urlunsplit((scheme, self._login + join_host_port(host, port), db, query, "")))


def _is_replica(role: object) -> bool:
    return isinstance(role, list) and role[:1] == [b"slave"]
