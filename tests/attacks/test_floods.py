"""Many at once, and one that does not stop: whoever behaves notices nothing.

Each compares a well-behaved client's waits for a pong under the attack with those before it, in the
same run, and prints both. Attacker, victim and other tests share two cores, so what is asserted is
loose: a server that reads a flood as it comes fails it by far. `ROOM` is allowed at any ratio.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from tests.attacks.conftest import REQUEST_SECONDS, Target, Victim, Waits
from tests.attacks.raw import BINARY, PING, Raw, frame

pytestmark = pytest.mark.timeout(180)
RATIO = 5.0
ROOM = Waits(0.05, 1.0)
Flood = Callable[[Target], Coroutine[Any, Any, None]]


def unmoved(attack: str, before: Waits, during: Waits) -> None:
    """Fails where a well-behaved client waits much longer than before."""
    print(f"{attack}: a pong took {before}, and under attack {during}")
    for allowed, then, now in zip(ROOM, before, during, strict=True):
        assert now < max(RATIO * then, allowed)


@contextlib.asynccontextmanager
async def under(attack: Flood, target: Target, count: int = 2) -> AsyncIterator[None]:
    """So many attackers at once, as long as the context lasts."""
    tasks = [asyncio.create_task(attack(target)) for _ in range(count)]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _pour(target: Target, data: bytes, *, read: bool, greeting: bytes = b"") -> None:
    """Sends the same for ever, over a new connection whenever the server has had enough."""
    while True:
        async with Raw(target.url) as raw:
            await raw.upgrade()
            await raw.send(greeting)
            reading = asyncio.create_task(raw.rest(1000)) if read else None
            try:
                while not raw.reader.at_eof() and not raw.writer.is_closing():
                    await raw.send(data)
                    # An attacker has a machine of its own; here it shares the victim's.
                    await asyncio.sleep(0.005)
            finally:
                if reading is not None:
                    reading.cancel()
                    await asyncio.wait([reading])


async def pings(target: Target) -> None:
    await _pour(target, frame(b"", PING) * 500, read=True)


async def pings_unread(target: Target) -> None:
    await _pour(target, frame(b"a" * 100, PING) * 100, read=False)


async def messages(target: Target) -> None:
    await _pour(target, frame(b'{"type":"holdline:ping","id":1}') * 100, read=True)


async def garbage(target: Target) -> None:
    await _pour(target, frame(b"\x00" * 50, BINARY) * 100, read=True)


async def fragments(target: Target) -> None:
    begun = frame(b"{", fin=False)
    await _pour(target, frame(b"", 0, fin=False) * 500, read=True, greeting=begun)


async def connections(target: Target) -> None:
    while True:
        async with Raw(target.url) as raw:
            await raw.send(b"GET / HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "attack",
    [pings, pings_unread, messages, garbage, fragments, connections],
    ids=lambda f: f.__name__,
)
async def test_a_flood_is_its_own_senders_trouble(
    target: Target, victim: Victim, attack: Flood
) -> None:
    before = await victim.measured()
    async with under(attack, target):
        await asyncio.sleep(0.5)
        during = await victim.measured()
        said = await target.ask()
    assert "completed" == said
    unmoved(attack.__name__, before, during)


async def test_a_thousand_silent_connections_are_let_go(target: Target, victim: Victim) -> None:
    before = await victim.measured(100)
    async with contextlib.AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(Raw(target.url)) for _ in range(1000)]
        during = await victim.measured(100)
        ends = await asyncio.gather(*(raw.rest(REQUEST_SECONDS + 20) for raw in silent))
        assert {b""} == set(ends)
    unmoved("1000 silent connections", before, during)


async def test_five_hundred_sockets_that_say_nothing_harm_nobody(
    target: Target, victim: Victim
) -> None:
    before = await victim.measured(100)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(500):
            raw = await stack.enter_async_context(Raw(target.url))
            assert 101 == (await raw.upgrade())[0]
        during = await victim.measured(100)
        assert "completed" == await target.ask()
    unmoved("500 silent sockets", before, during)
