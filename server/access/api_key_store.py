"""Where the API keys are: in Redis, or in a file. Both notice a change within seconds."""

from __future__ import annotations

import asyncio
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

# A revoked key counts no longer than this while Redis answers, and no longer than that if not.
FRESH_SECONDS: Final = 3.0
STALE_SECONDS: Final = 300.0
# The wait for Redis about a key that is known. What follows waits for Redis as well, and the two
# waits together must not be twice the time after which a request is refused.
KNOWN_WAIT_SECONDS: Final = 0.5
MAX_CACHED: Final = 4096

log = structlog.get_logger()


class FileKeys:
    """The keys of a file, which is read again when it has changed."""

    def __init__(self, file: LiveFile[dict[str, Record]]) -> None:
        self._file = file

    async def get(self, id_: str) -> Record | None:
        """The record of a key, or None."""
        return self._file.get().get(id_)


class RedisKeys:
    """The keys in Redis. Those that were used lately are known while Redis is away."""

    def __init__(self, pipe: Pipe) -> None:
        self._store = RecordStore(pipe, Partition(0).api_keys)
        # Only what exists: ids that somebody makes up must not push out the others.
        self._known: OrderedDict[str, tuple[float, Record]] = OrderedDict()

    async def get(self, id_: str) -> Record | None:
        """The record of a key, or None. Raises: RedisTrouble where nobody knows."""
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
            log.error("API key not understood", key_id=id_)
            return None
        self._known[id_] = time.monotonic(), record
        while len(self._known) > MAX_CACHED:
            self._known.popitem(last=False)
        return record

    async def renew(self) -> None:
        """Lets the keys live on in Redis."""
        await self._store.renew()
