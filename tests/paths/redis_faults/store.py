"""A test's own Redis, which can be killed, stopped, emptied, truncated and started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from command.up.embedded import Embedded, prepared
from command.up.pdeathsig import with_pdeathsig
from command.up.redis import installed
from jobs.names import Partition
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from tests.keys_without_ttl import keys_without_ttl
from tests.system import free_port, wait_until

ROOT = Path(__file__).parents[3]
NAMES = Partition(0)
Snapshot = dict[bytes, tuple[int, bytes]]


class Store:
    """Successive Redis processes with the same address and data folder."""

    def __init__(self, embedded: Embedded, port: int) -> None:
        self._embedded = embedded
        self._popen: subprocess.Popen[bytes] | None = None
        self.port = port
        self.url = f"redis://127.0.0.1:{port}" if port else embedded.url

    async def start(self, *options: str) -> None:
        """Starts Redis and waits until it has loaded its data and answers commands."""
        argv, set_pdeathsig = with_pdeathsig([*self._embedded.argv, *options], signal.SIGKILL)
        self._popen = subprocess.Popen(
            argv,
            preexec_fn=set_pdeathsig,  # noqa: PLW1509 - ends the child with this process
            pass_fds=[self._embedded.lock],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        await wait_until(self._embedded.answers)

    def signal(self, number: signal.Signals) -> None:
        if self._popen is not None:
            self._popen.send_signal(number)

    async def kill(self) -> None:
        """Sends SIGKILL and waits for the end. Data already written to the file survives."""
        if self._popen is not None:
            self._popen.kill()
            popen, self._popen = self._popen, None
            await wait_until(lambda: popen.poll() is not None)

    def delete_data(self) -> None:
        """Deletes the data, so that the next start finds an empty database."""
        shutil.rmtree(self._embedded.data_dir / "appendonlydir")

    def truncate(self, octets: int) -> None:
        """Truncates the file, as if its last bytes had never reached the disk."""
        [file] = (self._embedded.data_dir / "appendonlydir").glob("*.incr.aof")
        os.truncate(file, file.stat().st_size - octets)

    async def snapshot(self) -> Snapshot:
        """Returns all current data by key, with the TTL in ms."""
        async with Pipe(Redis(self.url)) as pipe:
            keys = await pipe.call("KEYS", "*")
            return {
                key: (await pipe.call("PTTL", key), await pipe.call("DUMP", key)) for key in keys
            }

    async def restore(self, snapshot: Snapshot) -> None:
        """Replaces all data with a snapshot, like a failover to a replica that was far behind."""
        async with Pipe(Redis(self.url)) as pipe:
            await pipe.call("FLUSHALL")
            for key, (ttl, data) in snapshot.items():
                await pipe.call("RESTORE", key, ttl, data)

    async def back_up(self, target: Path) -> None:
        """Writes a snapshot of the running Redis to a file, like `redis-cli --rdb`."""
        await self.call("SAVE")
        shutil.copyfile(self._embedded.data_dir / "dump.rdb", target)

    async def restore_backup(self, backup: Path) -> None:
        """Replaces all data with a snapshot from `back_up`, by the commands of docs/upgrade.md."""
        page = (ROOT / "docs/upgrade.md").read_text()
        block = page.partition("\n## Restore\n")[2].partition("```sh\n")[2].partition("```")[0]
        stop, *commands, start = block.replace("/var/lib/redis", "$DIR").splitlines()
        assert ["systemctl stop redis-server", "systemctl start redis-server"] == [stop, start]
        await self.kill()
        await asyncio.to_thread(
            subprocess.run,
            ["bash", "-euc", "\n".join(commands)],
            cwd=backup.parent,
            env={**os.environ, "DIR": str(self._embedded.data_dir)},
            check=True,
        )
        await self.start()

    async def call(self, *command: str | bytes | int) -> Any:
        """Sends one command over a new connection and returns its reply."""
        async with Pipe(Redis(self.url)) as pipe:
            return await pipe.call(*command)

    async def replicate(self, url: str) -> None:
        """Makes this Redis a replica of another one, and waits until both are in sync."""
        await self.call("REPLICAOF", "127.0.0.1", url.rpartition(":")[2])

        async def linked() -> bool:
            return b"master_link_status:up" in await self.call("INFO", "replication")

        await wait_until(linked, 10)

    async def leftovers(self) -> dict[str, Any]:
        """Returns the keys, by kind, that a finished answer must not leave behind."""
        async with Pipe(Redis(self.url)) as pipe:
            found = {
                "leases": await pipe.call("ZRANGE", NAMES.leases, 0, -1),
                "open": await pipe.call("ZRANGE", NAMES.open, 0, -1),
                "delayed": await pipe.call("ZRANGE", NAMES.delayed, 0, -1),
                "waiting": await pipe.call("KEYS", f"{NAMES.waiting_prefix}*"),
                "ready": await pipe.call("ZRANGE", NAMES.ready, 0, -1),
                "without TTL": await keys_without_ttl(pipe),
            }
        return {name: value for name, value in found.items() if value}


@contextlib.asynccontextmanager
async def running(*options: str, tcp: bool = False) -> AsyncIterator[Store]:
    """Starts a Redis with persistence. With `tcp`, it listens on a loopback port."""
    port = free_port() if tcp else 0
    # Synchronize with a replica at once instead of waiting for further replicas.
    own = ["--repl-diskless-sync-delay", "0"]
    own += ["--port", str(port), "--bind", "127.0.0.1"] if tcp else []
    with prepared(installed(os.environ.get("PATH")).path, None, *own, *options) as embedded:
        store = Store(embedded, port)
        try:
            await store.start()
            yield store
        finally:
            await store.kill()
