"""Subscribes to sharded pub/sub channels over one connection to one master.

A connection may look alive but deliver nothing, for example if the Redis process is stopped, the
connection is half-open, or a replica has lost its master. Probes detect this: the process publishes
a message over another connection, and the message must arrive over this connection.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import hiredis
from redis.crc import key_slot

from jobs.errors import RedisTrouble
from runtime.loop import Loop, cancel_and_wait

from . import redis_metrics
from .wire import pack

if TYPE_CHECKING:
    from .connection import Redis
    from .wire import Wire

Notify = Callable[[bytes], None]
Gap = Callable[[], None]
Publish = Callable[[str, str], Awaitable[object]]

PROBE_SECONDS = 2.0
MAX_SILENCE_SECONDS = 5.0


class NodeSubscriber:
    """The subscriptions at one master. `start` and `stop` begin and end its connection.

    `subscriptions` contains the callbacks by channel. `probe` is the channel of the probes, which
    are published with `publish`; without a channel, nothing is probed. If the master no longer
    serves a channel, the channel is removed from `subscriptions`, and `lost` is called with the
    channel and its callbacks.
    """

    def __init__(
        self, redis: Redis, publish: Publish, lost: Callable[[str, Notify, Gap], None]
    ) -> None:
        self._redis = redis
        self._publish = publish
        self._lost = lost
        self.probe = ""
        self.subscriptions: dict[str, tuple[Notify, Gap]] = {}
        # The `notify` callbacks of the subscriptions that Redis has confirmed. The keys are channel
        # names in bytes, as messages contain them.
        self.confirmed: dict[bytes, Notify] = {}
        # The channels of `unsubscribe` calls that Redis has not confirmed yet.
        self._leaving: Counter[str] = Counter()
        self._wire: Wire | None = None
        self._last_probe = time.monotonic()
        # The content of the probe under way and the time when it was published.
        self._probing: tuple[bytes, float] = b"", 0.0
        self._probed_once = False
        self._refused = False
        self._owner: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """True from the start of a connection until its loss is noticed."""
        return self._wire is not None

    @property
    def healthy(self) -> bool:
        """True while the connection delivers messages, according to the last probe."""
        if not self.probe:
            return self._wire is not None
        fresh = time.monotonic() - self._last_probe < MAX_SILENCE_SECONDS
        return self._wire is not None and self._probed_once and fresh

    def start(self) -> None:
        """Connects to the master, and reconnects whenever the connection is lost."""
        serving = self._redis.stay_connected(self._serve)
        self._owner = asyncio.create_task(serving, name="subscriber")

    async def stop(self) -> None:
        """Closes the connection."""
        if self._owner is not None:
            await cancel_and_wait(self._owner)

    def subscribe(self, channel: str, notify: Notify, gap: Gap) -> None:
        """Begins a subscription, in the same way as `Subscriber.subscribe`."""
        self.subscriptions[channel] = notify, gap
        self._write("SSUBSCRIBE", channel)

    def unsubscribe(self, channel: str) -> None:
        """Ends a subscription. Its callbacks are not called again."""
        del self.subscriptions[channel]
        self.confirmed.pop(channel.encode(), None)
        if self.connected:
            self._leaving[channel] += 1
        self._write("SUNSUBSCRIBE", channel)

    def use_probe(self, channel: str) -> None:
        """Sets the channel of the probes, which this master must serve."""
        if channel != self.probe:
            self.probe = channel
            self._write("SSUBSCRIBE", channel)

    def _write(self, *command: str) -> None:
        if self._wire is not None:
            self._wire.send(pack(*command))

    async def _serve(self, wire: Wire) -> None:
        self._wire = wire
        self._refused = self._probed_once = False
        self._last_probe = time.monotonic()
        # A cluster refuses one command for channels of several slots.
        probe = [self.probe] if self.probe else []
        for channels in _by_slot([*probe, *self.subscriptions]).values():
            self._write("SSUBSCRIBE", *channels)
        pause = (PROBE_SECONDS, PROBE_SECONDS)
        ignored = (RedisTrouble, TimeoutError)
        async with Loop("subscriber probe", partial(self._check, wire), pause, ignored=ignored):
            try:
                await wire.receive(self._dispatch)
            finally:
                self._wire = None
                self.confirmed.clear()
                self._leaving.clear()
                wire.close()

    def _dispatch(self, message: Any) -> None:
        match message:
            case [b"smessage", channel, payload]:
                if (notify := self.confirmed.get(channel)) is not None:
                    notify(payload)
            case [b"ssubscribe", bytes(channel), _]:
                name = channel.decode()
                # If `unsubscribe` was called before this confirmation arrived, the channel has no
                # subscription any more, and the confirmation is ignored.
                if name == self.probe:
                    self._probed_once = True
                    self.confirmed[channel] = self._probed
                elif name in self.subscriptions:
                    self.confirmed[channel], gap = self.subscriptions[name]
                    gap()
            case [b"sunsubscribe", bytes(channel), _]:
                self._ended(channel.decode())
            case hiredis.ReplyError():
                self._refuse(str(message).split())
            case _:
                pass

    def _ended(self, channel: str) -> None:
        """Handles the end of a subscription, which this process or Redis has ended."""
        if channel not in self._leaving:
            self._lose(channel)  # the slot of the channel has moved to another master
        elif self._leaving[channel] > 1:
            self._leaving[channel] -= 1
        else:
            del self._leaving[channel]

    def _refuse(self, error: list[str]) -> None:
        if error[:1] == ["MOVED"]:
            slot = int(error[1])
            for channel in _by_slot([*self.subscriptions, *self._leaving]).get(slot, ()):
                self._leaving.pop(channel, None)
                self._lose(channel)
        else:
            # The error reply does not name the subscription that failed. So the next check closes
            # the connection, and the reconnect repeats all subscriptions.
            self._refused = True

    def _lose(self, channel: str) -> None:
        self.confirmed.pop(channel.encode(), None)
        if (callbacks := self.subscriptions.pop(channel, None)) is not None:
            self._lost(channel, *callbacks)

    def _probed(self, content: bytes) -> None:
        self._last_probe = now = time.monotonic()
        probe, published_at = self._probing
        if content == probe:
            redis_metrics.notification_lags.labels().observe(now - published_at)

    async def _check(self, wire: Wire) -> None:
        silent = time.monotonic() - self._last_probe > MAX_SILENCE_SECONDS
        if self._refused or (silent and self.probe):
            wire.close()
        if not self.probe:
            return
        async with asyncio.timeout(PROBE_SECONDS):
            content = secrets.token_hex(4)
            self._probing = content.encode(), time.monotonic()
            await self._publish(self.probe, content)


def _by_slot(channels: list[str]) -> dict[int, list[str]]:
    """Returns the channels by the hash slot of a cluster to which they belong."""
    found: dict[int, list[str]] = {}
    for channel in channels:
        found.setdefault(key_slot(channel.encode()), []).append(channel)
    return found
