"""P4 and P5: the events per CPU second of a server, from the append to the socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from bench.figures import Bound, Measure, Play
from bench.rig import Rig

from .push import UNITS, all_of, push

RATE = "events per server CPU second"


@asynccontextmanager
async def contest(rig: Rig, size: Mapping[str, Any]) -> AsyncIterator[Mapping[str, Play]]:
    """Sends the same bursts of events to the same number of sockets of each server."""
    sockets, events = size["sockets"], size["events"]
    async with all_of(rig, sockets) as found:
        yield {
            who: partial(push, rig, pushed, sockets, sockets, events)
            for who, pushed in found.items()
        }


def _against(peer: str) -> Bound:
    least = {"ws": 0.8, "Socket.IO": 2}[peer]
    name = {
        "ws": "Node's ws",
        "Socket.IO": "Socket.IO with its Redis adapter",
    }[peer]
    text = f"events per CPU second of a server: Holdline divided by {name}"
    return Bound(text, lambda one: one["holdline"][RATE] / one[peer][RATE], least=least)


MEASURE = Measure(
    name="P4",
    title="Push: one event per socket, in bursts, through the whole server",
    sizes={
        "full": {"sockets": 1_000, "events": 25_000},
        "quick": {"sockets": 200, "events": 5_000},
    },
    units=UNITS,
    bounds=(
        _against("ws"),
        _against("Socket.IO"),
        Bound(
            "P5, events per CPU second of a server: "
            "Holdline divided by aiohttp and uvloop, which write a prepared frame",
            lambda one: one["holdline"][RATE] / one["floor"][RATE],
            least=0.5,
        ),
    ),
    open=contest,
)
