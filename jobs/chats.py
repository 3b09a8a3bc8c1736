"""Records the last response of each chat, so that a client that only has its chat's id resumes.

Chats belong to front ends of other projects: their clients choose the id of a chat, and repeat the
whole conversation with each request. A record is a hint for the client and never changes a
response.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from .ids import pick_partition
from .names import Partition

if TYPE_CHECKING:
    from .redis.pipe import Pipe


class Chat(NamedTuple):
    """The last response of a chat, and the client's id of the message that it extends, or None."""

    response_id: str
    message_id: str | None


_decode = msgspec.msgpack.Decoder(Chat).decode
_encode = msgspec.msgpack.Encoder().encode


class Chats:
    """The chats of all owners. All methods raise RedisTrouble."""

    def __init__(self, pipe: Pipe, partitions: range, ttl_ms: int) -> None:
        """`ttl_ms` is the TTL of the records in milliseconds, which is the TTL of a job."""
        self._pipe = pipe
        self._partitions = partitions
        self._ttl_ms = ttl_ms

    async def put(self, owner: str, chat_id: str, chat: Chat) -> None:
        """Records the last response of a chat, which replaces the one before."""
        await self._pipe.call("SET", self._key(owner, chat_id), _encode(chat), "PX", self._ttl_ms)

    async def get(self, owner: str, chat_id: str) -> Chat | None:
        """Returns the last response of a chat, or None if the owner has no such chat."""
        found = await self._pipe.call("GET", self._key(owner, chat_id))
        return None if found is None else _decode(found)

    def _key(self, owner: str, chat_id: str) -> str:
        return Partition(pick_partition(self._partitions, owner, chat_id)).chat(owner, chat_id)
