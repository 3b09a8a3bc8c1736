"""Network faults, between clients and servers and between Holdline and Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from jobs.scripts import SCRIPTS
from tests.chaos.faults import Fault, Faults
from tests.chaos.proxy import Link


def _all(links: list[Link], do: Callable[[Link], None]) -> str:
    for link in links:
        do(link)
    return f"{len(links)} links" if links else ""


def _half_open(link: Link) -> None:
    link.half_open = True


async def _slow(f: Faults, links: list[Link], *, delay: float = 0, rate: float = 0) -> str:
    seconds = f.rng.uniform(0.3, 2.0)
    for link in links:
        link.delay, link.rate = delay, rate
    await asyncio.sleep(seconds)
    for link in links:
        link.delay, link.rate = link.proxy.delay, 0
    return f"{len(links)} links for {seconds:.2f} s" if links else ""


async def client_reset(f: Faults) -> str:
    return _all(f.some(f.server_proxies, 0.15), Link.reset)


async def client_close(f: Faults) -> str:
    return _all(f.some(f.server_proxies, 0.15), Link.close)


async def client_half_open(f: Faults) -> str:
    return _all(f.some(f.server_proxies, 0.1), _half_open)


async def client_delay(f: Faults) -> str:
    return await _slow(f, f.some(f.server_proxies, 0.3), delay=f.rng.uniform(0.01, 0.3))


async def client_throttle(f: Faults) -> str:
    return await _slow(f, f.some(f.server_proxies, 0.2), rate=f.rng.uniform(2_000, 50_000))


async def client_stall(f: Faults) -> str:
    seconds = f.rng.uniform(0.2, 2.0)
    return _all(f.some(f.server_proxies, 0.2), lambda link: link.stall(seconds))


async def _lose(f: Faults, name: str) -> str:
    needle = SCRIPTS[name].sha
    before = f.redis_proxy.swallowed[needle]
    f.redis_proxy.needles.add(needle)
    for _ in range(100):
        await asyncio.sleep(0.02)  # the polling interval
        if f.redis_proxy.swallowed[needle] > before:
            f.lost_replies[name] += 1
            return name
    f.redis_proxy.needles.discard(needle)
    return ""


async def wire_lost_reply(f: Faults) -> str:
    return await _lose(f, f.rng.choice(sorted(SCRIPTS)))


async def wire_lost_append(f: Faults) -> str:
    return await _lose(f, "append")


async def wire_reset(f: Faults) -> str:
    return _all(f.some([f.redis_proxy], 0.3), Link.reset)


async def wire_half_open(f: Faults) -> str:
    return _all(f.some([f.redis_proxy], 0.1), _half_open)


async def wire_delay(f: Faults) -> str:
    return await _slow(f, f.some([f.redis_proxy], 0.5), delay=f.rng.uniform(0.005, 0.15))


async def wire_stall(f: Faults) -> str:
    seconds = f.rng.uniform(0.1, 1.0)
    return _all(f.some([f.redis_proxy], 0.4), lambda link: link.stall(seconds))


KINDS: dict[str, Fault] = {
    "client.reset": client_reset,
    "client.close": client_close,
    "client.half_open": client_half_open,
    "client.delay": client_delay,
    "client.throttle": client_throttle,
    "client.stall": client_stall,
    "wire.lost_reply": wire_lost_reply,
    "wire.lost_append": wire_lost_append,
    "wire.reset": wire_reset,
    "wire.half_open": wire_half_open,
    "wire.delay": wire_delay,
    "wire.stall": wire_stall,
}
