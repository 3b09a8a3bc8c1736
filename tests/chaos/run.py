"""A single run: a system under load with faults, then a calm phase, and then its history."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import re
import tempfile
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from jobs.cipher import Cipher
from jobs.errors import HoldlineError
from jobs.log.codec import decode_event, job_of
from jobs.log.log import read_all
from jobs.redis.pipe import Pipe
from jobs.redis.retry import retry
from jobs.redis.url import redis_from_url
from tests.chaos import (
    model_faults,
    moving_cluster,
    network_faults,
    process_faults,
    redis_faults,
    sentinels,
)
from tests.chaos.clients import Client, StreamClient, Workload
from tests.chaos.device_rules import check_devices
from tests.chaos.devices import DeviceClient, User, observe, users_of
from tests.chaos.faults import Faults
from tests.chaos.fleet import Fleet, Member
from tests.chaos.history import Call, Event, History, Job
from tests.chaos.log_rules import TOKEN
from tests.chaos.profiles import PROFILES, Profile
from tests.chaos.proxy import Proxy
from tests.chaos.socket_clients import Joiner, SocketClient
from tests.chaos.storage import Storage, free_port, running
from tests.fake_model import FakeModel
from tests.upgrade.releases import unpack

FAULTS = (
    process_faults.KINDS
    | network_faults.KINDS
    | redis_faults.KINDS
    | sentinels.KINDS
    | moving_cluster.KINDS
    | model_faults.KINDS
)
SERVERS, WORKERS = 3, 3
DEVICES = ("phone", "desk", "tablet")  # of each user
BASELINE_SECONDS = 10.0
# Clients stop sending prompts this many seconds before the faults end, because retries take time.
LAST_SECONDS = 1.5
JOB_KEYS = "holdline:*}:job:*"
MARKER = re.compile(r"marker=(\S+)")


@dataclass
class RunResult:
    """The result of a run."""

    history: History
    faults: Faults
    # Problems other than violations of the promises that the checker verifies.
    anomalies: list[str] = field(default_factory=list)
    # The events that the endpoint has sent for answers in the background.
    events_sent: int = 0
    settled_after: float = 0.0
    baseline_after: float = 0.0


async def run(
    seed: int, seconds: float, *, profile: str = "usual", sabotage: str = "", folder: Path
) -> RunResult:
    """Runs the system with faults for `seconds`, then until all answers have ended.

    With an even seed, the data in Redis is encrypted.
    """
    chosen = PROFILES[profile]
    rng = random.Random(f"{seed} set-up")
    data = folder / "redis"
    data.mkdir(parents=True)
    keys = folder / "keys" if seed % 2 == 0 else None
    if keys is not None:
        keys.write_text(base64.b64encode(rng.randbytes(32)).decode())
    async with contextlib.AsyncExitStack() as stack:
        storage = await stack.enter_async_context(start_storage(chosen, data, rng))
        redis_proxy = await stack.enter_async_context(Proxy(free_port(rng), storage.port))
        model = await stack.enter_async_context(FakeModel())
        users = users_of(chosen.users, folder / "signers.json") if chosen.users else []
        other = unpack(folder / "release") if chosen.versions else None
        url = storage.url or f"redis://127.0.0.1:{redis_proxy.port}"
        fleet = await stack.enter_async_context(
            Fleet(
                folder,
                environ(url, chosen.lease, keys, chosen.stall_timeout)
                | {"HOLDLINE_PARTITIONS": str(storage.partitions)}
                | {"HOLDLINE_MAX_ATTEMPTS": str(chosen.max_attempts)}
                | ({"HOLDLINE_JWT_KEYS": str(folder / "signers.json")} if users else {})
                | models_file(chosen.models, model, folder),
                ("tests.chaos.sabotage", sabotage) if sabotage else (),
                other,
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
        urls = [f"http://127.0.0.1:{proxy.port}" for proxy in server_proxies]
        workload = Workload(urls, http, chosen)
        if chosen.models:
            workload.models = sorted(tomllib.loads(chosen.models)["models"])
        clients = device_swarm(workload, seed, users) if users else swarm(workload, seed)
        faults = Faults(
            chosen,
            FAULTS,
            random.Random(f"{seed} faults"),
            fleet,
            storage,
            redis_proxy,
            server_proxies,
            model,
        )
        tasks = [asyncio.create_task(client.run()) for client in clients]
        stack.push_async_callback(end, tasks)
        await asyncio.sleep(0.5)  # the clients start before the first fault
        asyncio.get_running_loop().call_later(
            seconds - LAST_SECONDS, setattr, workload, "open", False
        )
        await faults.run(seconds)
        await faults.heal()
        workload.open, workload.closing = False, True
        # A fault ends when the killed process is ready again.
        ready_again = await fleet.ready()
        calm = time.monotonic()
        history = History([], {}, {}, [], calm, chosen.calm)
        history.loss, history.keeps_output, history.rude = (
            chosen.loss,
            chosen.keeps_output,
            chosen.rude,
        )
        result = RunResult(history, faults)
        if not ready_again:
            result.anomalies.append("a process was not ready again after the faults")
        await until(lambda: all(client.idle for client in clients), calm + chosen.calm)
        await settle_devices(workload, users, fleet.ports[0], history)
        result.settled_after = time.monotonic() - calm
        await end(tasks)
        cipher = None if keys is None else Cipher(keys.read_text())
        async with redis_from_url(storage.direct_url, cipher).pipe() as pipe:
            await check_leftovers(result, fleet, pipe, model, http, baseline)
            await collect(result.history, pipe)
        result.events_sent = model.background.sent
        history.traces, history.device_traces = workload.traces, workload.device_traces
        result.history.calls = [
            Call(call.number, marker, workload.tokens.get(marker, 0), len(TOKEN.findall(call.sent)))
            for call in model.calls
            if (marker := _marker(call.prompt))
        ]
        result.anomalies += faults.broken
        for member in fleet.members:
            result.anomalies += member.anomalies
            result.anomalies += member.errors()
    return result


def start_storage(
    profile: Profile, folder: Path, rng: random.Random
) -> contextlib.AbstractAsyncContextManager[Storage]:
    """Starts a single Redis, a master with Sentinels, or a cluster."""
    if profile.sentinels:
        return sentinels.start_pair(folder, profile.sentinels)
    if profile.cluster:
        return moving_cluster.start_group(folder, profile.cluster, rng)
    return running(folder, free_port(rng))


def environ(
    redis_url: str, lease: float, keys: Path | None, stall_timeout: float = 1.0
) -> dict[str, str]:
    """Returns the settings of all processes, with short timeouts."""
    return {
        "HOLDLINE_ENCRYPTION_KEYS": str(keys or ""),
        "REDIS_URL": redis_url,
        "OPENAI_API_KEY": "test",
        "HOLDLINE_MODEL": "simulation",
        "HOLDLINE_LEASE_SECONDS": str(lease),
        "HOLDLINE_SHUTDOWN_GRACE_SECONDS": "0.3",
        "HOLDLINE_PING_SECONDS": "1",
        "HOLDLINE_FIRST_TOKEN_SECONDS": str(stall_timeout),
        "HOLDLINE_STALL_TIMEOUT_SECONDS": str(stall_timeout),
        "HOLDLINE_MODEL_TIMEOUT_SECONDS": str(20 * stall_timeout),
        "HOLDLINE_RETENTION_SECONDS": "600",
    }


def models_file(models: str, model: FakeModel, folder: Path) -> dict[str, str]:
    """Writes the models file of the profile, if any, and returns its setting."""
    if not models:
        return {}
    path = folder / "models.toml"
    path.write_text(models.replace("{url}", model.url))
    return {"HOLDLINE_MODELS": str(path), "HOLDLINE_MODEL": ""}


def swarm(workload: Workload, seed: int) -> list[Client]:
    """Returns the clients, each with its own random generator."""
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


def device_swarm(workload: Workload, seed: int, users: list[User]) -> list[Client]:
    """Returns the devices of the users."""
    return [
        DeviceClient(name, workload, random.Random(f"{seed} {name}"), user)
        for user in users
        for name in [f"{user.name}/{kind}" for kind in DEVICES]
    ]


async def settle_devices(
    workload: Workload, users: list[User], port: int, history: History
) -> None:
    """Waits until the devices have the state in the API, at most until the bound of the run."""
    history.devices = workload.devices
    deadline = history.calm_at + history.bound
    while users:
        history.observed = await observe(users, workload.http, f"http://127.0.0.1:{port}")
        if not check_devices(history.devices, history.observed) or time.monotonic() > deadline:
            return
        await asyncio.sleep(0.2)  # the polling interval


async def end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancels the tasks, and raises the first exception that any of them raised."""
    # The loop is needed because a timeout inside a library can swallow a cancellation.
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=1)
    for task in tasks:
        if not task.cancelled():
            task.result()


