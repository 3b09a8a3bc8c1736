"""The keys that would stay in Redis for ever."""

from __future__ import annotations

from jobs.redis.pipe import Pipe


async def keys_without_ttl(pipe: Pipe) -> list[str]:
    """The names of all keys of ours that have no time to live."""
    keys = await pipe.call("KEYS", "holdline:*")
    return [key.decode() for key in keys if await pipe.call("PTTL", key) == -1]
