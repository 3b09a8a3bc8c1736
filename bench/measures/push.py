"""Sends bursts of events to many sockets, one event for each socket, and waits for all events.

Holdline's events take the whole path: an append by the real Lua script to the log of a running
response, the notification, the follower, the encoding and the socket. The peers have no log, so
they only receive a plain PUBLISH of the same size.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgpack  # type: ignore[import-untyped]

from bench.answers import a_delta, running
from bench.client import Arrivals, Client, crowd, dismiss
from bench.client_pool import DELTA, PATH, resume
from bench.figures import Sample
from bench.processes import Cpu, Process
from bench.rig import Rig, free_port
from jobs.log.log import LogWriter
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe

# WORDS and EVENT_BYTES are chosen so that Holdline's event is as long as a peer's message.
WORDS: Final = "tok42 "
EVENT_BYTES: Final = 184


class Pushed(Protocol):
    """A server whose connected sockets can receive bursts of events."""

    server: Process
    arrivals: Arrivals

    async def burst(self, numbers: range) -> None:
        """Sends one event to each numbered socket, and returns when Redis has accepted them all."""


@dataclass(slots=True)
class Ours:
    """A Holdline server with sockets, each of which follows a different running response."""

    server: Process
    arrivals: Arrivals
    clients: list[Client] = field(default_factory=list)
    writers: list[LogWriter] = field(default_factory=list)

    async def burst(self, numbers: range) -> None:
        """Appends one text delta to the response that each numbered socket follows."""
        writers = self.writers
        await asyncio.gather(
            *(writers[n].append([a_delta(writers[n].response_id, WORDS)]) for n in numbers)
        )


@dataclass(slots=True)
class Peer:
    """A peer's server with sockets.

    `publication` returns the channel and the message for a socket's number.
    """

    server: Process
    arrivals: Arrivals
    pipe: Pipe
    publication: Callable[[int], tuple[str, bytes]]
    clients: list[Client] = field(default_factory=list)

    async def burst(self, numbers: range) -> None:
        """Publishes one message to the channel of each numbered socket."""
        call, publication = self.pipe.call, self.publication
        await asyncio.gather(*(call("PUBLISH", *publication(n)) for n in numbers))


@asynccontextmanager
async def ours(rig: Rig, count: int) -> AsyncIterator[Ours]:
    """Starts a Holdline server with `count` sockets that follow different running responses."""
    server, port = await rig.server(HOLDLINE_PING_SECONDS="300")
    async with Pipe(Redis(rig.redis_url), deadline=60) as pipe:
        pushed = Ours(server, Arrivals(), writers=await running(pipe, count))

        def on_frame(_: Client, payload: bytes) -> None:
            # `response.queued` is the second event of each response. If it arrives, the socket
            # follows the response.
            if payload.startswith((DELTA, b'{"type":"response.queued"')):
                pushed.arrivals.add()

        pushed.clients = await crowd(port, PATH, range(count), on_frame)
        for client, writer in zip(pushed.clients, pushed.writers, strict=True):
            client.send(resume(writer.response_id))
        await pushed.arrivals.reached(count)
        try:
            yield pushed
        finally:
            await dismiss(pushed.clients)


@asynccontextmanager
async def peer(
    rig: Rig,
    server: Process,
    port: int,
    count: int,
    path: str,
    publication: Callable[[int], tuple[str, bytes]],
    on_frame: Callable[[Client, bytes, Arrivals], None],
) -> AsyncIterator[Peer]:
    """Connects `count` sockets to a peer's server, and waits until each of them is subscribed."""
    async with Pipe(Redis(rig.redis_url), deadline=60) as pipe:
        pushed = Peer(server, Arrivals(), pipe, publication)
        pushed.clients = await crowd(
            port, path, range(count), lambda c, payload: on_frame(c, payload, pushed.arrivals)
        )
        await pushed.arrivals.reached(count)
        try:
            yield pushed
        finally:
            await dismiss(pushed.clients)


def bare(number: int) -> tuple[str, bytes]:
    """Returns the channel and the message that Node's ws and the bare aiohttp server expect."""
    return f"push:{number}", b"x" * EVENT_BYTES


def emitted(number: int) -> tuple[str, bytes]:
    """Returns the channel and the message that Socket.IO's emitter publishes to a room."""
    room = f"room{number}"
    packet = {"type": 2, "data": ["text", "x" * (EVENT_BYTES - 11)], "nsp": "/"}
    options: dict[str, Any] = {"rooms": [room], "except": [], "flags": {}}
    return f"socket.io#/#{room}#", msgpack.packb(["emitter", packet, options])


def any_frame(_: Client, __: bytes, arrivals: Arrivals) -> None:
    """Counts each frame: first the frame `subscribed`, then the events."""
    arrivals.add()


def engine_frame(client: Client, payload: bytes, arrivals: Arrivals) -> None:
    """Handles an Engine.IO frame: replies to the handshake and to pings, and counts events."""
    if payload.startswith(b"42"):
        arrivals.add()
    elif payload.startswith(b"0"):
        client.send(b"40")
    elif payload == b"2":
        client.send(b"3")


@asynccontextmanager
async def all_of(rig: Rig, count: int) -> AsyncIterator[dict[str, Pushed]]:
    """Starts Holdline and each installed peer, all with `count` sockets."""
    async with AsyncExitStack() as stack:
        found: dict[str, Pushed] = {"holdline": await stack.enter_async_context(ours(rig, count))}
        for name, path, publication, on_frame, start in (
            ("floor", "/?n={n}", bare, any_frame, floor),
            ("ws", "/?n={n}", bare, any_frame, node_ws),
            ("Socket.IO", ENGINE, emitted, engine_frame, socketio),
        ):
            port = free_port()
            if server := await start(rig, port):
                found[name] = await stack.enter_async_context(
                    peer(rig, server, port, count, path, publication, on_frame)
                )
        yield found


ENGINE: Final = "/socket.io/?EIO=4&transport=websocket&n={n}"


async def floor(rig: Rig, port: int) -> Process | None:
    """Starts the bare aiohttp server, which writes a prepared frame."""
    return await rig.python("floor_push", str(port), package="aiohttp")


async def node_ws(rig: Rig, port: int) -> Process | None:
    """Starts the minimal server with Node's ws."""
    return await rig.node("ws_push", str(port), package="ws")


async def socketio(rig: Rig, port: int) -> Process | None:
    """Starts the Socket.IO server with its Redis adapter."""
    return await rig.node("socketio_push", str(port), package="socket.io")


async def push(rig: Rig, pushed: Pushed, sockets: int, each: int, events: int) -> Sample:
    """Sends at least `events` events, in bursts of `each`, to the sockets in rotation."""
    loop = asyncio.get_running_loop()
    began, cpu = loop.time(), Cpu(pushed.server, rig.redis)
    sent = at = 0
    before = pushed.arrivals.count
    while sent < events:
        at = 0 if at + each > sockets else at
        await pushed.burst(range(at, at + each))
        sent, at = sent + each, at + each
        await pushed.arrivals.reached(before + sent)
    taken, seconds = cpu.taken(), loop.time() - began
    server = taken[pushed.server.name]
    return {
        "events per server CPU second": sent / server,
        "server": server / sent * 1e6,
        "redis": taken["redis"] / sent * 1e6,
        "harness": taken["self"] / sent * 1e6,
        "events per second": sent / seconds,
    }


UNITS: Final = {
    "events per server CPU second": "",
    "server": "µs per event",
    "redis": "µs per event",
    "harness": "µs per event",
    "events per second": "",
}
