"""A Redis behind Sentinels: each new connection asks them for the current master.

At a failover Sentinel closes the connections to the old master, and reconnecting finds the new one.
Writes that the old master had acknowledged but not replicated are lost, as in any failover: the
log's length shows it, and the worker that still has the text appends it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from jobs.errors import RedisAway, RedisRefused

from .connection import Redis, hosts_of, join_host_port

if TYPE_CHECKING:
    from jobs.cipher import Cipher

    from .wire import Wire

DEFAULT_PORT = 26_379


class Sentinels(Redis):
    """`redis+sentinel://[user:password@]host:port,host:port.../name[/db]`.

    User and password are the master's; the Sentinels need none. `rediss+sentinel` uses TLS for the
    master and the Sentinels.
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
        self._login = f"{login}@" if login else ""
        self._rest = scheme, f"/{db}" if db else "", parts.query
        self._sentinels = [
            Redis(urlunsplit((scheme, place, "", parts.query, "")))
            for place in hosts_of(parts, DEFAULT_PORT)
        ]

    async def open(self) -> Wire:
        """A new connection to the master. Raises: RedisAway."""
        for sentinel in list(self._sentinels):
            try:
                reply = await sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
            except (RedisAway, RedisRefused):
                # Moved to the end, so that the others are asked first from now on.
                self._sentinels.remove(sentinel)
                self._sentinels.append(sentinel)
                continue
            match reply:
                case [bytes(host), bytes(port)]:
                    return await self._master(host.decode(), port.decode()).open()
                case _:
                    continue
        raise RedisAway(f"no Sentinel names a master of {self._name}")

    def _master(self, host: str, port: str) -> Redis:
        scheme, db, query = self._rest
        return Redis(urlunsplit((scheme, self._login + join_host_port(host, port), db, query, "")))
