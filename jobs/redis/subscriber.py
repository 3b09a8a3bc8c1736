"""Subscribes to pub/sub channels over one connection and reports every possible loss of messages.

Redis drops messages for a disconnected subscriber and does not report the loss. So each
subscription has two callbacks. `notify` receives the messages. `gap` is called when Redis confirms
the subscription, at first and again after each reconnect, because earlier messages may be missing.
The subscribing code then reads the log.

A connection may look alive but deliver nothing, for example if the Redis process is stopped, the
connection is half-open, or a replica has lost its master. Probes detect this: the process publishes
a message over another connection, and the message must arrive over the subscriber's connection.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import hiredis

from jobs.errors import RedisTrouble
from runtime.loop import Loop, cancel_and_wait

from .wire import pack

if TYPE_CHECKING:
    from .connection import Redis
    from .wire import Wire

Notify = Callable[[bytes], None]
Gap = Callable[[], None]
Publish = Callable[[str, str], Awaitable[object]]

PROBE_SECONDS = 2.0
MAX_SILENCE_SECONDS = 5.0


class Subscriber:
    """Subscribes to many channels over one connection. Use it as an async context manager.

    To check the connection, the subscriber publishes messages to the channel `probe` by calling
    `publish(channel, message)`. Callbacks of subscriptions must not block and must not raise.
    """

    def __init__(self, redis: Redis, *, probe: str, publish: Publish) -> None:
        self._redis = redis
        self._probe = probe
        self._publish = publish
        self._wire: Wire | None = None
        self._subscriptions: dict[str, tuple[Notify, Gap]] = {}
        # The `notify` callbacks of the subscriptions that Redis has confirmed. The keys are channel
        # names in bytes, as messages contain them.
        self._confirmed: dict[bytes, Notify] = {}
        self._last_probe = time.monotonic()
        self._refused = False
        self._owner: asyncio.Task[None] | None = None

    @property
    def healthy(self) -> bool:
        """True while the connection delivers messages, according to the last probe."""
        fresh = time.monotonic() - self._last_probe < MAX_SILENCE_SECONDS
        return self._wire is not None and self._probe.encode() in self._confirmed and fresh

    async def __aenter__(self) -> Self:
        serving = self._redis.stay_connected(self._serve)
        self._owner = asyncio.create_task(serving, name="subscriber")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._owner is not None:
            await cancel_and_wait(self._owner)

    def subscribe(self, channel: str, notify: Notify, gap: Gap) -> None:
        """Calls `notify` for each message of the channel, and `gap` when messages may be missing.

        All messages that are published after the first call to `gap` arrive. So read the log after
        this call, not before.
        """
        self._subscriptions[channel] = (notify, gap)
        self._write("SUBSCRIBE", channel)

    def unsubscribe(self, channel: str) -> None:
        """Ends a subscription. Its callbacks are not called again."""
        self._subscriptions.pop(channel, None)
        self._confirmed.pop(channel.encode(), None)
        self._write("UNSUBSCRIBE", channel)

    def _write(self, *command: str) -> None:
        if self._wire is not None:
            self._wire.send(pack(*command))

    async def _serve(self, wire: Wire) -> None:
        self._wire = wire
        self._refused = False
        self._last_probe = time.monotonic()
        self._write("SUBSCRIBE", self._probe, *self._subscriptions)
        pause = (PROBE_SECONDS, PROBE_SECONDS)
        ignored = (RedisTrouble, TimeoutError)
        async with Loop("subscriber probe", partial(self._check, wire), pause, ignored=ignored):
            try:
                await wire.receive(self._dispatch)
            finally:
                self._wire = None
                self._confirmed.clear()
                wire.close()

    def _dispatch(self, message: Any) -> None:
        match message:
            case [b"message", channel, payload]:
                if (notify := self._confirmed.get(channel)) is not None:
                    notify(payload)
            case [b"subscribe", bytes(channel), _]:
                name = channel.decode()
                # If `unsubscribe` was called before this confirmation arrived, the channel has no
                # subscription any more, and the confirmation is ignored.
                if name == self._probe:
                    self._confirmed[channel] = self._probed
                elif name in self._subscriptions:
                    self._confirmed[channel], gap = self._subscriptions[name]
                    gap()
            case hiredis.ReplyError():
                # The error reply does not name the subscription that failed. So the next check
                # closes the connection, and the reconnect repeats all subscriptions.
                self._refused = True
            case _:
                pass  # the reply to UNSUBSCRIBE needs no action

    def _probed(self, _: bytes) -> None:
        self._last_probe = time.monotonic()

    async def _check(self, wire: Wire) -> None:
        if self._refused or time.monotonic() - self._last_probe > MAX_SILENCE_SECONDS:
            wire.close()
        async with asyncio.timeout(PROBE_SECONDS):
            await self._publish(self._probe, secrets.token_hex(4))
