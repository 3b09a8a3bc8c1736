"""Stores records that an operator creates, such as API keys, in Redis.

The records are few and small. Commands write them, and every server reads them.

A record store is one hash in partition 0 with a limited number of records. It expires 400 days
after the last write or renewal, and each server renews it once an hour. So it survives long
interruptions of the service, but does not stay in Redis forever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import RecordChanged, RecordStoreFull, RedisRefused
from .redis.unexpected_reply import decoding
from .scripts import calls

if TYPE_CHECKING:
    from .redis.pipe import Pipe

RECORDS_TTL_MS = 400 * 24 * 3600 * 1000
MAX_RECORDS = 10_000


class RecordStore:
    """A store of records, which is one Redis hash. All methods raise RedisTrouble."""

    def __init__(self, pipe: Pipe, key: str) -> None:
        """`key` is the Redis key of the hash, such as `Partition(0).api_keys`."""
        self._pipe = pipe
        self._key = key

    async def get(self, id_: str) -> bytes | None:
        """Returns the record with this id, or None if it does not exist."""
        found: bytes | None = await self._pipe.call("HGET", self._key, id_)
        return found

    async def all(self) -> dict[str, bytes]:
        """Returns all records of the store, by id."""
        flat = await self._pipe.call("HGETALL", self._key)
        with decoding("the list of records"):
            return {id_.decode(): record for id_, record in zip(flat[::2], flat[1::2], strict=True)}

    async def put(self, id_: str, before: bytes | None, after: bytes | None) -> None:
        """Replaces the record `before` with `after`; None stands for a record that does not exist.

        Raises: RecordChanged if the record is no longer `before`, because another process changed
            it; RecordStoreFull.
        """
        reply = await self._pipe.run(
            calls.put_record(
                records_key=self._key,
                id=id_,
                before=before or b"",
                after=after or b"",
                ttl_ms=RECORDS_TTL_MS,
                max_records=MAX_RECORDS,
            )
        )
        match reply:
            case [b"ok"]:
                return
            case [b"changed"]:
                raise RecordChanged(id_)
            case [b"full", int(records)]:
                raise RecordStoreFull(records)
            case _:
                raise RedisRefused("the `put_record` script returned an unexpected reply")

    async def renew(self) -> None:
        """Renews the TTL of the store, so that it expires in 400 days."""
        await self._pipe.call("PEXPIRE", self._key, RECORDS_TTL_MS)
