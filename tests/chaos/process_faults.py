"""Faults of server and worker processes: kills, SIGTERM, and pauses longer than a lease."""

from __future__ import annotations

import asyncio

from tests.chaos.faults import Fault, Faults
from tests.chaos.fleet import Member


async def worker_kill(f: Faults) -> str:
    worker = f.member(f.fleet.workers)
    if worker is None:
        return ""
    worker.kill(f.rng.uniform(0.0, 1.0))
    return worker.name


async def worker_pause(f: Faults) -> str:
    worker = f.member(f.fleet.workers)
    if worker is None:
        return ""
    seconds = f.rng.uniform(0.6, 3.0) * f.profile.lease
    worker.pause()
    await asyncio.sleep(seconds)
    worker.resume()
    return f"{worker.name} {seconds:.2f} s"


async def worker_pause_past_lease(f: Faults) -> str:
    """Pauses a worker until another one takes over its job.

    A late write by the paused worker could then corrupt the log.
    """
    worker = f.member(f.fleet.workers)
    if worker is None:
        return ""
    seconds = f.rng.uniform(1.2, 2.0) * f.profile.lease
    worker.pause()
    await asyncio.sleep(seconds)
    worker.resume()
    return f"{worker.name} {seconds:.2f} s"


async def worker_term(f: Faults) -> str:
    worker = f.member(f.fleet.workers)
    if worker is None:
        return ""
    worker.term(f.rng.uniform(0.0, 0.5))
    return worker.name


async def worker_replace(f: Faults) -> str:
    """Replaces a worker by one of the other version, as during an upgrade or a rollback."""
    return _replace(f, f.member(f.fleet.workers))


async def server_replace(f: Faults) -> str:
    """Replaces a server by one of the other version, as during an upgrade or a rollback."""
    return _replace(f, f.member(f.fleet.servers))


def _replace(f: Faults, member: Member | None) -> str:
    if member is None:
        return ""
    member.term(f.rng.uniform(0.0, 0.5))
    member.flip()
    return f"{member.name} by {member.version}"


async def server_kill(f: Faults) -> str:
    server = f.member(f.fleet.servers)
    if server is None:
        return ""
    server.kill(f.rng.uniform(0.0, 1.0))
    return server.name


async def server_term(f: Faults) -> str:
    server = f.member(f.fleet.servers)
    if server is None:
        return ""
    server.term(f.rng.uniform(0.0, 0.5))
    return server.name


async def server_pause(f: Faults) -> str:
    server = f.member(f.fleet.servers)
    if server is None:
        return ""
    seconds = f.rng.uniform(0.2, 3.0)
    server.pause()
    await asyncio.sleep(seconds)
    server.resume()
    return f"{server.name} {seconds:.2f} s"


KINDS: dict[str, Fault] = {
    "worker.kill": worker_kill,
    "worker.pause": worker_pause,
    "worker.pause_past_lease": worker_pause_past_lease,
    "worker.term": worker_term,
    "worker.replace": worker_replace,
    "server.replace": server_replace,
    "server.kill": server_kill,
    "server.term": server_term,
    "server.pause": server_pause,
}
