"""Stores a record of each live server, so that operators see which servers run.

A server writes its record with the same scripts as a worker, in partition 0. The record expires if
the server does not write it again. Only the console reads the records.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from .names import Partition
from .redis.unexpected_reply import decoding
from .scripts import calls

if TYPE_CHECKING:
    from .redis.pipe import Pipe

RECORD_MS: Final = 30_000
MAX_SERVERS: Final = 1_000


class ServerState(StrEnum):
    """The states of a live server. A server that is `draining` accepts no more requests.

    A state that a newer version has added counts as `draining`.
    """

    READY = "ready"
    DRAINING = "draining"

    @classmethod
    def _missing_(cls, _: object) -> ServerState:
        return cls.DRAINING


class ServerRecord(msgspec.Struct, frozen=True, array_like=True):
    """The state of a server process, which the process itself records in Redis.

    `sockets` and `streams` are the numbers of its open WebSockets and event streams. `refused` are
    the numbers of requests that it refused lately, by error code.
    """

    host: str
    pid: int
    version: str
    age_ms: int
    state: ServerState
    sockets: int
    streams: int
    refused: dict[str, int]


@dataclass(frozen=True, slots=True)
class LiveServer:
    """A live server, with the record that it wrote at `seen_at`, in ms of Redis time since 1970."""

    id: str
    seen_at: int
    record: ServerRecord

    @property
    def started_at(self) -> int:
        """The start of the server, in milliseconds of Redis time since 1970."""
        return self.seen_at - self.record.age_ms


class ServerRegistry:
    """Reads and writes the records of live servers. All methods raise RedisTrouble."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._names = Partition(0)

    async def register(self, server: str, record: ServerRecord) -> None:
        """Writes the record of a server, which expires after `RECORD_MS`.

        A registry that is full does not store the record, which changes nothing but what an
        operator sees.
        """
        call = calls.register_worker(
            workers_key=self._names.servers,
            record_key=self._names.server(server),
            id=server,
            ttl_ms=RECORD_MS,
            max_workers=MAX_SERVERS,
            record=msgspec.msgpack.encode(record),
        )
        await self._pipe.run(call)

    async def unregister(self, server: str) -> None:
        """Removes the record of a server that ends."""
        names = self._names
        await self._pipe.run(
            calls.unregister_worker(
                workers_key=names.servers, record_key=names.server(server), id=server
            )
        )

    async def all(self) -> list[LiveServer]:
        """Returns all live servers, of which there are at most `MAX_SERVERS`."""
        with decoding("the list of servers"):
            call = calls.live_workers(workers_key=self._names.servers, most=MAX_SERVERS)
            _, found = await self._pipe.run(call)
            ids = sorted(id_.decode() for id_ in found)
            if not ids:
                return []
            records = await self._pipe.call("MGET", *map(self._names.server, ids))
            servers = [_decoded(*pair) for pair in zip(ids, records, strict=True)]
        return [server for server in servers if server is not None]


def _decoded(server: str, data: bytes | None) -> LiveServer | None:
    """Decodes a stored record, and ignores fields that a newer version has added.

    Returns None if the record has expired or is invalid.
    """
    at, _, packed = (data or b"").partition(b" ")
    try:
        return LiveServer(server, int(at), msgspec.msgpack.decode(packed, type=ServerRecord))
    except (ValueError, msgspec.DecodeError):
        return None
