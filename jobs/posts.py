"""Records POSTs that wait for a response, so that a client's retry finds the same response.

A client such as an official SDK repeats a POST whose connection was cut off.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from .log.codec import kept_fingerprints
from .names import names_of
from .scripts import calls

if TYPE_CHECKING:
    from .redis.pipe import Pipe

MAX_REPLIES: Final = 64  # POSTs of one owner and body that wait at once
RETRY_WINDOW_MS: Final = 120_000  # the official SDKs repeat a request after a minute at most
SETTLE_MS: Final = 300  # the official SDKs wait a little longer before their first retry
SECOND_LOOK_SECONDS: Final = 1.2  # longer than a server takes to notice a lost client


class Posts:
    """The waiting POSTs of all partitions. All methods raise RedisTrouble."""

    def __init__(self, pipe: Pipe, ttl_ms: int) -> None:
        """`ttl_ms` is the TTL of a job."""
        self._pipe = pipe
        self._ttl_ms = ttl_ms

    def request_of(self, fingerprint: str) -> str:
        """Returns the identifier of a POST's body for key names.

        With encryption, a guess of the body cannot be tested against it.
        """
        return kept_fingerprints(fingerprint, self._pipe.cipher).partition(",")[0]

    async def reply(self, owner: str, request: str, response_id: str, state: str) -> None:
        """Records the state of a POST that waits for a response.

        The states are `open`: it waits; `cut`: its connection was cut off; "": it was answered.
        `request` comes from `request_of`; `response_id` must be in the
        partition that `names.pick_partition` picks for `request`.
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
        """Returns the id of the response that a POST's retry continues with, or None.

        It is that of a POST with the same body that was cut off. Without one, the retry creates
        `response_id`. A second look finds a POST whose server is only just noticing the loss of the
        connection.
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
