"""One connection to Redis; the commands of one turn of the event loop travel as one write.

Replies come back in order, so a command is a future in a queue. That gives without more machinery:

- batching: whatever was issued in one turn is one write and mostly one read;
- cancellation: a cancelled caller's reply is read and dropped, never given to somebody else;
- one deadline: the oldest command waits the longest. When it is over, the connection is dead,
  and so is every command in it. A stopped or half-open Redis is found in this way.

A lost connection fails what was under way, because nobody can know whether it was executed.
`run` repeats scripts until the deadline: each of them says in its header why that is right.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Self

import hiredis

from jobs.errors import RedisAway, RedisFull, RedisRefused
from jobs.scripts import SCRIPTS
from runtime.loop import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from .connection import Redis, Wire

Argument = str | bytes | int | float

MOST_UNDER_WAY = 20_000
WATCH_SECONDS = 0.25
AGAIN_SECONDS = 0.05


class Pipe:
    """A connection that comes back by itself; use it as an async context manager.

    `deadline` is in seconds: how long a command may take, the wait for a connection included.
    `cipher` is for those who write and read records and logs; commands travel as they are.
    """

    def __init__(self, redis: Redis, *, deadline: float = 5.0) -> None:
        self._redis = redis
        self.cipher = redis.cipher
        self._deadline = deadline
        self._wire: Wire | None = None
        self._connected = asyncio.Event()
        self._under_way: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._owner: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop

    @property
    def connected(self) -> bool:
        """True while there is a connection that has not yet been found dead."""
        return self._wire is not None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._owner = asyncio.create_task(self._stay_connected(), name="redis pipe")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._owner is not None:
            await cancel_and_wait(self._owner)

    async def run(self, script: str, keys: list[str], args: list[Argument]) -> Any:
        """The reply of a script, which is repeated over lost connections until the deadline.

        Raises: RedisAway, RedisFull, RedisRefused.
        """
        packed = _packed(script, keys, args)
        until = time.monotonic() + self._deadline
        while True:
            try:
                return await self._reply(packed, keys[0], until)
            except RedisAway:
                if time.monotonic() + WATCH_SECONDS >= until:
                    raise
                await asyncio.sleep(AGAIN_SECONDS)
            except RedisRefused as error:
                if not str(error).startswith("NOSCRIPT"):
                    raise
                # Redis was restarted, failed over or told to flush: the source loads it again.
                packed = pack("EVAL", SCRIPTS[script].source, len(keys), *keys, *args)

    def begin(
        self, script: str, keys: list[str], args: list[Argument]
    ) -> asyncio.Future[Any] | None:
        """The reply to come of a script that is sent once; None where it cannot be sent right now.

        Without a task, for those who have nothing else to do meanwhile. `run` does what is to be
        done about an error.
        """
        if self._wire is None or len(self._under_way) >= MOST_UNDER_WAY:
            return None
        return self.send(_packed(script, keys, args), time.monotonic() + self._deadline)

    async def call(self, *command: Argument, at: str = "") -> Any:
        """The reply of one command, issued once; `at` is the key where it belongs, if it has none.

        Raises: RedisAway when it is unknown whether the command was executed, or it surely was
            not; RedisFull; RedisRefused.
        """
        return await self._reply(pack(*command), at, time.monotonic() + self._deadline)

    async def pop(self, keys: Iterable[str], seconds: int) -> list[bytes] | None:
        """The first element that any of these lists has, or gets within so many seconds, behind
        the list's name. It holds up all that is issued after it. Raises: as `call`.
        """
        popped: list[bytes] | None = await self.call("BLPOP", *keys, seconds)
        return popped

    async def nodes(self) -> list[Pipe]:
        """A pipe to each node that is written to: here there is one. Raises: RedisAway."""
        return [self]

    def _reply(self, packed: bytes, key: str | bytes, until: float) -> Awaitable[Any]:
        """The reply of whoever has the key: here there is one node. Mostly a future is enough."""
        del key
        return self.send(packed, until) if self._wire is not None else self._sent(packed, until)

    async def _sent(self, packed: bytes, until: float) -> Any:
        await self._connection(until)
        return await self.send(packed, until)

    def send(self, packed: bytes, until: float) -> asyncio.Future[Any]:
        """The reply to come; call it while `connected`. Raises: RedisAway."""
        under_way = self._under_way
        if len(under_way) >= MOST_UNDER_WAY:
            raise RedisAway(f"{MOST_UNDER_WAY} commands wait for Redis already")
        if self._wire is None:
            raise RedisAway("no connection to Redis")
        reply = self._loop.create_future()
        self._wire.send(packed)
        under_way.append((until, reply))
        return reply

    async def _connection(self, until: float) -> None:
        # Looked at again after the wait: a connection may be gone before its waiters have run, and
        # a command issued between two connections would shift all replies of the second one.
        while self._wire is None:
            try:
                async with asyncio.timeout(max(until - time.monotonic(), 0)):
                    await self._connected.wait()
            except TimeoutError:
                raise RedisAway("no connection to Redis") from None

    async def _stay_connected(self) -> None:
        try:
            await self._redis.stay_connected(self._serve)
        finally:
            self._fail_all("closed")

    async def _serve(self, wire: Wire) -> None:
        self._wire = wire
        for script in SCRIPTS.values():  # before any caller can send: replies stay in order
            load = pack("SCRIPT", "LOAD", script.source)
            _ = self.send(load, time.monotonic() + self._deadline)
        self._connected.set()
        watch = asyncio.create_task(self._watch(wire), name="redis deadline")
        try:
            await wire.receive(self._replied)
        finally:
            self._connected.clear()
            self._wire = None
            wire.close()
            self._fail_all("the connection to Redis was lost")
            await cancel_and_wait(watch)

    def _replied(self, reply: object) -> None:
        if not self._under_way:
            raise hiredis.ProtocolError("a reply that nobody asked for: what follows means nothing")
        _, future = self._under_way.popleft()
        if isinstance(reply, hiredis.ReplyError):
            self._refused(str(reply), future)
        elif not future.done():
            future.set_result(reply)

    def _refused(self, why: str, future: asyncio.Future[Any]) -> None:
        if why.startswith("READONLY") and self._wire is not None:
            self._wire.close()  # the master is a replica now: who is the master must be asked
        _fail(future, _error(why))

    async def _watch(self, wire: Wire) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self._under_way and self._under_way[0][0] < time.monotonic():
                wire.close()

    def _fail_all(self, why: str) -> None:
        while self._under_way:
            _, future = self._under_way.popleft()
            _fail(future, RedisAway(why))


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # a caller that was cancelled will not ask for it


def _packed(script: str, keys: list[str], args: list[Argument]) -> bytes:
    return pack("EVALSHA", SCRIPTS[script].sha, len(keys), *keys, *args)


def pack(*command: Argument) -> bytes:
    """The bytes of one command."""
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub means tuple[..., ...]
    return packed


def _error(message: str) -> RedisFull | RedisRefused | RedisAway:
    if message.startswith("OOM") or "OOM allow" in message or "-OOM" in message:
        return RedisFull("Redis has reached maxmemory")
    if message.startswith(("LOADING", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "TRYAGAIN")):
        return RedisAway(f"Redis is not ready: {message.split(' ', 1)[0]}")
    return RedisRefused(message)