async def until(condition: Callable[[], bool], deadline: float) -> None:
    """Waits until the condition is true, at most until the deadline."""
    while not condition() and time.monotonic() < deadline:  # noqa: ASYNC110 - there is no single event to wait for
        await asyncio.sleep(0.02)  # the polling interval


def open_files(member: Member) -> int:
    """Returns the number of open files and sockets of a process, or 0 if unknown."""
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
    """Records leftovers, other than retained responses, after the last client has disconnected."""
    most = max(baseline.values()) + 4
    rest: list[str] = []
    began = time.monotonic()
    while time.monotonic() - began < BASELINE_SECONDS:
        # The last fault may have been a failover, after which a connection may still close once.
        rest = await retry(lambda: leftovers_in_redis(pipe), seconds=BASELINE_SECONDS)
        rest += [f"the model is still answering call {call.number}" for call in model.open_calls]
        for server, port in zip(fleet.servers, fleet.ports, strict=True):
            if (number := open_files(server)) > most:
                rest.append(f"{server.name} has {number} open files, expected at most {most}")
            rest += await leftovers_in_server(http, server.name, port)
        if not rest:
            break
        await asyncio.sleep(0.2)  # the polling interval
    result.baseline_after = time.monotonic() - began
    result.anomalies += [f"left behind: {what}" for what in rest]


