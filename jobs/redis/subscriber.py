"""Subscribes to pub/sub channels over one connection and reports every possible loss of messages.

Pub/sub drops messages while a subscriber is disconnected, and Redis does not report the loss. So
each subscription has two callbacks: `notify` receives the messages; `gap` is called whenever Redis
confirms the subscription, initially and after each reconnect, because messages may have been missed
before. The owner of the subscription then reads the log.

A connection may look alive and deliver nothing: a stopped process, a half-open link, a replica that
has lost its master. A probe detects this: it is published over another connection and has to arrive
over this one.
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
    """Subscribes to many channels on one connection; use it as an async context manager.

    `publish(channel, message)` sends the probes to the channel `probe`. Callbacks must not block
    and must not raise.
    """

    def __init__(self, redis: Redis, *, probe: str, publish: Publish) -> None:
        self._redis = redis
        self._probe = probe
        self._publish = publish
        self._wire: Wire | None = None
        self._subscriptions: dict[str, tuple[Notify, Gap]] = {}
        # The callbacks of the confirmed subscriptions, by the channel's name in a message.
        self._confirmed: dict[bytes, Notify] = {}
        self._last_probe = time.monotonic()
        self._refused = False
        self._owner: asyncio.Task[None] | None = None

    @property
    def healthy(self) -> bool:
        """True while published messages arrive, according to the last probe."""
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
        """Calls `notify` for each message of the channel, and `gap` when some may be missing.

        Messages are complete from the first `gap` on: read the log after it, not before.
        """
        self._subscriptions[channel] = (notify, gap)
        self._write("SUBSCRIBE", channel)

    def unsubscribe(self, channel: str) -> None:
        """Ends a subscription: none of its callbacks is called again."""
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
                # A confirmation that arrives after `unsubscribe` finds no subscription here; the
                # reply to UNSUBSCRIBE follows it.
                if name == self._probe:
                    self._confirmed[channel] = self._probed
                elif name in self._subscriptions:
                    self._confirmed[channel], gap = self._subscriptions[name]
                    gap()
            case hiredis.ReplyError():
                # The error does not name its subscription, so the next check reconnects and
                # repeats all of them.
                self._refused = True
            case _:
                pass  # the reply to UNSUBSCRIBE

    def _probed(self, _: bytes) -> None:
        self._last_probe = time.monotonic()

    async def _check(self, wire: Wire) -> None:
        if self._refused or time.monotonic() - self._last_probe > MAX_SILENCE_SECONDS:
            wire.close()
        async with asyncio.timeout(PROBE_SECONDS):
            await self._publish(self._probe, secrets.token_hex(4))
