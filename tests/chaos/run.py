"""One run: a system, a swarm and faults for some seconds; then calm, and all is collected."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from jobs.cipher import Cipher
from jobs.errors import HoldlineError
from jobs.log.codec import decode_event, job_of
from jobs.log.log import read_all
from jobs.redis.pipe import Pipe
from jobs.redis.url import redis_from_url
from tests.chaos import network_faults, process_faults, redis_faults, sentinels
from tests.chaos.clients import Client, StreamClient, Workload
from tests.chaos.faults import Faults
from tests.chaos.fleet import Fleet, Member, free_port, running
from tests.chaos.history import Call, Event, History, Job
from tests.chaos.profiles import PROFILES
from tests.chaos.proxy import Proxy
from tests.chaos.socket_clients import Joiner, SocketClient
from tests.fake_model import FakeModel

FAULTS = process_faults.KINDS | network_faults.KINDS | redis_faults.KINDS | sentinels.KINDS
SERVERS, WORKERS = 3, 3
CALM_SECONDS = 10.0
BASELINE_SECONDS = 10.0
# New answers stop so long before the faults do: a retry waits for seconds at the most.
LAST_SECONDS = 1.5
MARKER = re.compile(r"marker=(\S+)")


@dataclass
class RunResult:
    """What is left of a run."""

    history: History
    faults: Faults
    # What is wrong besides the promises that the checker knows.
    anomalies: list[str] = field(default_factory=list)
    settled_after: float = 0.0
    baseline_after: float = 0.0


async def run(
    seed: int, seconds: float, *, profile: str = "usual", sabotage: str = "", folder: Path
) -> RunResult:
    """Runs for so many seconds, and some more until everything has ended.

    With an even seed what is in Redis is encrypted.
    """
    chosen = PROFILES[profile]
    rng = random.Random(f"{seed} set-up")
    data = folder / "redis"
    data.mkdir(parents=True)
    keys = folder / "keys" if seed % 2 == 0 else None
    if keys is not None:
        keys.write_text(base64.b64encode(rng.randbytes(32)).decode())
    async with contextlib.AsyncExitStack() as stack:
        storing = (
            sentinels.watched_pair(data, chosen.sentinels)
            if chosen.sentinels
            else running(data, free_port(rng))
        )
        storage = await stack.enter_async_context(storing)
        redis_proxy = await stack.enter_async_context(Proxy(free_port(rng), storage.port))
        model = await stack.enter_async_context(FakeModel())
        url = storage.url or f"redis://127.0.0.1:{redis_proxy.port}"
        fleet = await stack.enter_async_context(
            Fleet(
                folder,
                environ(url, chosen.lease, keys),
                ("tests.chaos.sabotage", sabotage) if sabotage else (),
            )
        )
        for _ in range(SERVERS):
            fleet.add_server(free_port(rng))
        for _ in range(WORKERS):
            fleet.add_worker(model.url)
        assert await fleet.ready(), "\n".join(member.tail for member in fleet.members)
        server_proxies = [
            await stack.enter_async_context(Proxy(free_port(rng), port)) for port in fleet.ports
        ]
        baseline = {member.pid: open_files(member) for member in fleet.servers}
        http = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        )
        workload = Workload([f"http://127.0.0.1:{proxy.port}" for proxy in server_proxies], http)
        workload.plain, workload.model_pace = chosen.plain, chosen.model_pace
        clients = swarm(workload, seed)
        faults = Faults(
            chosen,
            FAULTS,
            random.Random(f"{seed} faults"),
            fleet,
            storage,
            redis_proxy,
            server_proxies,
        )
        tasks = [asyncio.create_task(client.run()) for client in clients]
        stack.push_async_callback(end, tasks)
        await asyncio.sleep(0.5)  # the clients begin before the first fault
        asyncio.get_running_loop().call_later(
            seconds - LAST_SECONDS, setattr, workload, "open", False
        )
        await faults.run(seconds)
        await faults.heal()
        workload.open, workload.closing = False, True
        came_back = await fleet.ready()  # a fault has ended when the process that it killed is back
        calm = time.monotonic()
        result = RunResult(History([], {}, {}, [], calm, CALM_SECONDS, loss=chosen.loss), faults)
        if not came_back:
            result.anomalies.append("a process did not come back after the faults")
        await until(lambda: all(client.idle for client in clients), calm + CALM_SECONDS)
        result.settled_after = time.monotonic() - calm
        await end(tasks)
        cipher = None if keys is None else Cipher(keys.read_text())
        async with redis_from_url(f"redis://127.0.0.1:{storage.port}", cipher).pipe() as pipe:
            await check_leftovers(result, fleet, pipe, model, http, baseline)
            await collect(result.history, pipe)
        result.history.traces = workload.traces
        result.history.calls = [
            Call(call.number, marker, workload.tokens.get(marker, 0))
            for call in model.calls
            if (marker := _marker(call.prompt))
        ]
        for member in fleet.members:
            result.anomalies += member.anomalies
            result.anomalies += member.errors()
    return result


def environ(redis_url: str, lease: float, keys: Path | None) -> dict[str, str]:
    """The settings of all processes: everything that waits waits shortly."""
    return {
        "HOLDLINE_ENCRYPTION_KEYS": str(keys or ""),
        "REDIS_URL": redis_url,
        "OPENAI_API_KEY": "test",
        "HOLDLINE_MODEL": "simulation",
        "HOLDLINE_LEASE_SECONDS": str(lease),
        "HOLDLINE_MAX_ATTEMPTS": "5",
        "HOLDLINE_SHUTDOWN_GRACE_SECONDS": "0.3",
        "HOLDLINE_PING_SECONDS": "1",
        "HOLDLINE_FIRST_TOKEN_SECONDS": "1",
        "HOLDLINE_STALL_TIMEOUT_SECONDS": "1",
        "HOLDLINE_MODEL_TIMEOUT_SECONDS": "20",
        "HOLDLINE_RETENTION_SECONDS": "600",
    }


def swarm(workload: Workload, seed: int) -> list[Client]:
    """The clients, each with a generator of its own."""
    clients: list[Client] = []

    def rng(name: str) -> random.Random:
        return random.Random(f"{seed} {name}")

    kinds: list[tuple[str, type[Client], int, int]] = [
        ("lanes", SocketClient, 8, 3),
        ("single", SocketClient, 6, 1),
        ("stream", StreamClient, 6, 1),
        ("joiner", Joiner, 4, 2),
    ]
    for name, kind, number, most in kinds:
        names = [f"{name}-{index}" for index in range(number)]
        clients += [kind(name, workload, rng(name), most) for name in names]
    return clients


async def end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancels them, and raises what one of them has died of."""
    # Again and again: a cancellation that meets a timeout inside of a library can get lost.
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=1)
    for task in tasks:
        if not task.cancelled():
            task.result()


