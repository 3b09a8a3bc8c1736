"""Starts groups of Redis processes: a cluster, and a master with Sentinels."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hiredis

from command.up.pdeathsig import with_pdeathsig
from command.up.redis import installed
from jobs.errors import HoldlineError, RedisAway
from jobs.redis.connection import Redis
from jobs.redis.error_reply import exception_of
from tests.paths.redis_faults import store as stores
from tests.paths.redis_faults.store import Store
from tests.system import free_port, wait_until

SLOTS = 16_384
SECONDS = 20.0
DOWN_MS = "1000"
MASTER = "answers"


async def wait_for_reply(store: Store, *command: str, text: str) -> None:
    """Waits until the reply to a command contains the given text."""

    async def has_come() -> bool:
        return text.encode() in await store.call(*command)

    await wait_until(has_come, SECONDS)


async def ask(node: Store, *command: str | bytes | int) -> Any:
    """Sends one command and returns its reply, without loading the scripts as `Store.call` does.

    Raises: RedisTrouble.
    """
    reply = await Redis(node.url).ask(*command)
    if isinstance(reply, hiredis.ReplyError):
        raise exception_of(str(reply))
    return reply


@dataclass
class Nodes:
    """A cluster: its masters, and their replicas, if any, in the same order."""

    masters: list[Store]
    replicas: list[Store]

    @property
    def url(self) -> str:
        """The cluster's URL for Holdline, which contains two of its nodes."""
        places = ",".join(f"127.0.0.1:{node.port}" for node in self.masters[:2])
        return f"redis+cluster://{places}"

    async def move(self, slot: int, source: Store, target: Store) -> None:
        """Moves a slot with all its keys to another master at once.

        Raises: AssertionError if a fault has interrupted the move, so that the slot stays.
        """
        id_ = (await ask(target, "CLUSTER", "MYID")).decode()
        await ask(source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", id_)

        async def has_moved() -> bool:
            return await port_of_master(slot, target) == target.port

        await wait_until(has_moved, SECONDS)

    async def begin_move(self, slot: int, source: Store, target: Store) -> None:
        """Begins to move a slot key by key, as `redis-cli --cluster reshard` does."""
        ids = [(await ask(node, "CLUSTER", "MYID")).decode() for node in (source, target)]
        await ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        await ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])

    async def end_move(self, slot: int, source: Store, target: Store) -> None:
        """Moves the remaining keys, and makes the target the master of the slot.

        The other nodes learn of it from these two.
        """
        while await migrate_keys(slot, source, target, 100):
            pass
        id_ = (await ask(target, "CLUSTER", "MYID")).decode()
        for node in (target, source):
            await ask(node, "CLUSTER", "SETSLOT", slot, "NODE", id_)


async def port_of_master(slot: int, node: Store) -> int:
    """Returns the port of the master of a slot, according to a node, or 0 if it knows none."""
    for first, last, (_, port, *_), *_ in await ask(node, "CLUSTER", "SLOTS"):
        if first <= slot <= last:
            return int(port)
    return 0


async def migrate_keys(slot: int, source: Store, target: Store, most: int) -> int:
    """Moves up to `most` keys of a slot to another master, and returns their number."""
    keys = await ask(source, "CLUSTER", "GETKEYSINSLOT", slot, most)
    if keys:
        # A key that an interrupted move has left on both masters is replaced.
        place = ("127.0.0.1", target.port, "", 0, 5000, "REPLACE")
        await ask(source, "MIGRATE", *place, "KEYS", *keys)
    return len(keys)


