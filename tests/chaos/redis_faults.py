"""Faults of Redis itself; `loss.*` make it lose what it has acknowledged."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.faults import Fault, Faults


async def redis_kill_pubsub(f: Faults) -> str:
    return f"{await f.control('CLIENT', 'KILL', 'TYPE', 'pubsub')} clients"


async def redis_kill_normal(f: Faults) -> str:
    return f"{await f.control('CLIENT', 'KILL', 'TYPE', 'normal')} clients"


async def redis_flush_scripts(f: Faults) -> str:
    await f.control("SCRIPT", "FLUSH")
    return "all"


async def redis_tiny_buffer(f: Faults) -> str:
    seconds = f.rng.uniform(0.5, 2.0)
    await f.configure("client-output-buffer-limit", "pubsub 4096 0 0")
    await asyncio.sleep(seconds)
    await f.configure("client-output-buffer-limit", "pubsub 33554432 8388608 60")
    return f"{seconds:.2f} s"


async def redis_out_of_memory(f: Faults) -> str:
    seconds = f.rng.uniform(0.5, 2.0)
    await f.configure("maxmemory", "1")
    await asyncio.sleep(seconds)
    await f.configure("maxmemory", "0")
    return f"{seconds:.2f} s"


async def redis_pause(f: Faults) -> str:
    if f.redis_busy:
        return ""
    f.redis_busy = True
    seconds = f.rng.choice((f.rng.uniform(0.2, 2), f.rng.uniform(1, 6)))
    f.storage.signal(signal.SIGSTOP)
    f.fleet.redis_away_at = time.monotonic() + seconds
    await asyncio.sleep(seconds)
    f.storage.signal(signal.SIGCONT)
    f.redis_busy = False
    return f"{seconds:.2f} s"


async def _restart(f: Faults, between: Callable[[], None]) -> str:
    if f.redis_busy:
        return ""
    f.redis_busy = True
    seconds = f.rng.uniform(0.0, 1.5)
    f.fleet.redis_away_at = time.monotonic() + seconds
    await f.storage.kill()
    between()
    await asyncio.sleep(seconds)
    await f.storage.start()
    f.redis_busy = False
    return f"away for {seconds:.2f} s"


async def redis_restart(f: Faults) -> str:
    return await _restart(f, lambda: None)


def _files(f: Faults) -> list[Path]:
    return sorted((f.storage.folder / "appendonlydir").glob("*"))


async def loss_flush(f: Faults) -> str:
    await f.control("FLUSHALL")
    return "all"


async def loss_restart_empty(f: Faults) -> str:
    def empty() -> None:
        for path in _files(f):
            path.unlink()

    return await _restart(f, empty)


async def loss_cut_file(f: Faults) -> str:
    cut = f.rng.randint(200, 20_000)

    def shorten() -> None:
        for path in _files(f):
            if ".incr." in path.name:
                with path.open("r+b") as file:
                    file.truncate(max(path.stat().st_size - cut, 0))

    return f"{cut} bytes, {await _restart(f, shorten)}"


KINDS: dict[str, Fault] = {
    "redis.kill_pubsub": redis_kill_pubsub,
    "redis.kill_normal": redis_kill_normal,
    "redis.flush_scripts": redis_flush_scripts,
    "redis.tiny_buffer": redis_tiny_buffer,
    "redis.out_of_memory": redis_out_of_memory,
    "redis.pause": redis_pause,
    "redis.restart": redis_restart,
    "loss.flush": loss_flush,
    "loss.restart_empty": loss_restart_empty,
    "loss.cut_file": loss_cut_file,
}
