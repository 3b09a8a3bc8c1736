"""Starts the masters of a Redis Cluster on this machine, and reads their counters."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from command.up.redis import installed
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe

from .processes import BenchError, Process
from .rig import CALLS, Rig, free_port

SLOTS: Final = 16_384
SECONDS: Final = 30.0
BUS_MESSAGES: Final = re.compile(r"messages_publish\w*_sent:(\d+)")
# Commands that do not depend on Holdline's work.
_OTHER: Final = ("info", "config", "cluster", "script", "client")


@dataclass(frozen=True, slots=True)
class Masters:
    """The masters of a cluster without replicas, with one control connection to each of them."""

    processes: list[Process]
    ports: list[int]
    controls: list[Pipe]

    @property
    def url(self) -> str:
        """The cluster's URL for Holdline."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in self.ports)

    async def bus_messages(self) -> int:
        """Returns the number of pub/sub messages that the masters have sent to each other."""
        said = [(await one.call("CLUSTER", "INFO")).decode() for one in self.controls]
        return sum(int(count) for text in said for count in BUS_MESSAGES.findall(text))

    async def commands(self) -> list[int]:
        """Returns the number of commands of each master, including those in scripts."""
        totals = []
        for one in self.controls:
            calls: Counter[str] = Counter()
            for name, count in CALLS.findall((await one.call("INFO", "commandstats")).decode()):
                calls[name] += int(count)
            totals.append(sum(count for name, count in calls.items() if name not in _OTHER))
        return totals

    async def connections(self) -> list[int]:
        """Returns the number of clients of each master, without the control connection."""
        lists = [(await one.call("CLIENT", "LIST")).decode() for one in self.controls]
        return [len(clients.splitlines()) - 1 for clients in lists]


@contextlib.asynccontextmanager
async def cluster(rig: Rig, masters: int) -> AsyncIterator[Masters]:
    """Starts a cluster and waits until it serves all slots. Raises: BenchError."""
    binary = str(installed(os.environ.get("PATH")).path)
    ports = [free_port() for _ in range(masters)]
    buses = [free_port() for _ in range(masters)]
    processes = []
    for port, bus in zip(ports, buses, strict=True):
        options = {
            "--port": str(port),
            "--bind": "127.0.0.1",
            "--dir": str(rig.folder),
            "--save": "",
            "--appendonly": "no",
            "--maxmemory-policy": "noeviction",
            "--cluster-enabled": "yes",
            "--cluster-config-file": f"nodes-{port}.conf",
            "--cluster-port": str(bus),
        }
        words = [word for pair in options.items() for word in pair]
        processes.append(rig.start("master", [binary, *words]))
    for process in processes:
        await process.until_said("Ready to accept connections")
    async with contextlib.AsyncExitStack() as stack:
        pipes = [Pipe(Redis(f"redis://127.0.0.1:{port}"), deadline=30) for port in ports]
        controls = [await stack.enter_async_context(pipe) for pipe in pipes]
        await _join(controls, ports, buses)
        yield Masters(processes, ports, controls)


async def _join(controls: list[Pipe], ports: list[int], buses: list[int]) -> None:
    share, last = SLOTS // len(controls), len(controls) - 1
    for index, one in enumerate(controls):
        end = SLOTS if index == last else (index + 1) * share
        await one.call("CLUSTER", "ADDSLOTSRANGE", index * share, end - 1)
    for port, bus in list(zip(ports, buses, strict=True))[1:]:
        await controls[0].call("CLUSTER", "MEET", "127.0.0.1", port, bus)
    deadline = time.monotonic() + SECONDS
    for one in controls:
        while "cluster_state:ok" not in (said := (await one.call("CLUSTER", "INFO")).decode()) or (
            f"cluster_known_nodes:{len(controls)}" not in said
        ):
            if time.monotonic() > deadline:
                raise BenchError("the cluster did not become ready")
            await asyncio.sleep(0.1)
