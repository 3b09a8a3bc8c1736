"""P10: the CPU time per operation, which should hardly grow with the load."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from bench.answers import a_delta, running
from bench.client import Arrivals, Client, crowd, dismiss
from bench.client_pool import PATH, resume
from bench.figures import Bound, Measure, Play, Round, Sample
from bench.processes import Cpu, Process
from bench.rig import Rig, free_port
from jobs.log.log import LogWriter
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe

from .push import WORDS, Pushed, any_frame, bare, floor, ours, peer, push

BURST = 100
MISSED = 10


@asynccontextmanager
async def contest(rig: Rig, size: Mapping[str, Any]) -> AsyncIterator[Mapping[str, Play]]:
    """Compares Holdline under a small and a large load, in three pairs of contestants.

    The loads differ in the number of sockets, in the backlog, or in the length of the response. The
    bare aiohttp server also runs with the small and the large number of sockets.
    """
    async with AsyncExitStack() as stack:
        few = await stack.enter_async_context(ours(rig, BURST))
        many = await stack.enter_async_context(ours(rig, size["sockets"]))
        # The backlog is in a separate Redis, so that it cannot affect the queue without a backlog.
        behind = await stack.enter_async_context(Rig())
        empty, full = rig.ours("noop"), behind.ours("noop")
        await full.ask(f"fill {size['backlog']}", 600)
        answering = await stack.enter_async_context(_answers(rig, size))
        yield {
            "few sockets": partial(_push, rig, few, BURST, size["events"]),
            "many sockets": partial(_push, rig, many, size["sockets"], size["events"]),
            "no backlog": partial(_jobs, rig, empty, size["jobs"]),
            "backlog": partial(_jobs, behind, full, size["jobs"]),
            **answering,
            **await _floor(stack, rig, size),
        }


async def _floor(stack: AsyncExitStack, rig: Rig, size: Mapping[str, Any]) -> dict[str, Play]:
    """Returns the runs of the bare aiohttp server with few and with many sockets.

    These runs show the cost of the kernel and of the sockets alone. The large load has fewer
    sockets than Holdline's, because not every system lets one process open twice 10,000 sockets.
    """
    plays: dict[str, Play] = {}
    for name, sockets in (("few", BURST), ("many", size["floor"])):
        port = free_port()
        if server := await floor(rig, port):
            pushed = await stack.enter_async_context(
                peer(rig, server, port, sockets, "/?n={n}", bare, any_frame)
            )
            plays[f"floor, {name} sockets"] = partial(_push, rig, pushed, sockets, size["events"])
    return plays


async def _push(rig: Rig, pushed: Pushed, sockets: int, events: int) -> Sample:
    sample = await push(rig, pushed, sockets, BURST, events)
    return {name: sample[name] for name in ("server", "redis")}


async def _jobs(rig: Rig, worker: Process, jobs: int) -> Sample:
    cpu = Cpu(worker, rig.redis)
    await worker.ask(f"fill {jobs}")
    await worker.ask(f"drain {jobs}")
    taken = cpu.taken()
    return {
        "worker": taken[worker.name] / jobs * 1e6,
        "redis": taken["redis"] / jobs * 1e6,
    }


@asynccontextmanager
async def _answers(rig: Rig, size: Mapping[str, Any]) -> AsyncIterator[dict[str, Play]]:
    """Prepares responses with short and with long logs; each resume sends equally many events."""
    server, port = await rig.server(HOLDLINE_PING_SECONDS="300")
    async with Pipe(Redis(rig.redis_url), deadline=60) as pipe:
        plays: dict[str, Play] = {}
        for name in ("short", "long"):
            writers = await running(pipe, BURST)
            for writer in writers:
                said = [a_delta(writer.response_id, WORDS)] * size[name]
                for at in range(0, len(said), 500):
                    await writer.append(said[at : at + 500])
            plays[f"resume of {name}"] = partial(_resume, rig, server, port, writers, size)
        yield plays


async def _resume(
    rig: Rig, server: Process, port: int, writers: list[LogWriter], size: Mapping[str, Any]
) -> Sample:
    """Measures sockets that each resume all of the given running responses."""
    sockets, arrivals = size["resumes"] // BURST, Arrivals()

    def on_frame(_: Client, payload: bytes) -> None:
        arrivals.add(payload.count(WORDS.encode()))

    clients = await crowd(port, PATH, range(sockets), on_frame)
    cpu = Cpu(server, rig.redis)
    for number, client in enumerate(clients):
        for writer in writers:
            client.send(resume(writer.response_id, writer.length - 1 - MISSED))
        await arrivals.reached((number + 1) * BURST * MISSED)
    taken, resumes = cpu.taken(), sockets * BURST
    await dismiss(clients)
    return {
        "server": taken[server.name] / resumes * 1e6,
        "redis": taken["redis"] / resumes * 1e6,
    }


def _ratio(much: str, little: str) -> Bound:
    def of(one: Round) -> float:
        return _cost(one[much]) / _cost(one[little])

    return Bound(TEXTS[much], of, most=1.3)


def _cost(sample: Sample) -> float:
    return sum(sample[name] for name in ("server", "worker", "redis") if name in sample)


TEXTS = {
    "many sockets": "CPU time per event: many sockets divided by 100 sockets",
    "backlog": "CPU time per job: with a backlog divided by without a backlog",
    "resume of long": "CPU time per resume with 10 missed events: "
    "a long answer divided by a short answer",
}
MEASURE = Measure(
    name="P10",
    title="Scaling: CPU time of server or worker and of Redis, with a small and with a large load",
    sizes={
        "full": {
            "sockets": 10_000,
            "floor": 9_000,
            "backlog": 100_000,
            "events": 20_000,
            "jobs": 4_000,
            "short": 50,
            "long": 2_000,
            "resumes": 2_500,
        },
        "quick": {
            "sockets": 1_000,
            "floor": 1_000,
            "backlog": 10_000,
            "events": 10_000,
            "jobs": 2_000,
            "short": 50,
            "long": 500,
            "resumes": 2_000,
        },
    },
    units={"server": "µs", "worker": "µs", "redis": "µs"},
    bounds=(
        _ratio("many sockets", "few sockets"),
        _ratio("backlog", "no backlog"),
        _ratio("resume of long", "resume of short"),
    ),
    open=contest,
)