async def until(true: Callable[[], bool], deadline: float) -> None:
    """Waits for it to be true, not longer than the deadline."""
    while not true() and time.monotonic() < deadline:  # noqa: ASYNC110 - a condition of many parts
        await asyncio.sleep(0.02)  # the interval of the polling


def open_files(member: Member) -> int:
    """How many files and sockets the process holds, where the system tells."""
    with contextlib.suppress(OSError):
        return len(list(Path(f"/proc/{member.pid}/fd").iterdir()))
    return 0


async def check_leftovers(
    result: RunResult,
    fleet: Fleet,
    pipe: Pipe,
    model: FakeModel,
    http: aiohttp.ClientSession,
    baseline: dict[int, int],
) -> None:
    """After the last client has gone nothing may be left but what retention keeps."""
    most = max(baseline.values()) + 4
    rest: list[str] = []
    began = time.monotonic()
    while time.monotonic() - began < BASELINE_SECONDS:
        rest = await in_redis(pipe)
        rest += [f"the model still answers call {call.number}" for call in model.open_calls]
        for server, port in zip(fleet.servers, fleet.ports, strict=True):
            if (number := open_files(server)) > most:
                rest.append(f"{server.name} holds {number} files, {most} at most at its start")
            rest += await in_server(http, server.name, port)
        if not rest:
            break
        await asyncio.sleep(0.2)  # the interval of the polling
    result.baseline_after = time.monotonic() - began
    result.anomalies += [f"left behind: {what}" for what in rest]


async def in_redis(pipe: Pipe) -> list[str]:
    """What is left of a queue in which nothing waits and nothing runs."""
    rest: list[str] = []
    for key in sorted(await pipe.call("KEYS", "holdline:*")):
        name = key.decode().partition("}:")[2]
        if await pipe.call("PTTL", key) == -1:
            rest.append(f"key {name} would live for ever")
        if name.startswith(("leases", "delayed", "open", "waiting:", "ready", "running", "held")):
            kind = await pipe.call("TYPE", key)
            how_many = {b"zset": "ZCARD", b"list": "LLEN"}.get(kind)
            number = await pipe.call(how_many, key) if how_many else "?"
            rest.append(f"key {name} with {number} entries")
    clients = (await pipe.call("CLIENT", "LIST")).splitlines()
    # A replica and the Sentinels are none of ours.
    connections = sum(b" name=sentinel" not in one and b" flags=S" not in one for one in clients)
    # A server has a pipe and a subscriber, a worker one more pipe to wait on; one more is ours.
    if connections > (most := 2 * SERVERS + 3 * WORKERS + 1):
        rest.append(f"Redis has {connections} connections, {most} would do")
    return rest


async def in_server(http: aiohttp.ClientSession, name: str, port: int) -> list[str]:
    """Followers and sockets that nobody holds any more."""
    async with http.get(f"http://127.0.0.1:{port}/metrics") as response:
        page = await response.text()
    found = dict(re.findall(r"^(holdline_\w+) (\S+)$", page, re.MULTILINE))
    gauges = ("holdline_followers", "holdline_sockets", "holdline_slow_sockets")
    return [f"{name} {gauge} {found[gauge]}" for gauge in gauges if float(found[gauge])]


async def collect(history: History, pipe: Pipe) -> None:
    """All jobs and logs, as Redis has them."""
    for key in await pipe.call("KEYS", "holdline:*}:job:*"):
        id_ = key.decode().rpartition(":")[2]
        status, attempt, packed = await pipe.call("HMGET", key, "status", "attempt", "job")
        marker = ""
        with contextlib.suppress(HoldlineError, TypeError):
            job = job_of(id_, packed, pipe.cipher)
            marker = (job.params.get("metadata") or {}).get("marker", "")
        history.jobs[id_] = Job((status or b"?").decode(), int(attempt or 0), marker)
        view = await read_all(pipe, id_)
        events: list[Event] = [decode_event(entry) for entry in view.entries]
        history.logs[id_] = events


def _marker(prompt: str) -> str:
    found = MARKER.search(prompt)
    return found[1] if found else ""


def work_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for the run, in memory where that is possible: Redis writes to it all the time."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(
        prefix="holdline-chaos-", dir=memory if memory.is_dir() else None
    )
