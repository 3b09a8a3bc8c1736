"""The faults: each a short coroutine that does harm, and undoes it where it would last.

    worker    killed · paused past its lease, for long or just so · told to end
    server    killed · told to end · paused
    client    connections reset · closed · half-open · delayed · throttled · stalled
    wire      the same between our processes and Redis, and a reply lost after its command
    redis     clients killed · scripts flushed · paused · killed · out of memory · tiny buffers
    loss      emptied · restarted empty · file cut short: only where loss is asked for

What happens when is drawn from one seeded source of dice, and told with its time.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import redis.asyncio
from redis.exceptions import RedisError

from jobs.scripts import SCRIPTS
from tests.chaos.fleet import Fleet, Member, Storage
from tests.chaos.proxy import Link, Proxy

if TYPE_CHECKING:
    from collections.abc import Sequence

Fault = Callable[["Faults"], Awaitable[str]]
FAULTS: dict[str, Fault] = {}


def fault(kind: Fault) -> Fault:
    FAULTS[kind.__name__.replace("_", ".", 1)] = kind
    return kind


@dataclass(frozen=True)
class Profile:
    """Which faults, how often each, and how many seconds lie between two."""

    weights: dict[str, float]
    pause: tuple[float, float] = (0.05, 0.35)
    wire_delay: float = 0.0
    lease: float = 0.3
    plain: bool = False
    model_pace: tuple[float, float] = (0.005, 0.04)


USUAL = {
    "worker.kill": 2.5,
    "worker.pause": 4,
    "worker.term": 2,
    "server.kill": 1.5,
    "server.term": 1.5,
    "server.pause": 1,
    "client.reset": 4,
    "client.close": 3,
    "client.half_open": 3,
    "client.delay": 2,
    "client.throttle": 2,
    "client.stall": 2,
    "wire.lost_reply": 14,
    "wire.reset": 2,
    "wire.half_open": 1,
    "wire.delay": 2,
    "wire.stall": 2,
    "redis.kill_pubsub": 4,
    "redis.kill_normal": 2,
    "redis.flush_scripts": 2,
    "redis.pause": 0.5,
    "redis.restart": 1,
    "redis.out_of_memory": 0.7,
    "redis.tiny_buffer": 1,
}
PROFILES = {
    "usual": Profile(USUAL),
    "loss": Profile(
        {"loss.flush": 3, "loss.restart_empty": 2, "loss.cut_file": 3}
        | {kind: weight / 4 for kind, weight in USUAL.items()},
        pause=(0.1, 0.6),
    ),
    # Each shows one line of defence at work: with that line switched off, the checker is red.
    "zombies": Profile(
        {"worker.doze": 1},
        pause=(0.8, 1.2),
        # A zombie does harm only until its successor has said its first word: this makes that long.
        wire_delay=0.05,
        lease=0.7,
        plain=True,
        model_pace=(0.05, 0.1),
    ),
    "late bells": Profile({"wire.delay": 2, "redis.kill_pubsub": 1, "client.close": 2}, plain=True),
    "deaf bells": Profile({"redis.kill_pubsub": 1}, (0.03, 0.12), plain=True),
    "lost replies": Profile({"wire.lost_append": 1}, (0.03, 0.1), plain=True),
}


@dataclass
class Faults:
    """Does harm to a system until it is told to stop."""

    profile: Profile
    dice: random.Random
    fleet: Fleet
    storage: Storage
    wire: Proxy
    doors: Sequence[Proxy]
    done: Counter[str] = field(default_factory=Counter)
    diary: list[tuple[float, str, str]] = field(default_factory=list)
    lost_replies: Counter[str] = field(default_factory=Counter)
    began: float = field(default_factory=time.monotonic)
    redis_busy: bool = False
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self, seconds: float) -> None:
        """Until the time is over; then call `heal`."""
        if self.profile.wire_delay:
            self.wire.slow_down(self.profile.wire_delay)
        kinds, weights = list(self.profile.weights), list(self.profile.weights.values())
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            kind = self.dice.choices(kinds, weights)[0]
            task = asyncio.create_task(self._one(kind))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            await asyncio.sleep(min(self.dice.uniform(*self.profile.pause), until - now))

    async def _one(self, kind: str) -> None:
        at = time.monotonic() - self.began
        # A control command may itself meet the fault before it.
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            if what := await FAULTS[kind](self):
                self.done[kind] += 1
                self.diary.append((at, kind, what))

    async def heal(self) -> None:
        """Every fault has ended, and what it broke works again, except for what was killed."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=10)
        self.storage.signal(signal.SIGCONT)
        for member in self.fleet.members:
            member.go_on()
        self.wire.heal()
        for door in self.doors:
            door.heal()
        await self.configure("maxmemory", "0")

    # What the faults are made of

    async def control(self, *command: str) -> object:
        """A command to Redis that passes no proxy."""
        client = redis.asyncio.Redis(port=self.storage.port, socket_timeout=3)
        try:
            return await client.execute_command(*command)  # type: ignore[no-untyped-call]
        finally:
            await client.aclose()

    async def configure(self, name: str, value: str) -> None:
        """A setting of Redis."""
        await self.control("CONFIG", "SET", name, value)

    def member(self, members: Sequence[Member]) -> Member | None:
        """One of them that works; never the last one that does."""
        living = [one for one in members if one.alive and one.ready and not one.paused]
        return self.dice.choice(living) if len(living) > 1 else None

    def some(self, proxies: Sequence[Proxy], share: float) -> list[Link]:
        """Some of the links that are well; at least one, if there is one."""
        links = [link for proxy in proxies for link in proxy.links if not link.deaf]
        return self.dice.sample(links, min(len(links), max(1, round(len(links) * share))))


