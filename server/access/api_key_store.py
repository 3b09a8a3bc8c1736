"""The stores of API keys: Redis, or a key file. Changed keys take effect within seconds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from jobs.errors import RedisTrouble
from jobs.names import Partition
from jobs.record_store import RecordStore

from . import api_keys

if TYPE_CHECKING:
    from jobs.redis.pipe import Pipe
    from runtime.watched_file import LiveFile

    from .api_keys import Record

# The lifetime of a cached key: FRESH_SECONDS while Redis answers, STALE_SECONDS while it does not.
# A revoked key is accepted for no longer than this.
FRESH_SECONDS: Final = 3.0
STALE_SECONDS: Final = 300.0
# The timeout for refreshing a cached key. A request waits for Redis again after its authentication.
# With the full timeout for both waits, a refusal could take twice as long.
KNOWN_WAIT_SECONDS: Final = 0.5
MAX_CACHED: Final = 4096

log = structlog.get_logger()


class FileKeys:
    """The API keys in a key file, which is reloaded when it changes."""

    def __init__(self, file: LiveFile[dict[str, Record]]) -> None:
        self._file = file

    async def get(self, id_: str) -> Record | None:
        """Returns the record of a key, or None if there is no such key."""
        return self._file.get().get(id_)

    async def all(self) -> list[Record]:
        """Returns the records of all keys."""
        return [*self._file.get().values()]


class RedisKeys:
    """The API keys in Redis. Recently used keys are cached and work while Redis is down."""

    def __init__(self, pipe: Pipe) -> None:
        self._store = RecordStore(pipe, Partition(0).api_keys)
        # Unknown key ids are not cached, because made-up ids would evict real keys.
        self._known: OrderedDict[str, tuple[float, Record]] = OrderedDict()

    async def get(self, id_: str) -> Record | None:
        """Returns the record of a key, or None if there is no such key.

        Raises: RedisTrouble if Redis is unavailable and the key is not cached.
        """
        at, record = self._known.get(id_, (-STALE_SECONDS, None))
        age = time.monotonic() - at
        if record is not None and age < FRESH_SECONDS:
            self._known.move_to_end(id_)
            return record
        usable = record is not None and age < STALE_SECONDS
        try:
            async with asyncio.timeout(KNOWN_WAIT_SECONDS if usable else None):
                found = await self._store.get(id_)
        except (RedisTrouble, TimeoutError):
            if usable:
                return record
            raise
        self._known.pop(id_, None)
        if found is None:
            return None
        try:
            record = api_keys.decode(found)
        except msgspec.DecodeError:
            log.error(
                "API key rejected: its record in Redis is malformed",
                key_id=id_,
                action=f"run holdline keys revoke {id_}",
            )
            return None
        self._known[id_] = time.monotonic(), record
        while len(self._known) > MAX_CACHED:
            self._known.popitem(last=False)
        return record

    async def all(self) -> list[Record]:
        """Returns the records of all keys, except malformed ones. Raises: RedisTrouble."""
        records = []
        for data in (await self._store.all()).values():
            with contextlib.suppress(msgspec.DecodeError):
                records.append(api_keys.decode(data))
        return records

    async def renew(self) -> None:
        """Renews the TTL of the API keys in Redis."""
        await self._store.renew()
