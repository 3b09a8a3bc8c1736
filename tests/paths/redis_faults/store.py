"""A Redis of a test's own that can be killed, stopped, emptied, cut short and started again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from typing import Any

from dev.embedded import Embedded, prepared
from dev.pdeathsig import with_pdeathsig
from dev.redis import installed
from jobs.names import Partition
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from tests.keys_without_ttl import keys_without_ttl
from tests.system import free_port, wait_until

NAMES = Partition(0)
Snapshot = dict[bytes, tuple[int, bytes]]


class Store:
    """One Redis process after the other, all on the same address and the same data folder."""

    def __init__(self, embedded: Embedded, port: int) -> None:
        self._embedded = embedded
        self._popen: subprocess.Popen[bytes] | None = None
        self.port = port
        self.url = f"redis://127.0.0.1:{port}" if port else embedded.url

    async def start(self) -> None:
        """Returns when it answers: what its file holds has been read."""
        argv, set_pdeathsig = with_pdeathsig(self._embedded.argv, signal.SIGKILL)
        self._popen = subprocess.Popen(
            argv,
            preexec_fn=set_pdeathsig,  # noqa: PLW1509 - ties the child's life to ours
            pass_fds=[self._embedded.lock],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        await wait_until(self._embedded.answers)

    def signal(self, number: signal.Signals) -> None:
        if self._popen is not None:
            self._popen.send_signal(number)

    async def kill(self) -> None:
        """SIGKILL, and gone; the file is as the kernel has it."""
        if self._popen is not None:
            self._popen.kill()
            popen, self._popen = self._popen, None
            await wait_until(lambda: popen.poll() is not None)

    def forget(self) -> None:
        """The next start finds nothing."""
        shutil.rmtree(self._embedded.data_dir / "appendonlydir")

    def cut(self, octets: int) -> None:
        """The next start finds that the last bytes never reached the disk."""
        [file] = (self._embedded.data_dir / "appendonlydir").glob("*.incr.aof")
        os.truncate(file, file.stat().st_size - octets)

    async def snapshot(self) -> Snapshot:
        """All that it holds now, by key, with the time to live in ms."""
        async with Pipe(Redis(self.url)) as pipe:
            keys = await pipe.call("KEYS", "*")
            return {
                key: (await pipe.call("PTTL", key), await pipe.call("DUMP", key)) for key in keys
            }

    async def go_back(self, snapshot: Snapshot) -> None:
        """Holds what it held then, and nothing else, like a replica that was far behind."""
        async with Pipe(Redis(self.url)) as pipe:
            await pipe.call("FLUSHALL")
            for key, (ttl, data) in snapshot.items():
                await pipe.call("RESTORE", key, ttl, data)

    async def call(self, *command: str | int) -> Any:
        """The reply of one command, over a connection of its own."""
        async with Pipe(Redis(self.url)) as pipe:
            return await pipe.call(*command)

    async def leftovers(self) -> dict[str, Any]:
        """What no ended answer leaves behind, by name; empty when everything has ended."""
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
    """A Redis that keeps a file, started; `tcp` puts it on a port of loopback."""
    port = free_port() if tcp else 0
    # A replica need not wait for others.
    own = ["--repl-diskless-sync-delay", "0"]
    own += ["--port", str(port), "--bind", "127.0.0.1"] if tcp else []
    with prepared(installed(os.environ.get("PATH")).path, None, *own, *options) as embedded:
        store = Store(embedded, port)
        try:
            await store.start()
            yield store
        finally:
            await store.kill()
