"""Faults of Redis itself. Faults whose names start with `loss.` lose acknowledged writes."""

from __future__ import annotations

import asyncio
import resource
import shutil
import signal
import time
from collections.abc import Callable

from tests.chaos import clocks
from tests.chaos.faults import Fault, Faults

# The maximum clock step in seconds. It is less than half of the retention time, so that no response
# expires after a step forward.
CLOCK_SECONDS = 90.0


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


async def redis_refuse_writes(f: Faults) -> str:
    """Makes all writes fail with NOREPLICAS."""
    seconds = f.rng.uniform(0.5, 3.0)
    await f.configure("min-replicas-to-write", "1")
    await asyncio.sleep(seconds)
    await f.configure("min-replicas-to-write", "0")
    return f"{seconds:.2f} s"


async def redis_disk_full(f: Faults) -> str:
    """With `everysec`, all writes fail with MISCONF; with `always`, Redis exits and restarts."""
    if f.redis_busy:
        return ""
    f.redis_busy = True
    seconds = f.rng.uniform(0.5, 3.0)
    policy = f.rng.choice(("everysec", "always"))
    f.fleet.redis_away_at = time.monotonic() + seconds
    await f.configure("appendfsync", policy)
    f.storage.limit_file_size(max(path.stat().st_size for path in f.storage.files))
    await asyncio.sleep(seconds)
    if policy == "always":
        await f.storage.kill()
        await f.storage.start()
    else:
        f.storage.limit_file_size(resource.RLIM_INFINITY)
        await asyncio.sleep(1.5)  # Redis retries the failed write every second
        await f.configure("appendfsync", "always")
    f.redis_busy = False
    return f"{policy} {seconds:.2f} s"


async def clock_step(f: Faults) -> str:
    kind, seconds = f.rng.choice(clocks.KINDS), f.rng.uniform(-CLOCK_SECONDS, CLOCK_SECONDS)
    stepped = clocks.step(f.storage.folder.parent, kind, seconds)
    return f"{kind} {seconds:+.0f} s" if stepped else ""


async def loss_flush(f: Faults) -> str:
    await f.control("FLUSHALL")
    return "all"


async def loss_restart_empty(f: Faults) -> str:
    def empty() -> None:
        for path in f.storage.files:
            path.unlink()

    return await _restart(f, empty)


async def loss_cut_file(f: Faults) -> str:
    cut = f.rng.randint(200, 20_000)

    def shorten() -> None:
        for path in f.storage.files:
            if ".incr." in path.name:
                with path.open("r+b") as file:
                    file.truncate(max(path.stat().st_size - cut, 0))

    return f"{cut} bytes, {await _restart(f, shorten)}"


async def loss_go_back(f: Faults) -> str:
    """Restores an older copy of Redis's file, as from a snapshot.

    The logs then grow again from the state in that copy.
    """
    if f.redis_busy:
        return ""
    f.redis_busy = True
    seconds, older = f.rng.uniform(0.3, 2.0), f.storage.folder / "older"
    shutil.copytree(f.storage.folder / "appendonlydir", older, dirs_exist_ok=True)
    await asyncio.sleep(seconds)
    f.redis_busy = False

    def put_back() -> None:
        shutil.rmtree(f.storage.folder / "appendonlydir")
        older.rename(f.storage.folder / "appendonlydir")

    return f"{seconds:.2f} s, {await _restart(f, put_back)}"


KINDS: dict[str, Fault] = {
    "redis.kill_pubsub": redis_kill_pubsub,
    "redis.kill_normal": redis_kill_normal,
    "redis.flush_scripts": redis_flush_scripts,
    "redis.tiny_buffer": redis_tiny_buffer,
    "redis.out_of_memory": redis_out_of_memory,
    "redis.pause": redis_pause,
    "redis.restart": redis_restart,
    "redis.refuse_writes": redis_refuse_writes,
    "redis.disk_full": redis_disk_full,
    "clock.step": clock_step,
    "loss.flush": loss_flush,
    "loss.restart_empty": loss_restart_empty,
    "loss.cut_file": loss_cut_file,
    "loss.go_back": loss_go_back,
}
