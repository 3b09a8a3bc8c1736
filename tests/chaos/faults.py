"""Injects faults, each a short coroutine that also undoes any lasting effect.

A seeded random generator selects the faults and their times, which are recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import redis.asyncio
from redis.exceptions import RedisError

from jobs.errors import RedisAway
from tests.chaos.fleet import Fleet, Member
from tests.chaos.profiles import Profile
from tests.chaos.proxy import Link, Proxy
from tests.chaos.storage import Storage
from tests.fake_model import FakeModel

if TYPE_CHECKING:
    from collections.abc import Sequence

# The time limit for the end of the faults that are under way. Each ends by itself.
HEAL_SECONDS = 30.0

Fault = Callable[["Faults"], Awaitable[str]]


@dataclass
class Faults:
    """Injects the faults of a profile into a system."""

    profile: Profile
    kinds: Mapping[str, Fault]
    rng: random.Random
    fleet: Fleet
    storage: Storage
    redis_proxy: Proxy
    server_proxies: Sequence[Proxy]
    model: FakeModel
    done: Counter[str] = field(default_factory=Counter)
    injected: list[tuple[float, str, str]] = field(default_factory=list)
    lost_replies: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    redis_busy: bool = False
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self, seconds: float) -> None:
        """Injects faults for the given duration. Call `heal` afterwards."""
        if self.profile.wire_delay:
            self.redis_proxy.slow_down(self.profile.wire_delay)
        names, weights = list(self.profile.weights), list(self.profile.weights.values())
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            kind = self.rng.choices(names, weights)[0]
            task = asyncio.create_task(self._inject(kind))
            self._under_way.add(task)
            task.add_done_callback(self._done)
            await asyncio.sleep(min(self.rng.uniform(*self.profile.pause), until - now))

    async def _inject(self, kind: str) -> None:
        at = time.monotonic() - self.began
        # A fault that was injected earlier may also make these control commands fail.
        with contextlib.suppress(RedisAway, RedisError, OSError, TimeoutError):
            if what := await self.kinds[kind](self):
                self.done[kind] += 1
                self.injected.append((at, kind, what))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.broken.append(f"a fault could not be injected: {error!r}")

    async def heal(self) -> None:
        """Ends all faults and repairs their effects, except killed processes."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=HEAL_SECONDS)
        self.storage.signal(signal.SIGCONT)
        for member in self.fleet.members:
            member.resume()
        self.redis_proxy.heal()
        for proxy in self.server_proxies:
            proxy.heal()
        await self.configure("maxmemory", "0")
        await self.configure("min-replicas-to-write", "0")

    # Helper functions for faults

    async def control(self, *command: str) -> object:
        """Sends a command directly to Redis, without a proxy."""
        client = redis.asyncio.Redis(port=self.storage.port, socket_timeout=3)
        try:
            return await client.execute_command(*command)  # type: ignore[no-untyped-call]
        finally:
            await client.aclose()

    async def configure(self, name: str, value: str) -> None:
        """Changes a setting of Redis."""
        await self.control("CONFIG", "SET", name, value)

    def member(self, members: Sequence[Member]) -> Member | None:
        """Returns a random working member, or None if at most one is left."""
        living = [one for one in members if one.alive and one.ready and not one.paused]
        return self.rng.choice(living) if len(living) > 1 else None

    def some(self, proxies: Sequence[Proxy], share: float) -> list[Link]:
        """Returns a random selection of the healthy links, at least one if there are any."""
        links = [link for proxy in proxies for link in proxy.links if not link.half_open]
        return self.rng.sample(links, min(len(links), max(1, round(len(links) * share))))
