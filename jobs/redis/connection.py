"""The one way to a Redis.

redis-py makes the connection: address, TLS, authentication, database. What then travels over it is
written and read by `pipe` and `bell`, because redis-py's pool repeats commands, swallows
cancellations on Python 3.11 when it has a socket timeout, and its pub/sub loses messages silently.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, Protocol

import hiredis
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from jobs.errors import RedisAway, RedisUnsuitable
from runtime.backoff import backoff

from .pipe import Pipe, pack

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from jobs.log.cipher import Cipher

CONNECT_SECONDS = 3.0
RETRY_SECONDS = (0.05, 1.0)
_PORT = re.compile(r"[^:]:\d+$|\]:\d+$")

# What a connection raises when its peer goes away in an unlucky moment: redis-py on Python 3.12
# and newer lets AttributeError and TypeError out of a reset connection.
CONNECTION_ERRORS = (RedisError, OSError, EOFError, AttributeError, TypeError, TimeoutError)


class Writer(Protocol):
    """The part of asyncio's StreamWriter that we use. It is held as long as the connection."""

    @property
    def transport(self) -> asyncio.WriteTransport: ...


class Messages(asyncio.Protocol):
    """Hands on every message as soon as the last byte of it has come; `over` is done when the
    connection is.

    In the place of asyncio's StreamReader, which would copy what comes twice, and wake a task for
    it in another turn of the loop.
    """

    def __init__(self, take: Callable[[object], None]) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._take = take
        self._reader = hiredis.Reader()

    def data_received(self, data: bytes) -> None:
        if self.over.done():
            return
        try:
            self._reader.feed(data)
            gets, take = self._reader.gets, self._take
            while (message := gets()) is not False:
                take(message)
        except hiredis.ProtocolError:
            self.over.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if self.over.done():
            return
        if error is None or isinstance(error, OSError):
            self.over.set_result(None)
        else:
            self.over.set_exception(error)  # what `take` has raised


@dataclass(frozen=True, slots=True)
class Wire:
    """An open, authenticated RESP2 connection. `close` is idempotent and does not wait."""

    reader: asyncio.StreamReader
    writer: Writer
    _outgoing: list[bytes] = field(default_factory=list)

    def send(self, data: bytes) -> None:
        """Writes at the end of this turn of the loop, together with what else is sent in it."""
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append(data)

    def _flush(self) -> None:
        """Writes, or drops what a connection that is already closing would not carry: uvloop
        raises there, and what was under way is failed by whoever reads.
        """
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        transport = self.writer.transport
        if not transport.is_closing():
            transport.write(data)

    async def receive(self, take: Callable[[object], None]) -> None:
        """Hands every message to `take`; returns when the connection is over.

        So it is when what comes is no message; `take` says that too, by a hiredis.ProtocolError.
        """
        transport = self.writer.transport
        if self.reader.at_eof() or self.reader.exception() or transport.is_closing():
            return
        messages = Messages(take)
        transport.set_protocol(messages)
        # What has come before goes first. The reader has its end, so this waits for nothing.
        self.reader.feed_eof()
        messages.data_received(await self.reader.read())
        await messages.over

    def close(self) -> None:
        """Drops the connection and what was not yet written."""
        self.writer.transport.abort()


class Redis:
    """Where Redis is, and how what is kept there is encrypted, if it is; opens connections.

    See `sentinel` and `cluster` for several.
    """

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
        """A new connection.

        Raises: RedisAway after `CONNECT_SECONDS` at the latest.
        """
        connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        if not isinstance(connection, AbstractConnection):
            raise RedisUnsuitable(f"unknown kind of connection {type(connection).__name__}")
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await connection.connect()  # type: ignore[no-untyped-call]
        except CONNECTION_ERRORS as error:
            raise RedisAway(f"cannot connect to Redis: {type(error).__name__}") from error
        reader, writer = connection._reader, connection._writer  # noqa: SLF001 - see the docstring
        if reader is None or writer is None:
            raise RedisAway("cannot connect to Redis: closed at once")
        connection._reader = connection._writer = None  # noqa: SLF001 - the streams are ours now
        return Wire(reader, writer)

    def pipe(self, *, deadline: float = 5.0) -> Pipe:
        """A pipe to it; `deadline` is in seconds."""
        return Pipe(self, deadline=deadline)

    async def ask(self, *command: str) -> object:
        """The reply of one command, over a connection of its own; an error is a reply.

        Raises: RedisAway after two times `CONNECT_SECONDS` at the latest.
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
            raise RedisAway("Redis does not answer") from None
        finally:
            wire.close()
        if not replies:
            raise RedisAway("Redis closed the connection")
        return replies[0]

    async def stay_connected(self, serve: Callable[[Wire], Awaitable[None]]) -> NoReturn:
        """Opens a connection, and another one whenever `serve` has returned from the last."""
        failures = 0
        while True:
            try:
                wire = await self.open()
            except RedisAway:
                failures += 1
                await asyncio.sleep(backoff(failures, *RETRY_SECONDS))
                continue
            failures = 0
            await serve(wire)


def hosts_of(url: SplitResult, default_port: int) -> list[str]:
    """The `host:port` of each host that the address of several names.

    Raises: ValueError.
    """
    places = [place.strip() for place in url.netloc.rpartition("@")[2].split(",")]
    if not all(places):
        raise ValueError("a host is missing")
    return [place if _PORT.search(place) else f"{place}:{default_port}" for place in places]


def place_of(host: str | None, port: str | int) -> str:
    """`host:port`, as an address has it."""
    return f"[{host}]:{port}" if host and ":" in host else f"{host}:{port}"
