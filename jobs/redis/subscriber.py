"""The bell: one subscribed connection that says so when it was deaf.

Pub/sub loses whatever is published while nobody listens, and nothing in Redis tells. So every
subscription has a `ring` for messages and a `gap` for "anything may have been missed": it is called
each time Redis has confirmed the subscription, at first and after every reconnect. The one who
listens reads the log then, and never needs to know why.

A connection can be deaf while it looks alive: a stopped process, a half-open link, a replica that
lost its master. A probe finds that: it is published over another connection and must come back over
this one.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Self

from jobs.errors import RedisTrouble
from runtime.loop import cancel_and_wait

from .pipe import pack

if TYPE_CHECKING:
    from .connection import Redis, Wire

Ring = Callable[[bytes], None]
Gap = Callable[[], None]
Publish = Callable[[str, str], Awaitable[object]]

PROBE_SECONDS = 2.0
DEAF_SECONDS = 5.0


class Subscriber:
    """Listens to many channels on one connection; use it as an async context manager.

    `publish(channel, message)` is how the probe is sent; `probe` is the channel it is sent to.
    Callbacks must not block and must not raise.
    """

    def __init__(self, redis: Redis, *, probe: str, publish: Publish) -> None:
        self._redis = redis
        self._probe = probe
        self._publish = publish
        self._wire: Wire | None = None
        self._listeners: dict[str, tuple[Ring, Gap]] = {}
        # Those that Redis has confirmed, by the name of the channel as it comes.
        self._rings: dict[bytes, Ring] = {}
        self._heard = time.monotonic()
        self._owner: asyncio.Task[None] | None = None

    @property
    def hears(self) -> bool:
        """True while what is published reaches us, as far as the last probe could tell."""
        fresh = time.monotonic() - self._heard < DEAF_SECONDS
        return self._wire is not None and self._probe.encode() in self._rings and fresh

    async def __aenter__(self) -> Self:
        self._owner = asyncio.create_task(self._redis.stay_connected(self._serve), name="bell")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._owner is not None:
            await cancel_and_wait(self._owner)

    def listen(self, channel: str, ring: Ring, gap: Gap) -> None:
        """From now on `ring` has every message of the channel, and `gap` what may be missing.

        Nothing is certain before the first `gap`: read only then.
        """
        self._listeners[channel] = (ring, gap)
        self._write("SUBSCRIBE", channel)

    def leave(self, channel: str) -> None:
        """No callback of this channel is called again."""
        self._listeners.pop(channel, None)
        self._rings.pop(channel.encode(), None)
        self._write("UNSUBSCRIBE", channel)

    def _write(self, *command: str) -> None:
        if self._wire is not None:
            self._wire.send(pack(*command))

    async def _serve(self, wire: Wire) -> None:
        self._wire = wire
        self._heard = time.monotonic()
        self._write("SUBSCRIBE", self._probe, *self._listeners)
        watch = asyncio.create_task(self._watch(wire), name="bell probe")
        try:
            await wire.receive(self._dispatch)
        finally:
            self._wire = None
            self._rings.clear()
            wire.close()
            await cancel_and_wait(watch)

    def _dispatch(self, message: Any) -> None:
        match message:
            case [b"message", channel, payload]:
                if (ring := self._rings.get(channel)) is not None:
                    ring(payload)
            case [b"subscribe", bytes(channel), _]:
                name = channel.decode()
                # A confirmation that comes after `leave` finds no listener: its own reply follows.
                if name == self._probe:
                    self._rings[channel] = self._probed
                elif name in self._listeners:
                    self._rings[channel], gap = self._listeners[name]
                    gap()
            case _:
                pass  # the answer to UNSUBSCRIBE

    def _probed(self, _: bytes) -> None:
        self._heard = time.monotonic()

    async def _watch(self, wire: Wire) -> None:
        while True:
            # One probe checks both ways: it cannot come back over a connection that is deaf.
            with contextlib.suppress(RedisTrouble, TimeoutError):
                async with asyncio.timeout(PROBE_SECONDS):
                    await self._publish(self._probe, secrets.token_hex(4))
            await asyncio.sleep(PROBE_SECONDS)
            if time.monotonic() - self._heard > DEAF_SECONDS:
                wire.close()
