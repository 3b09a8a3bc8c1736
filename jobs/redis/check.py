"""Whether a Redis can keep the promises: its version, its settings, and the keys of encryption."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from jobs.errors import RedisAway, RedisFull, RedisUnsuitable
from jobs.names import Partition

if TYPE_CHECKING:
    from .pipe import Pipe

OLDEST_VERSION: Final = (7, 0)
# As long as anything that operators keep, see `shelf`.
CIPHER_TTL_MS: Final = 400 * 24 * 3600 * 1000


async def check(pipe: Pipe) -> str:
    """One line about this Redis, once all of it is known to be fit.

    Raises: RedisAway; RedisUnsuitable, whose message names the setting to change.
    """
    nodes = await pipe.nodes()
    found = [await _check(node) for node in nodes]
    await _check_cipher(pipe)
    return found[0] if len(found) == 1 else f"{len(found)} masters: {', '.join(sorted(set(found)))}"


async def _check(pipe: Pipe) -> str:
    info = _fields(await pipe.call("INFO", "server"))
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version") or info.get("redis_version", "0.0")
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION))
        raise RedisUnsuitable(
            f"{name} {version} is too old: use Redis {oldest}, Valkey 7.2 or newer"
        )
    memory = _fields(await pipe.call("INFO", "memory"))
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise RedisUnsuitable(
            f"maxmemory-policy is {policy}, which silently deletes answers: "
            "run CONFIG SET maxmemory-policy noeviction"
        )
    persistence = _fields(await pipe.call("INFO", "persistence"))
    kept = "AOF" if persistence.get("aof_enabled") == "1" else "no AOF: a restart loses answers"
    return f"{name} {version}, {kept}"


async def check_until_available(pipe: Pipe, tell: Callable[[RedisAway], None]) -> str:
    """As `check`, as soon as there is a Redis; `tell` is called each time there is none. Those
    who start later learn from Redis with which key this process writes.

    Raises: RedisUnsuitable, RedisRefused.
    """
    while True:
        try:
            found = await check(pipe)
            if (cipher := pipe.cipher) is not None:
                names = Partition(0)
                with contextlib.suppress(RedisFull):  # then there is one warning less
                    await pipe.call("SET", names.cipher, cipher.ids[0], "PX", CIPHER_TTL_MS)
        except RedisAway as error:
            tell(error)
        else:
            return found


async def _check_cipher(pipe: Pipe) -> None:
    """Raises: RedisUnsuitable where this process could not read what others write."""
    last = (await pipe.call("GET", Partition(0).cipher) or b"").decode()
    known = ("plain",) if pipe.cipher is None else pipe.cipher.ids
    if last and last not in known:
        raise RedisUnsuitable(
            f"what is in this Redis is encrypted with the key {last}, which is not in "
            "HOLDLINE_ENCRYPTION_KEYS; whoever starts without it cannot read it. To go on all the "
            f"same, and lose what is there, delete {Partition(0).cipher}"
            if last != "plain"
            else "what is in this Redis is not encrypted: list plain in HOLDLINE_ENCRYPTION_KEYS, "
            "behind the key, until the last of it has expired"
        )


def _fields(info: object) -> dict[str, str]:
    text = info.decode() if isinstance(info, bytes) else str(info)
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name: value for name, _, value in pairs}
