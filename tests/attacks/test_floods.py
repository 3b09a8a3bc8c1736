"""Many at once, and one that does not stop: whoever behaves notices nothing.

A flood is compared with the same flood at another server of the same machine: so the attacker takes
as much of the machine, and what is left is what it takes of the server. What cannot be switched
like that is compared with what was before, loosely, for tests share two cores; `ROOM` is allowed at
any ratio. Both are printed.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.attacks.conftest import REQUEST_SECONDS, Target, Victim, Waits
from tests.attacks.floods import FLOODS, Flood
from tests.attacks.raw import Raw

pytestmark = pytest.mark.timeout(180)
SHARE = 1.2
# On top of it, median and p99 in seconds: a turn of the loop with some messages of each attacker.
TURN = Waits(0.002, 0.005)
WINDOW = 80
MIN_ROUNDS, ROUNDS = 3, 12
RATIO = 5.0
ROOM = Waits(0.05, 1.0)


def unmoved(attack: str, before: Waits, during: Waits) -> None:
    """Fails where a well-behaved client waits much longer than before."""
    print(f"{attack}: a pong took {before}, and under attack {during}")
    for allowed, then, now in zip(ROOM, before, during, strict=True):
        assert now < max(RATIO * then, allowed)


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_is_its_own_senders_trouble(
    target: Target, victim: Victim, name: str
) -> None:
    """Others wait within a fifth of what they wait while the same flood is at another server.

    Whatever else the machine does makes a wait longer, never shorter, and the flood is there all
    the time: the best rounds of both, in turn, tell what it does by itself.
    """
    elsewhere, here = list[Waits](), list[Waits]()
    async with Flood(name) as flood:
        while len(here) < MIN_ROUNDS or (len(here) < ROUNDS and not _unmoved(elsewhere, here)):
            for url, waits in ((target.decoy.url, elsewhere), (target.url, here)):
                await flood.at(url)
                waits.append(await victim.measured(WINDOW))
        said = await target.ask()
        await flood.at("")
    print(f"{name}: a pong took {best(elsewhere)} with it elsewhere, {best(here)} with it here")
    assert "completed" == said
    assert _unmoved(elsewhere, here), (elsewhere, here)


def best(rounds: list[Waits]) -> Waits:
    """The shortest median and the shortest p99."""
    return Waits(*map(min, zip(*rounds, strict=True)))


def _unmoved(elsewhere: list[Waits], here: list[Waits]) -> bool:
    pairs = zip(TURN, best(elsewhere), best(here), strict=True)
    return all(now <= SHARE * then + turn for turn, then, now in pairs)


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
