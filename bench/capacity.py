"""Estimates the processes, Redis masters, memory and cost of a deployment from measured results.

    python -m bench capacity --sockets 20000 --streams 2000 --tokens 30

The costs of one operation come from the JSON files in bench/results, so they hold for the machine
of the benchmarks. `docs/scaling.md` explains the calculation.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from .report import RESULTS

KIB: Final = 1024
GIB: Final = 1 << 30
STREAMS: Final = "holdline, 500 x 10"  # the load of P6 that has the highest cost per token
# The fewest masters of a Redis Cluster. One master needs no cluster.
MIN_MASTERS: Final = 3
PARTITIONS_PER_MASTER: Final = 5
# Upper limits of the commands per second that Redis counts for the polls, rescues and other checks
# of idle workers. A single worker checks each partition itself. More workers share the
# checks, so their commands grow with the partitions, and by a constant for each worker.
# `tests/bench/test_fleet.py` compares the limits with the simulated fleet.
IDLE_ALONE: Final = 10.0
IDLE_PER_PARTITION: Final = 30.0
IDLE_PER_WORKER: Final = 7.0


@dataclass(frozen=True, slots=True)
class Costs:
    """The measured costs of one operation. Times are CPU seconds, sizes are bytes."""

    server_per_token: float
    worker_per_token: float
    redis_per_token: float
    server_per_answer: float
    worker_per_answer: float
    redis_per_answer: float
    redis_per_command: float
    server_per_resume: float
    socket_bytes: float
    process_bytes: float
    answer_bytes: float
    answer_bytes_per_token: float

    @classmethod
    def measured(cls, folder: Path = RESULTS) -> Costs:
        """Reads the published results. Raises: OSError, KeyError."""

        def of(name: str) -> dict[str, dict[str, float]]:
            found: dict[str, Any] = json.loads((folder / f"{name}.json").read_bytes())["figures"]
            return {
                who: {figure: spread["median"] for figure, spread in figures.items()}
                for who, figures in found.items()
            }

        job, queue, token = of("p1")["holdline"], of("p3")["holdline"], of("p6")[STREAMS]
        push, memory, log = of("p10"), of("p8")["holdline"], of("p11")
        short = log["100 tokens, one delta per token"]["redis"]
        long = log["500 tokens, one delta per token"]["redis"]
        per_token = (long - short) / 400
        return cls(
            # With many sockets, an event costs more than in P6.
            server_per_token=token["server"]
            / 1e6
            * (push["many sockets"]["server"] / push["few sockets"]["server"]),
            worker_per_token=token["worker"] / 1e6,
            redis_per_token=token["redis"] / 1e6,
            server_per_answer=job["api"] / 1e3,
            worker_per_answer=job["worker"] / 1e3,
            redis_per_answer=job["redis"] / 1e3,
            redis_per_command=queue["redis"] / queue["commands"] / 1e6,
            server_per_resume=of("p9")["holdline"]["server"] / 1e6,
            socket_bytes=memory["memory"] * KIB,
            process_bytes=memory["empty"] * KIB * KIB,
            answer_bytes=short - 100 * per_token,
            answer_bytes_per_token=per_token,
        )


@dataclass(frozen=True, slots=True)
class Load:
    """The load of a deployment, and how full its processes may be.

    `tokens` is per second and stream. `utilization` is the share of a core that each process may
    use, so that the load can grow and the loss of a process can be absorbed. Prices are per month.
    """

    sockets: int = 10_000
    streams: int = 1_000
    tokens: float = 30.0
    answer_tokens: int = 500
    retention_seconds: int = 3_600
    concurrency: int = 100
    utilization: float = 0.5
    core_price: float = 25.0
    gib_price: float = 3.0


@dataclass(frozen=True, slots=True)
class Capacity:
    """The estimated size of a deployment. Each process needs one core.

    `idle_cores` is the part of the masters' CPU time that workers use while no job waits, and
    `resume_seconds` the CPU time of all servers if all sockets connect again and resume.
    """

    tokens_per_second: float
    answers_per_second: float
    servers: int
    workers: int
    masters: int
    partitions: int
    redis_cores: float
    idle_commands: float
    idle_cores: float
    server_bytes: float
    worker_bytes: float
    redis_bytes: float
    connections_per_master: int
    resume_seconds: float
    cost: float


def estimate(load: Load, costs: Costs) -> Capacity:
    """Returns the size of a deployment for a load. Raises: ValueError for an impossible load."""
    wrong = [one.name for one in fields(load) if getattr(load, one.name) < 0]
    if wrong or not load.tokens or not load.answer_tokens or not 0 < load.utilization <= 1:
        raise ValueError("the load has a negative or zero value, or a utilization above 1")
    tokens = load.streams * load.tokens
    answers = tokens / load.answer_tokens

    def processes(per_token: float, per_answer: float) -> int:
        cores = tokens * per_token + answers * per_answer
        return max(math.ceil(cores / load.utilization), 1)

    servers = processes(costs.server_per_token, costs.server_per_answer)
    workers = max(
        processes(costs.worker_per_token, costs.worker_per_answer),
        math.ceil(load.streams / load.concurrency),
    )
    redis = tokens * costs.redis_per_token + answers * costs.redis_per_answer
    masters, partitions, idle_cores = _masters(redis, workers, load, costs)
    stored = answers * load.retention_seconds
    redis_bytes = stored * (costs.answer_bytes + costs.answer_bytes_per_token * load.answer_tokens)
    server_bytes = servers * costs.process_bytes + load.sockets * costs.socket_bytes
    worker_bytes = workers * costs.process_bytes
    cores = servers + workers + masters
    memory = (server_bytes + worker_bytes + 2 * redis_bytes) / GIB
    return Capacity(
        tokens_per_second=tokens,
        answers_per_second=answers,
        servers=servers,
        workers=workers,
        masters=masters,
        partitions=partitions,
        redis_cores=redis + idle_cores,
        idle_commands=idle_commands(workers, partitions),
        idle_cores=idle_cores,
        server_bytes=server_bytes,
        worker_bytes=worker_bytes,
        redis_bytes=redis_bytes,
        connections_per_master=2 * (servers + workers),
        resume_seconds=load.sockets * costs.server_per_resume,
        cost=cores * load.core_price + memory * load.gib_price,
    )


def idle_commands(workers: int, partitions: int) -> float:
    """Returns the commands per second of idle workers, as an upper limit."""
    shared = IDLE_PER_PARTITION * partitions + IDLE_PER_WORKER * workers
    return min(IDLE_ALONE * workers * partitions, shared)


def _masters(redis: float, workers: int, load: Load, costs: Costs) -> tuple[int, int, float]:
    """Returns the numbers of masters and partitions, and the cores for the idle polls.

    More partitions cause more polls, so the numbers grow together until they suffice.
    """
    masters = 1
    while True:
        partitions = 1 if masters == 1 else masters * PARTITIONS_PER_MASTER
        idle = idle_commands(workers, partitions) * costs.redis_per_command
        needed = (redis + idle) / load.utilization
        if needed <= masters:
            return masters, partitions, idle
        masters = MIN_MASTERS if masters == 1 else masters + 1


def lines(load: Load, found: Capacity) -> list[str]:
    """Returns the estimate as a Markdown table."""
    memory = (found.server_bytes, found.worker_bytes, 2 * found.redis_bytes)
    server, worker, redis = (f"{size / GIB:,.2f} GiB" for size in memory)
    rows = {
        "load": f"{found.tokens_per_second:,.0f} tokens/s, "
        f"{found.answers_per_second:,.1f} answers/s",
        "server processes": f"{found.servers:,}, {server}",
        "worker processes": f"{found.workers:,}, {worker}",
        "Redis masters": f"{found.masters:,}, {redis} with room for as much again",
        "HOLDLINE_PARTITIONS": f"{found.partitions:,}",
        "connections to each master": f"{found.connections_per_master:,}",
        "CPU time of Redis": f"{found.redis_cores:,.2f} cores, of which idle polls: "
        f"{found.idle_cores:,.2f} ({found.idle_commands:,.0f} commands/s)",
        "all sockets connect again": f"{found.resume_seconds / found.servers:,.1f} s "
        "of each server",
        "price": f"{found.cost:,.0f} a month, at {load.core_price:g} per core and "
        f"{load.gib_price:g} per GiB",
    }
    return ["| quantity | estimate |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows.items())]


def main(argv: list[str]) -> int:
    """Prints an estimate, and returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench capacity", description="Estimates the size of a deployment."
    )
    for one in fields(Load):
        kind = float if isinstance(one.default, float) else int
        name = f"--{one.name.replace('_', '-')}"
        parser.add_argument(name, type=kind, default=one.default, help=f"default: {one.default:g}")
    parser.add_argument("--json", action="store_true", help="print all values as JSON")
    arguments = vars(parser.parse_args(argv))
    as_json = arguments.pop("json")
    load = Load(**arguments)
    try:
        found = estimate(load, Costs.measured())
    except ValueError as error:
        parser.error(str(error))
    print(json.dumps(asdict(found)) if as_json else "\n".join(lines(load, found)))
    return 0
