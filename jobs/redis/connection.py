"""Opens connections to a Redis server.

The library redis-py only opens a connection, with TLS, authentication and the database number. The
modules `pipe` and `subscriber` then read and write the connection directly, for two reasons: the
pool of redis-py repeats commands and, on Python 3.11 with a socket timeout, swallows cancellations;
and its pub/sub loses messages silently.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NoReturn

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.maint_notifications import MaintNotificationsConfig

from jobs.errors import RedisAway, RedisRefused, RedisUnsuitable
from runtime.backoff import backoff

from .error_reply import exception_of
from .pipe import Pipe
from .wire import Wire, pack

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from jobs.cipher import Cipher

    from .wire import Argument

CONNECT_SECONDS = 3.0
RECONNECT_SECONDS = (0.05, 1.0)
_PORT = re.compile(r"[^:]:\d+$|\]:\d+$")

# The errors that a failed attempt to connect may raise. On Python 3.12 and newer, redis-py raises
# AttributeError or TypeError when the connection is reset.
CONNECTION_ERRORS = (RedisError, OSError, EOFError, AttributeError, TypeError, TimeoutError)


class Redis:
    """Opens connections to a single Redis server.

    `cipher` encrypts jobs and logs; it is None if they are not encrypted. `refusal` is the error
    reply to the last login, or None if the login succeeded. The subclass `sentinel.Sentinels`
    connects to the current master of a group, and `cluster.Cluster` to the nodes of a cluster.
    """

    refusal: str | None = None
    # The version of the slot table. It only changes in a cluster.
    version = 0

    def __init__(self, url: str, cipher: Cipher | None = None) -> None:
        self.cipher = cipher
        self._pool = ConnectionPool.from_url(
            url,
            protocol=2,
            socket_timeout=None,
            socket_connect_timeout=CONNECT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )

    async def open(self) -> Wire:
        """Opens a new connection to Redis.

        Raises: RedisAway after `CONNECT_SECONDS` at the latest; RedisRefused for a wrong password.
        """
        connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        if not isinstance(connection, AbstractConnection):
            raise RedisUnsuitable(f"unsupported connection class {type(connection).__name__}")
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await connection.connect()  # type: ignore[no-untyped-call]
        except CONNECTION_ERRORS as error:
            for cause in (error, error.__cause__):
                if isinstance(cause, AuthenticationError):
                    # redis-py removes the code from the error reply, but `exception_of` needs it.
                    code = "NOAUTH" if "required" in str(cause) else "WRONGPASS"
                    self.refusal = f"{code} {cause}"
                    raise exception_of(self.refusal) from error
            raise RedisAway(f"cannot connect to Redis: {type(error).__name__}") from error
        self.refusal = None
        reader, writer = connection._reader, connection._writer  # noqa: SLF001 - see the docstring
        if reader is None or writer is None:
            raise RedisAway("cannot connect to Redis: it closed the connection")
        # The Wire owns the reader and the writer now, so redis-py must not close them.
        connection._reader = connection._writer = None  # noqa: SLF001
        return Wire(reader, writer)

    def node_of(self, key: str) -> str | None:
        """Returns the name of the master that has a key or a channel, or None if it is unknown.

        Outside of a cluster, there is only one master, whose name is "".
        """
        del key
        return ""

    def node(self, name: str) -> Redis:
        """Returns an object that opens connections to the master with this name."""
        del name
        return self

    def doubt(self) -> None:
        """Makes the pipes of a cluster find out again which master has which keys."""

    def pipe(self, *, deadline: float = 5.0) -> Pipe:
        """Returns a pipe to this Redis. `deadline` is the time limit of a command in seconds."""
        return Pipe(self, deadline=deadline)

    async def ask(self, *command: Argument) -> object:
        """Sends one command over a new connection and returns the reply, even if it is an error.

        Raises: RedisAway after twice `CONNECT_SECONDS` at the latest.
        """
        wire = await self.open()
        replies: list[object] = []

        def take(reply: object) -> None:
            replies.append(reply)
            wire.close()

        try:
            wire.send(pack(*command))
            async with asyncio.timeout(CONNECT_SECONDS):
                await wire.receive(take)
        except TimeoutError:
            raise RedisAway("Redis did not reply in time") from None
        finally:
            wire.close()
        if not replies:
            raise RedisAway("Redis closed the connection")
        return replies[0]

    async def stay_connected(self, serve: Callable[[Wire], Awaitable[None]]) -> NoReturn:
        """Opens a connection and passes it to `serve`. Reconnects each time `serve` returns."""
        failures = 0
        while True:
            try:
                wire = await self.open()
            except (RedisAway, RedisRefused):
                failures += 1
                await asyncio.sleep(backoff(failures, *RECONNECT_SECONDS))
                continue
            failures = 0
            await serve(wire)


def hosts_of(url: SplitResult, default_port: int) -> list[str]:
    """Returns the `host:port` of each host in a URL with several hosts.

    Raises: ValueError.
    """
    hosts = [host.strip() for host in url.netloc.rpartition("@")[2].split(",")]
    if not all(hosts):
        raise ValueError("a host is missing in the URL")
    return [host if _PORT.search(host) else f"{host}:{default_port}" for host in hosts]


def join_host_port(host: str | None, port: str | int) -> str:
    """Returns `host:port`, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if host and ":" in host else f"{host}:{port}"
