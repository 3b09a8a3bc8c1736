"""Finds keys that would stay in Redis forever."""

from __future__ import annotations

from jobs.redis.pipe import Pipe


async def keys_without_ttl(pipe: Pipe) -> list[str]:
    """Returns the names of all Holdline keys without a TTL."""
    keys = await pipe.call("KEYS", "holdline:*")
    return [key.decode() for key in keys if await pipe.call("PTTL", key) == -1]