@fault
async def worker_kill(f: Faults) -> str:
    worker = f.member(f.fleet.workers)
    if worker is None:
        return ""
    worker.kill(f.dice.uniform(0.0, 1.0))
    return worker.name


@fault
async def worker_pause(f: Faults) -> str:
    worker = f.member(f.fleet.workers)
    if worker is None:
        return ""
    seconds = f.dice.uniform(0.6, 3.0) * f.profile.lease
    worker.pause()
    await asyncio.sleep(seconds)
    worker.go_on()
    return f"{worker.name} {seconds:.2f} s"


@fault
async def worker_doze(f: Faults) -> str:
    """Wakes just when another worker takes over: that is when it could spoil something."""
    worker = f.member(f.fleet.workers)
    if worker is None:
        return ""
    seconds = f.dice.uniform(1.2, 2.0) * f.profile.lease
    worker.pause()
    await asyncio.sleep(seconds)
    worker.go_on()
    return f"{worker.name} {seconds:.2f} s"


@fault
async def worker_term(f: Faults) -> str:
    worker = f.member(f.fleet.workers)
    if worker is None:
        return ""
    worker.term(f.dice.uniform(0.0, 0.5))
    return worker.name


@fault
async def server_kill(f: Faults) -> str:
    server = f.member(f.fleet.servers)
    if server is None:
        return ""
    server.kill(f.dice.uniform(0.0, 1.0))
    return server.name


@fault
async def server_term(f: Faults) -> str:
    server = f.member(f.fleet.servers)
    if server is None:
        return ""
    server.term(f.dice.uniform(0.0, 0.5))
    return server.name


@fault
async def server_pause(f: Faults) -> str:
    server = f.member(f.fleet.servers)
    if server is None:
        return ""
    seconds = f.dice.uniform(0.2, 3.0)
    server.pause()
    await asyncio.sleep(seconds)
    server.go_on()
    return f"{server.name} {seconds:.2f} s"


def _all(links: list[Link], do: Callable[[Link], None]) -> str:
    for link in links:
        do(link)
    return f"{len(links)} links" if links else ""


def _deafen(link: Link) -> None:
    link.deaf = True


async def _slow(f: Faults, links: list[Link], *, delay: float = 0, rate: float = 0) -> str:
    seconds = f.dice.uniform(0.3, 2.0)
    for link in links:
        link.delay, link.rate = delay, rate
    await asyncio.sleep(seconds)
    for link in links:
        link.delay, link.rate = link.proxy.delay, 0
    return f"{len(links)} links for {seconds:.2f} s" if links else ""


@fault
async def client_reset(f: Faults) -> str:
    return _all(f.some(f.doors, 0.15), Link.reset)


@fault
async def client_close(f: Faults) -> str:
    return _all(f.some(f.doors, 0.15), Link.close)


@fault
async def client_half_open(f: Faults) -> str:
    return _all(f.some(f.doors, 0.1), _deafen)


@fault
async def client_delay(f: Faults) -> str:
    return await _slow(f, f.some(f.doors, 0.3), delay=f.dice.uniform(0.01, 0.3))


@fault
async def client_throttle(f: Faults) -> str:
    return await _slow(f, f.some(f.doors, 0.2), rate=f.dice.uniform(2_000, 50_000))