async def leftovers_in_redis(pipe: Pipe) -> list[str]:
    """Returns descriptions of data in Redis that should be gone now that all jobs have ended."""
    return [line for node in await pipe.nodes() for line in await leftovers_in_node(node)]


async def leftovers_in_node(pipe: Pipe) -> list[str]:
    """Returns the descriptions for a single Redis, or for one master of a cluster."""
    rest: list[str] = []
    for key in sorted(await pipe.call("KEYS", "holdline:*")):
        name = key.decode().partition("}:")[2]
        if await pipe.call("PTTL", key) == -1:
            rest.append(f"key {name} has no TTL")
        if name.startswith(("leases", "delayed", "open", "waiting:", "ready", "running", "held")):
            kind = await pipe.call("TYPE", key)
            how_many = {b"zset": "ZCARD", b"list": "LLEN"}.get(kind)
            number = await pipe.call(how_many, key) if how_many else "?"
            rest.append(f"key {name} with {number} entries")
    clients = (await pipe.call("CLIENT", "LIST")).splitlines()
    connections = sum(not is_of_redis(one) for one in clients)
    # The expected connections: each server and each worker has a pipe and a subscriber, and this
    # program has one pipe.
    if connections > (most := 2 * (SERVERS + WORKERS) + 1):
        rest.append(f"Redis has {connections} connections, expected at most {most}")
    if b"errorstat_CROSSSLOT" in await pipe.call("INFO", "errorstats"):
        rest.append("Redis has refused a command with keys of several slots")
    return rest


def is_of_redis(client: bytes) -> bool:
    """Returns true if this line of CLIENT LIST is the connection of a replica, Sentinel or master.

    A master keeps the connection over which it has moved keys for ten seconds after a MIGRATE.
    """
    return any(mark in client for mark in (b" name=sentinel", b" flags=S", b" cmd=restore"))


async def leftovers_in_server(http: aiohttp.ClientSession, name: str, port: int) -> list[str]:
    """Returns followers and sockets that a server still counts after all clients have left."""
    async with http.get(f"http://127.0.0.1:{port}/metrics") as response:
        page = await response.text()
    found = dict(re.findall(r"^(holdline_\w+) (\S+)$", page, re.MULTILINE))
    gauges = ("holdline_followers", "holdline_sockets", "holdline_slow_sockets")
    return [f"{name} {gauge} {found[gauge]}" for gauge in gauges if float(found[gauge])]


async def collect(history: History, pipe: Pipe) -> None:
    """Reads all jobs and logs from Redis into the history."""
    for key in [key for node in await pipe.nodes() for key in await node.call("KEYS", JOB_KEYS)]:
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
    """Returns the run's folder, in memory if possible, because Redis writes continuously."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(
        prefix="holdline-chaos-", dir=memory if memory.is_dir() else None
    )
