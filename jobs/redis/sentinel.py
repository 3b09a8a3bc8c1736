"""Connects to a Redis that Sentinels monitor. Each new connection goes to the current master.

At a failover, Sentinel closes the connections to the old master, and a reconnect finds the new
master. An old master that is frozen or unreachable does not close its connections. So this module
also subscribes to the Sentinels' announcement that a master was replaced, and closes the connection
itself.

A failover loses the writes that the old master had acknowledged but not replicated. The worker of a
response then finds that the log is shorter than expected, and appends the missing text again.
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
    """Opens connections to the current master of a group that Sentinels monitor.

    The URL has the form `redis+sentinel://[user:password@]host:port,host:port.../name[/db]`, with
    the hosts of the Sentinels and the name of the group. User and password are sent only to the
    master. With `rediss+sentinel`, the connections to the master and to the Sentinels use TLS.
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
        self._opened: Place | None = None  # the last master to which a connection was opened
        self._login = f"{login}@" if login else ""
        self._rest = scheme, f"/{db}" if db else "", parts.query
        self._sentinels = [
            Redis(urlunsplit((scheme, place, "", parts.query, "")))
            for place in hosts_of(parts, DEFAULT_PORT)
        ]

    async def open(self) -> Wire:
        """Opens a connection to the current master. Raises: RedisAway."""
        for sentinel in list(self._sentinels):
            place = await self._master_by(sentinel)
            if place is not None:
                wire = await self._node(*place).open()
                self._opened = place
                return wire
            # This Sentinel named no running master. It is moved to the end of the list, so the next
            # attempt asks the other Sentinels first.
            self._sentinels.remove(sentinel)
            self._sentinels.append(sentinel)
        raise RedisAway(f"no Sentinel knows a master named {self._name}")

    async def stay_connected(self, serve: Callable[[Wire], Awaitable[None]]) -> NoReturn:
        """Extends `Redis.stay_connected`: closes the connection when its master is replaced.

        A frozen master does not close its connections. When it continues, it would accept writes
        until a Sentinel makes it a replica, and all these writes would be lost.
        """

        async def serve_and_watch(wire: Wire) -> None:
            watch = asyncio.create_task(self._watch(wire, self._opened), name="sentinel watch")
            try:
                await serve(wire)
            finally:
                await cancel_and_wait(watch)

        await super().stay_connected(serve_and_watch)

    async def _watch(self, wire: Wire, place: Place | None) -> None:
        """Closes the connection to the master at `place` when a Sentinel names another master."""
        while True:
            for sentinel in list(self._sentinels):
                with contextlib.suppress(RedisAway, RedisRefused, TimeoutError):
                    await self._watch_by(sentinel, wire, place)
            await asyncio.sleep(RECONNECT_SECONDS[1])

    async def _watch_by(self, sentinel: Redis, wire: Wire, place: Place | None) -> None:
        """Waits up to `WATCH_SECONDS` for one Sentinel to announce that the master was replaced.

        The time is limited, because the connection to the Sentinel may be dead without notice.
        """
        line = await sentinel.open()

        def take(message: object) -> None:
            match message:
                case [b"message", _, bytes(told)]:
                    # The name of the group, and host and port of its old and its new master.
                    fields = told.decode().split()
                    if fields[:1] == [self._name] and tuple(fields[3:]) != place:
                        wire.close()
                case _:
                    pass  # the reply to SUBSCRIBE

        try:
            line.send(pack("SUBSCRIBE", "+switch-master"))
            async with asyncio.timeout(WATCH_SECONDS), asyncio.TaskGroup() as group:
                group.create_task(line.receive(take))
                # The Sentinel does not announce a replacement that took place before the
                # subscription, so this query checks whether the master is still the same.
                if await self._master_by(sentinel) not in (None, place):
                    wire.close()
        finally:
            line.close()

    async def _master_by(self, sentinel: Redis) -> Place | None:
        """Returns the address of the running master that one Sentinel names, or None.

        A partitioned Sentinel still names the old master after a failover. The old master may be
        frozen or dead, or may have become a replica, so the named node must reply to ROLE.
        """
        place = await self._named_by(sentinel)
        if place is None:
            return None
        try:
            role = await self._node(*place).ask("ROLE")
        except RedisAway:
            return None
        except RedisRefused:
            return place  # `open` raises this error
        return None if _is_replica(role) else place

    async def _named_by(self, sentinel: Redis) -> Place | None:
        """Asks one Sentinel for the master's address. Returns None if the Sentinel knows none."""
        try:
            reply = await sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
        except (RedisAway, RedisRefused):
            return None
        match reply:
            case [bytes(host), bytes(port)]:
                return host.decode(), port.decode()
            case _:
                return None

    def _node(self, host: str, port: str) -> Redis:
        scheme, db, query = self._rest
        return Redis(urlunsplit((scheme, self._login + join_host_port(host, port), db, query, "")))


def _is_replica(role: object) -> bool:
    return isinstance(role, list) and role[:1] == [b"slave"]
