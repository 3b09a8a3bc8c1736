"""The Redis of a run, which can be killed, stopped and started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_FSIZE

from command.up.redis import installed
from tests.chaos.clocks import clock_environ
from tests.system import ROOT, START_SECONDS, Process, start_process, wait_until


def free_port(rng: random.Random) -> int:
    """Returns a free loopback port below the kernel's ephemeral range."""
    while True:
        port = rng.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


class Storage:
    """A Redis on its own TCP port. Acknowledged writes stay in its file even after a kill."""

    url = ""  # set if Holdline's processes connect directly, without the proxy
    partitions = 1

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.folder = folder
        self.process: Process | None = None

    @property
    def direct_url(self) -> str:
        """The URL for connections without the proxy, to the current master if there are several."""
        return f"redis://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Starts Redis and waits until it answers."""
        binary = installed(os.environ.get("PATH")).path
        # `always` is required: with `everysec`, a write may be acknowledged before it is in the
        # file.
        options = {
            "--port": str(self.port),
            "--bind": "127.0.0.1",
            "--dir": str(self.folder),
            "--save": "",
            "--appendonly": "yes",
            "--appendfsync": "always",
            "--maxmemory-policy": "noeviction",
            "--enable-debug-command": "local",
        }
        # If SIGXFSZ is ignored, a write beyond RLIMIT_FSIZE fails as on a full disk.
        argv = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "redis", str(binary)]
        argv += [part for pair in options.items() for part in pair]
        environ = clock_environ(self.folder.parent, "redis")
        log = self.folder / "redis.log"
        self.process = start_process(Process, "redis", argv, log, environ, ROOT)
        await wait_until(self.answers, START_SECONDS)

    async def answers(self) -> bool:
        """Returns whether Redis answers PING."""
        with contextlib.suppress(OSError):
            async with asyncio.timeout(1):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    writer.write(b"PING\r\n")
                    return (await reader.readline()).startswith(b"+PONG")
                finally:
                    writer.close()
        return False

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        if self.process is not None and self.process.popen.poll() is None:
            self.process.signal(number)

    async def kill(self) -> None:
        """Sends SIGKILL and waits until the process has ended."""
        if self.process is not None:
            await self.process.kill()

    def limit_file_size(self, limit: int) -> None:
        """Limits the size of Redis's files; `RLIM_INFINITY` removes the limit."""
        assert self.process is not None
        resource.prlimit(self.process.popen.pid, RLIMIT_FSIZE, (limit, RLIM_INFINITY))

    @property
    def files(self) -> list[Path]:
        """The files of the append-only log: base, increments and manifest."""
        return sorted((self.folder / "appendonlydir").glob("*"))


@contextlib.asynccontextmanager
async def running(folder: Path, port: int) -> AsyncIterator[Storage]:
    """Starts a Redis and kills it at the end."""
    storage = Storage(folder, port)
    await storage.start()
    try:
        yield storage
    finally:
        await storage.kill()