@fault
async def client_stall(f: Faults) -> str:
    seconds = f.dice.uniform(0.2, 2.0)
    return _all(f.some(f.doors, 0.2), lambda link: link.stall(seconds))


async def _lose(f: Faults, name: str) -> str:
    needle = SCRIPTS[name].sha
    before = f.wire.swallowed[needle]
    f.wire.needles.add(needle)
    for _ in range(100):
        await asyncio.sleep(0.02)
        if f.wire.swallowed[needle] > before:
            f.lost_replies[name] += 1
            return name
    f.wire.needles.discard(needle)
    return ""


@fault
async def wire_lost_reply(f: Faults) -> str:
    return await _lose(f, f.dice.choice(sorted(SCRIPTS)))


@fault
async def wire_lost_append(f: Faults) -> str:
    return await _lose(f, "append")


@fault
async def wire_reset(f: Faults) -> str:
    return _all(f.some([f.wire], 0.3), Link.reset)


@fault
async def wire_half_open(f: Faults) -> str:
    return _all(f.some([f.wire], 0.1), _deafen)


@fault
async def wire_delay(f: Faults) -> str:
    return await _slow(f, f.some([f.wire], 0.5), delay=f.dice.uniform(0.005, 0.15))


@fault
async def wire_stall(f: Faults) -> str:
    seconds = f.dice.uniform(0.1, 1.0)
    return _all(f.some([f.wire], 0.4), lambda link: link.stall(seconds))


@fault
async def redis_kill_pubsub(f: Faults) -> str:
    return f"{await f.control('CLIENT', 'KILL', 'TYPE', 'pubsub')} clients"


@fault
async def redis_kill_normal(f: Faults) -> str:
    return f"{await f.control('CLIENT', 'KILL', 'TYPE', 'normal')} clients"


@fault
async def redis_flush_scripts(f: Faults) -> str:
    await f.control("SCRIPT", "FLUSH")
    return "all"


@fault
async def redis_tiny_buffer(f: Faults) -> str:
    seconds = f.dice.uniform(0.5, 2.0)
    await f.configure("client-output-buffer-limit", "pubsub 4096 0 0")
    await asyncio.sleep(seconds)
    await f.configure("client-output-buffer-limit", "pubsub 33554432 8388608 60")
    return f"{seconds:.2f} s"


@fault
async def redis_out_of_memory(f: Faults) -> str:
    seconds = f.dice.uniform(0.5, 2.0)
    await f.configure("maxmemory", "1")
    await asyncio.sleep(seconds)
    await f.configure("maxmemory", "0")
    return f"{seconds:.2f} s"


@fault
async def redis_pause(f: Faults) -> str:
    if f.redis_busy:
        return ""
    f.redis_busy = True
    seconds = f.dice.choice((f.dice.uniform(0.2, 2), f.dice.uniform(1, 6)))
    f.storage.signal(signal.SIGSTOP)
    f.fleet.redis_away_at = time.monotonic() + seconds
    await asyncio.sleep(seconds)
    f.storage.signal(signal.SIGCONT)
    f.redis_busy = False
    return f"{seconds:.2f} s"


async def _restart(f: Faults, between: Callable[[], None]) -> str:
    if f.redis_busy:
        return ""
    f.redis_busy = True
    seconds = f.dice.uniform(0.0, 1.5)
    f.fleet.redis_away_at = time.monotonic() + seconds
    await f.storage.kill()
    between()
    await asyncio.sleep(seconds)
    await f.storage.start()
    f.redis_busy = False
    return f"away for {seconds:.2f} s"


@fault
async def redis_restart(f: Faults) -> str:
    return await _restart(f, lambda: None)


def _files(f: Faults) -> list[Path]:
    return sorted((f.storage.folder / "appendonlydir").glob("*"))


@fault
async def loss_flush(f: Faults) -> str:
    await f.control("FLUSHALL")
    return "all"


@fault
async def loss_restart_empty(f: Faults) -> str:
    def empty() -> None:
        for path in _files(f):
            path.unlink()

    return await _restart(f, empty)


@fault
async def loss_cut_file(f: Faults) -> str:
    cut = f.dice.randint(200, 20_000)

    def shorten() -> None:
        for path in _files(f):
            if ".incr." in path.name:
                with path.open("r+b") as file:
                    file.truncate(max(path.stat().st_size - cut, 0))

    return f"{cut} bytes, {await _restart(f, shorten)}"