@contextlib.asynccontextmanager
async def cluster(
    masters: int = 3,
    *,
    replicas: bool = False,
    options: tuple[str, ...] = (),
    down_ms: str = DOWN_MS,
) -> AsyncIterator[Nodes]:
    """Starts a cluster and waits until it is healthy.

    A replica, if there are any, replaces its master after `down_ms` of silence.
    """
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", down_ms, *options)
    async with contextlib.AsyncExitStack() as stack:
        nodes: list[Store] = []
        bus = [str(free_port()) for _ in range(masters * (1 + replicas))]
        for port in bus:
            running = stores.running(*options, "--cluster-port", port, tcp=True)
            nodes.append(await stack.enter_async_context(running))
        found = Nodes(nodes[:masters], nodes[masters:])
        share = SLOTS // masters
        for index, node in enumerate(found.masters):
            end = SLOTS if index == masters - 1 else (index + 1) * share
            await node.call("CLUSTER", "ADDSLOTSRANGE", index * share, end - 1)
        for node, port in zip(nodes[1:], bus[1:], strict=True):
            await nodes[0].call("CLUSTER", "MEET", "127.0.0.1", node.port, port)
        for node in nodes:
            await wait_for_reply(node, "CLUSTER", "INFO", text=f"cluster_known_nodes:{len(nodes)}")
        for master, replica in zip(found.masters, found.replicas, strict=replicas):
            await replica.call(
                "CLUSTER", "REPLICATE", (await master.call("CLUSTER", "MYID")).decode()
            )
            await wait_for_reply(replica, "INFO", "replication", text="master_link_status:up")
        for node in nodes:
            await wait_for_reply(node, "CLUSTER", "INFO", text="cluster_state:ok")
        yield found


@contextlib.contextmanager
def sentinel(folder: Path, master: Store, quorum: int, down_ms: str) -> Iterator[int]:
    """Starts a Sentinel that monitors a master. Yields its port."""
    port, file = free_port(), folder / f"sentinel-{free_port()}.conf"
    file.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor {MASTER} 127.0.0.1 {master.port} {quorum}\n"
        f"sentinel down-after-milliseconds {MASTER} {down_ms}\n"
        f"sentinel failover-timeout {MASTER} 3000\n"
    )
    program = installed(os.environ.get("PATH")).path
    argv, set_pdeathsig = with_pdeathsig([str(program), str(file), "--sentinel"], signal.SIGKILL)
    process = subprocess.Popen(
        argv,
        preexec_fn=set_pdeathsig,  # noqa: PLW1509 - ends the child with this process
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield port
    finally:
        process.kill()
        process.wait()


@contextlib.asynccontextmanager
async def with_sentinels(
    folder: Path, *, sentinels: int = 3, down_ms: str = DOWN_MS
) -> AsyncIterator[tuple[str, Store, Store]]:
    """Starts a master with a replica and Sentinels. Yields its URL, the master and the replica."""
    async with stores.running(tcp=True) as master, stores.running(tcp=True) as replica:
        await replica.call("REPLICAOF", "127.0.0.1", master.port)
        await wait_for_reply(replica, "INFO", "replication", text="master_link_status:up")
        quorum = sentinels // 2 + 1
        with contextlib.ExitStack() as stack:
            ports = [
                stack.enter_context(sentinel(folder, master, quorum, down_ms))
                for _ in range(sentinels)
            ]
            for port in ports:
                await _wait_for_discovery(port, sentinels)
            places = ",".join(f"127.0.0.1:{port}" for port in ports)
            yield f"redis+sentinel://{places}/{MASTER}", master, replica


async def wait_for_promotion(replica: Store) -> None:
    """Waits until Sentinels have made a replica the master."""

    async def promoted() -> bool:
        # The promotion closes all connections to the replica.
        with contextlib.suppress(RedisAway):
            role = await Redis(replica.url).ask("ROLE")
            return isinstance(role, list) and role[:1] == [b"master"]
        return False

    await wait_until(promoted, 30)


async def _wait_for_discovery(port: int, sentinels: int) -> None:
    """Waits until a Sentinel has found the other Sentinels and the replica."""
    wanted = (str(sentinels - 1).encode(), b"1")

    async def all_are_known() -> bool:
        with contextlib.suppress(HoldlineError):
            said = await Redis(f"redis://127.0.0.1:{port}").ask("SENTINEL", "MASTER", MASTER)
            if isinstance(said, list):
                fields = dict(zip(said[::2], said[1::2], strict=True))
                return wanted == (fields[b"num-other-sentinels"], fields[b"num-slaves"])
        return False

    await wait_until(all_are_known, SECONDS)
