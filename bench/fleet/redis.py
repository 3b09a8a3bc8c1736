"""Connects a simulated fleet to a real Redis whose scripts use the virtual clock.

The scripts are Holdline's own. Only their call of TIME is replaced by a GET of the key `clock`, so
the number of commands stays the same. The connection is synchronous: the virtual time stands still
while Redis runs commands. The commands of one tick are sent together, and their replies arrive one
tick later.
"""

from __future__ import annotations

import asyncio
import math
import re
import socket
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import hiredis

from jobs.redis.error_reply import exception_of
from jobs.redis.wire import Argument, pack
from jobs.scripts import SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobs.redis.node_subscriber import Gap, Notify
    from jobs.scripts import Call

TICK_SECONDS: Final = 0.001
# The length of a tick while waits of seconds are measured, which needs fewer exchanges with Redis.
LONG_TICK_SECONDS: Final = 0.005
# Redis keeps the replies to a batch until the batch is sent, so batches are limited.
MAX_BATCH: Final = 1_000
_TIME: Final = b"redis.call('TIME')"
_CLOCK: Final = b"cjson.decode(redis.call('GET', 'clock'))"
_STATISTICS: Final = re.compile(r"cmdstat_([^|:]+)[^:]*:calls=(\d+)")
# The commands of the simulation itself.
_OWN: Final = ("mset", "ping", "info", "config", "hello", "script", "ssubscribe", "sunsubscribe")


