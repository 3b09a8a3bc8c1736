"""Checks whether Holdline can use a Redis: its version, its settings, and the data in it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

from jobs.errors import RedisAway, RedisFull, RedisNotReady, RedisRefused, RedisUnsuitable
from jobs.format import FORMAT
from jobs.names import Partition
from runtime.version import program_version

if TYPE_CHECKING:
    from .pipe import Pipe

T = TypeVar("T")

MIN_VERSION: Final = (7, 0)
# The pause after a temporary error reply, which arrives at once. Without a connection no pause is
# needed, because the command waits until the pipe's deadline.
NOT_READY_PAUSE_SECONDS: Final = 1.0
# 400 days, the same TTL as in `record_store`.
DATA_TTL_MS: Final = 400 * 24 * 3600 * 1000
# The number of the format, and the version of Holdline that introduced it.
_FORMAT: Final = re.compile(r"(\d{1,9})((?: .*)?)", re.ASCII)


async def check(pipe: Pipe) -> str:
    """Checks every master and returns a line with the versions and the persistence of all masters.

    Raises: RedisAway; RedisUnsuitable, whose message names the setting to change; RedisRefused,
        whose message names a permission that the Redis user lacks.
    """
    nodes = await pipe.nodes()
    lines = [await _check_node(node) for node in nodes]
    # Fails if the user's permissions (ACL) are those for a version that used plain pub/sub.
    await pipe.call("SPUBLISH", Partition(0).probe("check"), "")
    await _check_format(pipe)
    await _check_encryption(pipe)
    return lines[0] if len(lines) == 1 else f"{len(lines)} masters: {', '.join(sorted(set(lines)))}"


async def _check_node(pipe: Pipe) -> str:
    info = info_fields(await pipe.call("INFO", "server"))
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version") or info.get("redis_version", "0.0")
    if tuple(int(part) for part in version.split(".")[:2]) < MIN_VERSION:
        minimum = ".".join(map(str, MIN_VERSION))
        raise RedisUnsuitable(
            f"{name} {version} is too old, because it has no sharded pub/sub: "
            f"use Redis {minimum} or newer, or Valkey 7.2 or newer"
        )
    memory = info_fields(await pipe.call("INFO", "memory"))
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise RedisUnsuitable(
            f"maxmemory-policy is {policy}, which silently deletes answers: "
            "run CONFIG SET maxmemory-policy noeviction"
        )
    persistence = info_fields(await pipe.call("INFO", "persistence"))
    aof = "AOF" if persistence.get("aof_enabled") == "1" else "no AOF: a restart loses answers"
    return f"{name} {version}, {aof}"


async def check_until_available(pipe: Pipe, tell: Callable[[RedisAway], None]) -> str:
    """Repeats `check` until Redis is available, and returns the result of `check`.

    After a successful check, stores the format and the id of the encryption key with which this
    process writes data. Processes that start later check whether they can read this data.

    Raises: as `until_available`.
    """

    async def checked() -> str:
        found = await check(pipe)
        with contextlib.suppress(RedisFull):  # only later checks read these keys
            await _store_format(pipe)
            if (cipher := pipe.cipher) is not None:
                await pipe.call("SET", Partition(0).cipher, cipher.ids[0], "PX", DATA_TTL_MS)
        return found

    return await until_available(checked, tell)


async def until_available(
    action: Callable[[], Awaitable[T]], tell: Callable[[RedisAway], None]
) -> T:
    """Repeats an action of the start-up until Redis is available, and returns its result.

    Calls `tell` with the error of each failed call.

    Raises: RedisRefused if Redis requires a password; any other error of `action`.
    """
    while True:
        try:
            return await action()
        except RedisAway as error:
            if isinstance(error, RedisNotReady) and error.code == "NOAUTH":
                raise RedisRefused("REDIS_URL has no password, but Redis requires one") from error
            tell(error)
            if isinstance(error, RedisNotReady):
                await asyncio.sleep(NOT_READY_PAUSE_SECONDS)


async def _check_format(pipe: Pipe) -> None:
    """Checks that this version of Holdline can read the data that newer versions have written.

    Raises: RedisUnsuitable.
    """
    key = Partition(0).format
    number, version = _format_of(await pipe.call("GET", key))
    if number > FORMAT:
        origin = f" of Holdline {version}" if version else ""
        newer = f"Holdline {version} or newer" if version else "a newer Holdline"
        raise RedisUnsuitable(
            f"the data in this Redis has the format {number}{origin}, and this is "
            f"Holdline {program_version()}, which reads formats up to {FORMAT}: start {newer}, "
            f"or, to start without access to that data, delete {key} from Redis"
        )


async def _store_format(pipe: Pipe) -> None:
    """Stores the format in which this process writes, unless a newer one is stored.

    Raises: RedisUnsuitable.
    """
    key = Partition(0).format
    value = f"{FORMAT} {program_version()}"
    if not await pipe.call("SET", key, value, "NX", "PX", DATA_TTL_MS):
        number, _ = _format_of(await pipe.call("GET", key))
        if number < FORMAT:
            await pipe.call("SET", key, value, "PX", DATA_TTL_MS)
        else:
            await pipe.call("PEXPIRE", key, DATA_TTL_MS)


def _format_of(stored: bytes | None) -> tuple[int, str]:
    """Returns the stored number of the format and the version of Holdline that introduced it.

    Raises: RedisUnsuitable if there is a value without a number.
    """
    if stored is None:
        return 0, ""
    found = _FORMAT.fullmatch(stored.decode(errors="replace"))
    if found is None:
        key = Partition(0).format
        raise RedisUnsuitable(
            f"{key} in Redis is unreadable: a newer version may have written it; start that "
            f"version, or, to start without access to its data, delete {key} from Redis"
        )
    return int(found[1]), found[2].strip()


async def _check_encryption(pipe: Pipe) -> None:
    """Checks that this process can decrypt the data that other processes write.

    Raises: RedisUnsuitable.
    """
    last = (await pipe.call("GET", Partition(0).cipher) or b"").decode()
    known = ("plain",) if pipe.cipher is None else pipe.cipher.ids
    if last and last not in known:
        raise RedisUnsuitable(
            f"the data in this Redis is encrypted with the key {last}: add this key to "
            "HOLDLINE_ENCRYPTION_KEYS, or, to start without access to that data, delete "
            f"{Partition(0).cipher} from Redis"
            if last != "plain"
            else "the data in this Redis is not encrypted: add the word plain to "
            "HOLDLINE_ENCRYPTION_KEYS, after the key, until that data has expired"
        )


def info_fields(info: object) -> dict[str, str]:
    """Returns the fields in the reply to INFO."""
    text = info.decode() if isinstance(info, bytes) else str(info)
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name: value for name, _, value in pairs}
