"""POSTs that wait for a response, so that a client's own retry of one that was cut finds it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from .log.codec import kept_fingerprints
from .names import names_of
from .scripts import calls

if TYPE_CHECKING:
    from .redis.pipe import Pipe

MAX_REPLIES: Final = 64  # of one owner and body, that are waited for at once
RETRY_WINDOW_MS: Final = 120_000  # the official SDKs repeat a request after a minute at most
SETTLE_MS: Final = 300  # they wait a little longer before the first repetition
SECOND_LOOK_SECONDS: Final = 1.2  # more than a server takes to notice that a client has gone


class Posts:
    """The POSTs of all partitions. Raises: RedisTrouble."""

    def __init__(self, pipe: Pipe, ttl_ms: int) -> None:
        """`ttl_ms` is that of a job."""
        self._pipe = pipe
        self._ttl_ms = ttl_ms

    def request_of(self, fingerprint: str) -> str:
        """Identifies a POST's body in the names of keys, so that nobody can test a guess of it."""
        return kept_fingerprints(fingerprint, self._pipe.cipher).partition(",")[0]

    async def reply(self, owner: str, request: str, response_id: str, state: str) -> None:
        """Notes that a POST waits for a response (`open`), was cut (`cut`), or has its reply (``).

        `request` comes from `request_of`; the response is in the partition that it picks.
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
        """The response of a POST of this body that was cut, for a retry of it.

        `response_id` is the one that the retry makes if there is none. A second look notices what
        is just being cut.
        """
        names = names_of(response_id)
        call = calls.attach(
            replies_key=names.replies(owner, request),
            prefix=names.prefix,
            id=response_id,
            window_ms=RETRY_WINDOW_MS,
            settle_ms=SETTLE_MS,
            subscribers=int(self._pipe.sees_subscribers),
        )
        found = (await self._pipe.run(call)).decode()
        if found == "open":
            await asyncio.sleep(SECOND_LOOK_SECONDS)
            found = (await self._pipe.run(call)).decode()
        return found if found not in ("", "open") else None
