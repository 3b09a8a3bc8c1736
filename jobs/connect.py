"""The one way to a Redis, and the check that it can keep the promises.

redis-py makes the connection: address, TLS, authentication, database. What then travels over it is
written and read by `pipe` and `bell`, because redis-py's pool repeats commands, swallows
cancellations on Python 3.11 when it has a socket timeout, and its pub/sub loses messages silently.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Protocol

import hiredis
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from .backoff import backoff
from .errors import RedisAway, RedisUnsuitable
from .keys import Partition
from .pipe import Pipe, pack

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from .cipher import Cipher

CONNECT_SECONDS = 3.0
RETRY_SECONDS = (0.05, 1.0)
OLDEST_VERSION = (7, 0)
_PORT = re.compile(r"[^:]:\d+$|\]:\d+$")
# As long as anything that operators keep, see `shelf`.
CIPHER_TTL_MS = 400 * 24 * 3600 * 1000

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
            while (message := self._reader.gets()) is not False:
                self._take(message)
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

    def send(self, data: bytes) -> None:
        """Writes, or drops what a connection that is already closing would not carry: uvloop
        raises there, and what was under way is failed by whoever reads.
        """
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


async def check(pipe: Pipe) -> str:
    """One line about this Redis, once all of it is known to be fit.

    Raises: RedisAway; RedisUnsuitable, whose message names the setting to change.
    """
    nodes = await pipe.nodes()
    found = [await _check(node) for node in nodes]
    await _check_cipher(pipe)
    return found[0] if len(found) == 1 else f"{len(found)} masters: {', '.join(sorted(set(found)))}"


async def _check(pipe: Pipe) -> str:
    info = _fields(await pipe.call("INFO", "server"))
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version") or info.get("redis_version", "0.0")
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION))
        raise RedisUnsuitable(
            f"{name} {version} is too old: use Redis {oldest}, Valkey 7.2 or newer"
        )
    memory = _fields(await pipe.call("INFO", "memory"))
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise RedisUnsuitable(
            f"maxmemory-policy is {policy}, which silently deletes answers: "
            "run CONFIG SET maxmemory-policy noeviction"
        )
    persistence = _fields(await pipe.call("INFO", "persistence"))
    kept = "AOF" if persistence.get("aof_enabled") == "1" else "no AOF: a restart loses answers"
    return f"{name} {version}, {kept}"


async def check_patiently(pipe: Pipe, tell: Callable[[RedisAway], None]) -> str:
    """As `check`, as soon as there is a Redis; `tell` is called each time there is none. Those
    who start later learn from Redis with which key this process writes.

    Raises: RedisUnsuitable, RedisRefused, RedisFull.
    """
    while True:
        try:
            found = await check(pipe)
            if (cipher := pipe.cipher) is not None:
                names = Partition(0)
                await pipe.call("SET", names.cipher, cipher.ids[0], "PX", CIPHER_TTL_MS)
        except RedisAway as error:
            tell(error)
        else:
            return found


async def _check_cipher(pipe: Pipe) -> None:
    """Raises: RedisUnsuitable where this process could not read what others write."""
    last = (await pipe.call("GET", Partition(0).cipher) or b"").decode()
    known = ("plain",) if pipe.cipher is None else pipe.cipher.ids
    if last and last not in known:
        raise RedisUnsuitable(
            f"what is in this Redis is encrypted with the key {last}, which is not in "
            "HOLDLINE_ENCRYPTION_KEYS; whoever starts without it cannot read it. To go on all the "
            f"same, and lose what is there, delete {Partition(0).cipher}"
            if last != "plain"
            else "what is in this Redis is not encrypted: list plain in HOLDLINE_ENCRYPTION_KEYS, "
            "behind the key, until the last of it has expired"
        )


def _fields(info: object) -> dict[str, str]:
    text = info.decode() if isinstance(info, bytes) else str(info)
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name: value for name, _, value in pairs}