class VirtualRedis:
    """The connection of all simulated processes. `close` it at the end."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(path)
        self._reader = hiredis.Reader()
        self._loop = asyncio.get_running_loop()
        self._pending: list[tuple[bytes, asyncio.Future[Any]]] = []
        self._clock = -1.0
        self._notify: dict[str, list[Notify]] = {}
        self._messages: list[str] = []
        self.message_count = 0
        self.tick_seconds = TICK_SECONDS
        # In version 3 of the protocol, a connection receives messages and replies.
        self._exchange([pack("HELLO", 3)])
        loaded = [pack("SCRIPT", "LOAD", virtual(one.source)) for one in SCRIPTS.values()]
        self._sha = dict(zip(SCRIPTS, self._exchange(loaded), strict=True))

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()

    def script(self, call: Call) -> asyncio.Future[Any]:
        """Runs a script, and returns a future for its reply."""
        return self.send(pack("EVALSHA", self._sha[call[0]], *call[1:]))

    def send(self, packed: bytes) -> asyncio.Future[Any]:
        """Sends a command at the end of this tick."""
        if not self._pending:
            ticks = math.floor(self._loop.time() / self.tick_seconds) + 1
            self._loop.call_at(ticks * self.tick_seconds, self._flush)
        reply = self._loop.create_future()
        self._pending.append((packed, reply))
        return reply

    def now(self, *command: Argument) -> Any:
        """Runs a command without virtual time. Raises: hiredis.ReplyError."""
        [reply] = self._exchange([pack(*command)])
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def commands(self) -> Counter[str]:
        """Returns the number of commands by name, including those in scripts."""
        found = _STATISTICS.findall(self.now("INFO", "commandstats").decode())
        return Counter({name: int(calls) for name, calls in found if name not in _OWN})

    def subscribe(self, channel: str, notify: Notify) -> None:
        """Calls `notify` for each message of the channel, from the end of this tick on."""
        if not self._notify.get(channel):
            _ = self.send(pack("SSUBSCRIBE", channel))
        self._notify.setdefault(channel, []).append(notify)

    def unsubscribe(self, channel: str, notify: Notify) -> None:
        """Ends a subscription."""
        self._notify[channel].remove(notify)
        if not self._notify[channel]:
            del self._notify[channel]
            _ = self.send(pack("SUNSUBSCRIBE", channel))

    def _flush(self) -> None:
        sent, self._pending = self._pending, []
        replies: list[Any] = []
        for start in range(0, len(sent), MAX_BATCH):
            replies += self._exchange([packed for packed, _ in sent[start : start + MAX_BATCH]])
        messages, self._messages = self._messages, []
        self._loop.call_later(self.tick_seconds, self._deliver, sent, replies, messages)

    def _deliver(
        self,
        sent: list[tuple[bytes, asyncio.Future[Any]]],
        replies: list[Any],
        messages: list[str],
    ) -> None:
        for (_, future), reply in zip(sent, replies, strict=True):
            if future.done():
                continue
            if isinstance(reply, hiredis.ReplyError):
                future.set_exception(exception_of(str(reply)))
            else:
                future.set_result(reply)
        for channel in messages:
            self.message_count += 1
            for notify in self._notify.get(channel, ()):
                notify(b"")

    def _exchange(self, commands: list[bytes]) -> list[Any]:
        """Sends commands, and waits for their replies and for the messages that they publish."""
        clock = self._loop.time()
        if clock != self._clock:
            self._clock = clock
            seconds, rest = divmod(round(clock * 1e6), 1_000_000)
            commands = [pack("MSET", "clock", f"[{seconds},{rest}]"), *commands]
            return self._exchange(commands)[1:]
        # The messages that a command has published arrive before the reply to the next command.
        self._socket.sendall(b"".join([*commands, pack("PING", "end")]))
        replies: list[Any] = []
        while True:
            reply = self._reader.gets()
            if reply is False:
                data = self._socket.recv(1 << 18)
                if not data:
                    raise ConnectionError("Redis has closed the connection of the simulation")
                self._reader.feed(data)
            elif isinstance(reply, hiredis.PushNotification):
                if reply[0] == b"smessage":
                    self._messages.append(reply[1].decode())
                elif reply[0] == b"ssubscribe" or reply[0] == b"sunsubscribe":
                    replies.append(reply)  # confirms a command, which has no other reply
            elif len(replies) == len(commands):
                return replies
            else:
                replies.append(reply)


def virtual(source: bytes) -> bytes:
    """Returns the source of a script that reads the virtual clock."""
    if source.count(b"'TIME'") != source.count(_TIME):
        raise ValueError("a script reads the clock in another way than the simulation expects")
    return source.replace(_TIME, _CLOCK)


@dataclass(slots=True)
class VirtualPipe:
    """Has the methods of `jobs.redis.pipe.Pipe` that workers use, and counts their calls.

    `requeued` has the time of each rescue that has queued jobs again, and their number. `executed`
    is called with each script and its reply. After `die`, no reply reaches the worker any more, as
    in a process that was killed, but Redis still executes what the worker has sent, so `executed`
    is called for it.
    """

    redis: VirtualRedis
    calls: Counter[str] = field(default_factory=Counter)
    requeued: list[tuple[float, int]] = field(default_factory=list)
    cipher: None = None
    connected: bool = True
    executed: Callable[[Call, Any], None] | None = None

    def is_connected_for(self, key: str) -> bool:
        """Returns True until `die`."""
        del key
        return self.connected

    async def run(self, call: Call) -> Any:
        """Runs a script and returns its reply."""
        self.calls[call[0]] += 1
        sent = self.redis.script(call)
        sent.add_done_callback(partial(self._replied, call))
        reply = await self._alive(sent)
        if call[0] == "rescue" and reply[0]:
            self.requeued.append((asyncio.get_running_loop().time(), reply[0]))
        return reply

    def begin(self, call: Call) -> asyncio.Future[Any] | None:
        """Runs a script, and returns a future for its reply."""
        self.calls[call[0]] += 1
        return self.redis.script(call) if self.connected else None

    async def call(self, *command: Argument, at: str = "") -> Any:
        """Runs a command and returns its reply."""
        del at
        self.calls[str(command[0]).lower()] += 1
        return await self._alive(self.redis.send(pack(*command)))

    def _replied(self, call: Call, sent: asyncio.Future[Any]) -> None:
        if self.executed and not sent.cancelled() and sent.exception() is None:
            self.executed(call, sent.result())

    async def _alive(self, reply: asyncio.Future[Any]) -> Any:
        found = await asyncio.shield(reply)  # the death of a worker cancels only the wait
        if not self.connected:
            await asyncio.get_running_loop().create_future()  # the process is dead
        return found

    def die(self) -> None:
        """Lets no further reply arrive."""
        self.connected = False


class VirtualSubscriber:
    """Has the methods of `jobs.redis.subscriber.Subscriber` that workers use.

    `messages` counts the received messages.
    """

    def __init__(self, redis: VirtualRedis) -> None:
        self._redis = redis
        self._subscribed: dict[str, Callable[[bytes], None]] = {}
        self.messages = 0

    def subscribe(self, channel: str, notify: Notify, gap: Gap) -> None:
        """Calls `notify` for each message, and `gap` once, when the subscription is confirmed."""

        def received(payload: bytes) -> None:
            self.messages += 1
            notify(payload)

        self._subscribed[channel] = received
        self._redis.subscribe(channel, received)
        asyncio.get_running_loop().call_later(self._redis.tick_seconds, gap)

    def unsubscribe(self, channel: str) -> None:
        """Ends a subscription."""
        if (received := self._subscribed.pop(channel, None)) is not None:
            self._redis.unsubscribe(channel, received)

    def close(self) -> None:
        """Ends all subscriptions, as the end of the process's connection does."""
        for channel in list(self._subscribed):
            self.unsubscribe(channel)
