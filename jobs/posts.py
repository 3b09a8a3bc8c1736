"""Records the POST requests that wait for a response, so that a retry finds the same response.

Official SDKs repeat a POST if its connection was cut off. Without these records, the retry would
create a second response.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from .log.codec import kept_fingerprints
from .names import names_of
from .scripts import calls

if TYPE_CHECKING:
    from .redis.pipe import Pipe

MAX_REPLIES: Final = 64  # maximum number of waiting POSTs with the same owner and body
RETRY_WINDOW_MS: Final = 120_000  # official SDKs repeat a request within a minute
SETTLE_MS: Final = 300  # official SDKs wait for longer than this before their first retry
SECOND_LOOK_SECONDS: Final = 1.2  # longer than a server takes to notice a lost connection


class Posts:
    """The waiting POST requests of all partitions. All methods raise RedisTrouble."""

    def __init__(self, pipe: Pipe, ttl_ms: int) -> None:
        """`ttl_ms` is the TTL of the records in milliseconds, which is the TTL of a job."""
        self._pipe = pipe
        self._ttl_ms = ttl_ms

    def request_of(self, fingerprint: str) -> str:
        """Returns an identifier of a POST's body, for use in Redis keys.

        With encryption, the identifier is a keyed hash, so nobody can guess a body and test the
        guess against it.
        """
        return kept_fingerprints(fingerprint, self._pipe.cipher).partition(",")[0]

    async def reply(self, owner: str, request: str, response_id: str, state: str) -> None:
        """Records the state of a POST that waits for a response.

        The state is `open` while the POST waits, `cut` when its connection was cut off, and "" when
        it was answered. `request` is the result of `request_of`. `response_id` must be in the
        partition that `ids.pick_partition` returns for `request`.
        """
        call = calls.reply(
            replies_key=names_of(response_id).replies(owner, request),
            id=response_id,
            state=state,
            most=MAX_REPLIES,
            ttl_ms=self._ttl_ms,
        )
        await self._pipe.run(call)

    async def attach(self, owner: str, request: str, response_id: str) -> str | None:
        """Returns the response of an earlier POST with the same body that was cut off, or None.

        If it returns None, the caller creates a new response with the id `response_id`. If another
        POST with this body is still waiting, the method looks again after `SECOND_LOOK_SECONDS`,
        because its server may not have noticed the loss of the connection yet.
        """
        names = names_of(response_id)
        call = calls.attach(
            replies_key=names.replies(owner, request),
            prefix=names.prefix,
            id=response_id,
            window_ms=RETRY_WINDOW_MS,
            settle_ms=SETTLE_MS,
        )
        found = (await self._pipe.run(call)).decode()
        if found == "open":
            await asyncio.sleep(SECOND_LOOK_SECONDS)
            found = (await self._pipe.run(call)).decode()
        return found if found not in ("", "open") else None
