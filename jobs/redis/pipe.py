"""Pipelines commands over one connection to Redis.

Replies arrive in the order of the commands, so each pending command is a future in a queue. This
design has three effects:

- Batching: the commands of one event loop iteration are sent in one write, and their replies
  usually arrive in one read.
- Cancellation: the reply to a cancelled caller is read and dropped, so no other caller gets it.
- A single deadline: the first command in the queue has waited the longest. When its time is over,
  the pipe closes the connection, and every pending command fails. This detects a Redis that has
  stopped and a half-open connection.

If the connection is lost, pending commands fail, because Redis may or may not have executed them.
`run` repeats a script until the deadline, and the script's header says why the repetition is safe.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import hiredis

from jobs.errors import RedisAway, RedisRefused
from jobs.scripts import SCRIPTS, Call
from runtime.loop import Loop, cancel_and_wait

from . import redis_metrics
from .error_reply import exception_of
from .wire import pack

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from .wire import Argument, Connector, Wire

MAX_UNDER_WAY = 20_000
WATCH_SECONDS = 0.25
RETRY_SECONDS = 0.05

_observe = redis_metrics.round_trips.labels().observe


class Pipe:
    """A connection to Redis that reconnects automatically. Use it as an async context manager.

    `deadline` is the time limit of each command in seconds, including the wait for a connection.
    Callers encrypt and decrypt jobs and logs with `cipher`. The pipe itself does not encrypt.
    """

    def __init__(self, redis: Connector, *, deadline: float = 5.0) -> None:
        self._redis = redis
        self.cipher = redis.cipher
        self._deadline = deadline
        self._wire: Wire | None = None
        self._connected = asyncio.Event()
        # For each pending command: its deadline, the time when it was sent, and its reply.
        self._under_way: deque[tuple[float, float, asyncio.Future[Any]]] = deque()
        self._owner: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop

    @property
    def connected(self) -> bool:
        """True from the start of a connection until the pipe notices its loss."""
        return self._wire is not None

    def is_connected_for(self, key: str) -> bool:
        """Returns True while the node that has this key is connected."""
        del key  # `Pipe` itself has only one node
        return self._wire is not None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._owner = asyncio.create_task(self._stay_connected(), name="redis pipe")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._owner is not None:
            await cancel_and_wait(self._owner)

    async def run(self, call: Call) -> Any:
        """Runs a script and returns its reply. Repeats it until the deadline if Redis is away.

        Raises: RedisAway, RedisFull, RedisRefused.
        """
        packed = _packed(call)
        until = time.monotonic() + self._deadline
        while True:
            try:
                return await self._reply(packed, call[2], until)
            except RedisAway:
                if time.monotonic() + WATCH_SECONDS >= until:
                    raise
                await asyncio.sleep(RETRY_SECONDS)
            except RedisRefused as error:
                if not str(error).startswith("NOSCRIPT"):
                    raise
                # Redis has lost the script by a restart, a failover or SCRIPT FLUSH. EVAL sends the
                # source and loads it again.
                packed = pack("EVAL", SCRIPTS[call[0]].source, *call[1:])

    def begin(self, call: Call) -> asyncio.Future[Any] | None:
        """Sends a script once and returns a future for its reply, or None if it cannot be sent now.

        Unlike `run`, this method needs no task and does not retry. If it fails, call `run`.
        """
        if self._wire is None or len(self._under_way) >= MAX_UNDER_WAY:
            return None
        return self.send(_packed(call), time.monotonic() + self._deadline)

    async def call(self, *command: Argument, at: str = "") -> Any:
        """Sends one command once and returns its reply.

        For a command without a key, `at` is a key on the node that must execute the command.

        Raises: RedisAway, after which Redis may or may not have executed the command; RedisFull;
            RedisRefused.
        """
        return await self._reply(pack(*command), at, time.monotonic() + self._deadline)

    async def nodes(self) -> list[Pipe]:
        """Returns a pipe to each master of a cluster, or only this pipe without a cluster.

        Raises: RedisAway.
        """
        return [self]

    def _reply(self, packed: bytes, key: str | bytes, until: float) -> Awaitable[Any]:
        """Sends a packed command to the node that has the key. `Pipe` itself has only one node."""
        del key
        return self.send(packed, until) if self._wire is not None else self._sent(packed, until)

    async def _sent(self, packed: bytes, until: float) -> Any:
        await self._connection(until)
        return await self.send(packed, until)

    def send(self, packed: bytes, until: float) -> asyncio.Future[Any]:
        """Sends a packed command and returns a future for its reply.

        Raises: RedisAway if there is no connection, or too many commands are pending.
        """
        under_way = self._under_way
        if len(under_way) >= MAX_UNDER_WAY:
            raise RedisAway(f"{MAX_UNDER_WAY} commands are already waiting for Redis")
        if self._wire is None:
            raise RedisAway("no connection to Redis")
        reply = self._loop.create_future()
        self._wire.send(packed)
        under_way.append((until, time.monotonic(), reply))
        return reply

    async def _connection(self, until: float) -> None:
        # The loop checks the connection again after the wait, because it may be lost before this
        # task runs. A command that was queued between two connections would assign all replies of
        # the second connection to the wrong commands.
        while self._wire is None:
            try:
                async with asyncio.timeout(max(until - time.monotonic(), 0)):
                    await self._connected.wait()
            except TimeoutError:
                if self._redis.refusal is not None:
                    raise exception_of(self._redis.refusal) from None
                raise RedisAway("no connection to Redis") from None

    async def _stay_connected(self) -> None:
        try:
            await self._redis.stay_connected(self._serve)
        finally:
            self._fail_all("the connection to Redis was closed")

    async def _serve(self, wire: Wire) -> None:
        self._wire = wire
        for script in SCRIPTS.values():  # sent before any caller's command
            load = pack("SCRIPT", "LOAD", script.source)
            _ = self.send(load, time.monotonic() + self._deadline)
        self._connected.set()
        pause = (WATCH_SECONDS, WATCH_SECONDS)
        async with Loop("redis deadline", partial(self._check_deadline, wire), pause):
            try:
                await wire.receive(self._replied)
            finally:
                self._connected.clear()
                self._wire = None
                wire.close()
                self._fail_all("the connection to Redis was lost")

    def _replied(self, reply: object) -> None:
        if not self._under_way:
            raise hiredis.ProtocolError("unexpected reply: the connection is out of sync")
        _, sent_at, future = self._under_way.popleft()
        _observe(time.monotonic() - sent_at)
        if isinstance(reply, hiredis.ReplyError):
            self._refused(str(reply), future)
        elif not future.done():
            future.set_result(reply)

    def _refused(self, why: str, future: asyncio.Future[Any]) -> None:
        if why.startswith("READONLY") and self._wire is not None:
            self._wire.close()  # a failover: reconnecting finds the new master
        _fail(future, exception_of(why))

    async def _check_deadline(self, wire: Wire) -> None:
        if self._under_way and self._under_way[0][0] < time.monotonic():
            wire.close()

    def _fail_all(self, why: str) -> None:
        while self._under_way:
            *_, future = self._under_way.popleft()
            _fail(future, RedisAway(why))


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    # NOSCRIPT is no failure, because `run` sends the source of the script again.
    if not str(error).startswith("NOSCRIPT"):
        redis_metrics.failures.labels(type(error).__name__).inc()
    if not future.done():
        future.set_exception(error)
        future.exception()  # prevents a warning by asyncio if the caller was cancelled


def _packed(call: Call) -> bytes:
    return pack("EVALSHA", SCRIPTS[call[0]].sha, *call[1:])
