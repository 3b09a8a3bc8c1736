"""Snapshots of Redis, to compare the results of two runs."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from jobs.redis.pipe import Pipe

Dump = dict[bytes, Any]

# Fields that contain times from Redis's clock. They differ between two runs, so a dump omits them.
TIMES = {b"submitted", b"requeued", b"until", b"ended", b"seen", b"~last", b"~pace", b"at"} | {
    b"updated_at"
}
# Fields that contain times of 13 digits among other words.
STEPS = {b"steps", b"hook_end"}


async def dump(pipe: Pipe) -> Dump:
    """Returns all keys with their values, without times."""
    found: Dump = {}
    for key in sorted(await pipe.call("KEYS", "*")):
        match await pipe.call("TYPE", key):
            case b"hash":
                flat = await pipe.call("HGETALL", key)
                pairs = zip(flat[::2], flat[1::2], strict=True)
                found[key] = {name: value for name, value in pairs if name not in TIMES}
                for name in found[key].keys() & STEPS:
                    found[key][name] = re.sub(rb" \d{13}\b", b"", found[key][name])
                # Each value consists of a time and a text.
                if b":replies:" in key or b":pending:" in key:
                    found[key] = {n: v.partition(b" ")[2] or v for n, v in found[key].items()}
            case b"list":
                found[key] = await pipe.call("LRANGE", key, 0, -1)
            case b"stream":  # the id of an entry is a time
                found[key] = [entry for _, entry in await pipe.call("XRANGE", key, "-", "+")]
                if b":feed:" in key:  # an event begins with a time
                    found[key] = [msgspec.msgpack.decode(event)[1:] for _, event in found[key]]
            case b"zset":
                found[key] = set(await pipe.call("ZRANGE", key, 0, -1))
            case b"set":
                found[key] = set(await pipe.call("SMEMBERS", key))
            case _:
                found[key] = await pipe.call("GET", key)
                if b":worker:" in key or key.endswith(b":rescued"):  # begins with a time
                    found[key] = found[key].partition(b" ")[2]
    return found
