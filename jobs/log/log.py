"""The log: append, finish, read. The log is the truth; the bell only says that it has grown.

A log that has ended may be sealed: the same entries in much less room, see `seal`. Who reads it
here does not notice.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from jobs.ciphertext import BLOCK
from jobs.errors import Diverged, Fenced, Gone, RedisRefused, UnknownResponse
from jobs.names import names_of
from jobs.record import Status

from .compaction import BLOCK_BYTES, BLOCK_ENTRIES, seal, unseal

if TYPE_CHECKING:
    from jobs.redis.pipe import Pipe
    from jobs.redis.wire import Argument

# A bell that carries its entries saves each follower a read; above this the read is cheaper than
# sending the bytes to every server, also to those on which nobody needs them any more.
MAX_NOTIFICATION_BYTES = 32_768
READ_ENTRIES = BLOCK_ENTRIES
READ_BYTES = BLOCK_BYTES
# Some ms of the event loop; what is larger is sealed beside it.
SEALED_AT_ONCE_BYTES = 262_144


@dataclass(frozen=True, slots=True)
class View:
    """One consistent look at a response.

    `entries` start at the index that was asked for. `number`, `lane` and `reason` say where and why
    it waits; they mean something only while it is queued.
    """

    status: Status
    owner: str
    attempt: int
    number: int
    reason: str
    length: int
    entries: list[bytes]
    lane: str = ""


async def read(
    pipe: Pipe,
    response_id: str,
    start: int,
    *,
    entries: int = READ_ENTRIES,
    octets: int = READ_BYTES,
    least: int = 1,
    viewer: str = "",
) -> View:
    """The response as it stands and its log from index `start` on, bounded in entries and bytes.

    `least` entries are given however large they are, so that a reader always gets on. Of a sealed
    log it is what the block of `start` holds. What `viewer` may not see is unknown, and takes no
    longer to be that; "" sees everything.

    Raises: UnknownResponse, Undecodable, RedisTrouble.
    """
    names = names_of(response_id)
    reply = await pipe.run(
        "read",
        [names.job(response_id), names.log(response_id)],
        [start, entries, octets, least, viewer],
    )
    if not reply:
        raise UnknownResponse(response_id)
    status, owner, attempt, number, reason, length, found, lane, first, blocks = reply
    if (cipher := pipe.cipher) is not None:
        found = cipher.decrypted(response_id, start, found)
    skipped = start - first
    for block in blocks:
        data = block
        if cipher is not None:
            index = start + len(found) - skipped
            [data] = cipher.decrypted(response_id, index, [block], BLOCK)
        found += unseal(data, skipped)
        skipped = 0
    return View(
        Status(status.decode()),
        owner.decode(),
        attempt,
        number,
        reason.decode(),
        length,
        found[:entries],
        lane.decode(),
    )


async def read_all(pipe: Pipe, response_id: str, *, viewer: str = "") -> View:
    """The response with its whole log, read in several steps where it is long."""
    view = await read(pipe, response_id, 0, viewer=viewer)
    entries = view.entries
    while len(entries) < view.length:
        view = await read(pipe, response_id, len(entries), viewer=viewer)
        if not view.entries:
            break
        entries = entries + view.entries
    return View(
        view.status,
        view.owner,
        view.attempt,
        view.number,
        view.reason,
        len(entries),
        entries,
        view.lane,
    )


class LogWriter:
    """The one writer of a response's log, for as long as it holds the claim.

    `length` is what the log has according to its writer; every append states it. After any error
    but a `RedisTrouble`, stop: the response is somebody else's or nobody's.
    """

    def __init__(self, pipe: Pipe, response_id: str, claim: str, length: int) -> None:
        self._pipe = pipe
        names = names_of(response_id)
        self._prefix = names.prefix
        self._keys = [names.job(response_id), names.log(response_id), names.bell(response_id)]
        self._claim = claim
        self.response_id = response_id
        self.length = length

    async def append(self, entries: list[bytes]) -> bool:
        """Appends and rings. True if the response is to be cancelled.

        Raises: Fenced, Gone, Diverged; RedisTrouble, after which it may be called again with the
            same entries.
        """
        return self.appended(await self._pipe.run("append", self._keys, self._append(entries)))

    def begin(self, entries: list[bytes]) -> asyncio.Future[object] | None:
        """As `append`, sent once: `appended` takes its reply. None: it cannot be sent right now.

        After an error `append` finds out what has become of it, also with more entries behind.
        """
        return self._pipe.begin("append", self._keys, self._append(entries))

    def appended(self, reply: Any) -> bool:
        """What the reply of an append says. Raises: as `append`."""
        if reply[0] != b"ok":
            raise self._refusal(reply)
        _, self.length, cancel = reply
        return bool(cancel)

    def _append(self, entries: list[bytes]) -> list[Argument]:
        return [self._claim, self.length, MAX_NOTIFICATION_BYTES, *self._kept(entries)]

    async def seal(self, head: list[bytes], rest: list[bytes]) -> None:
        """Keeps the log of a response that this writer has ended in less room, see `sealed`.

        Raises: RedisTrouble.
        """
        await self.keep_sealed(await self.sealed(head, rest))

    async def sealed(self, head: list[bytes], rest: list[bytes]) -> list[Argument]:
        """A log in less room, for `keep_sealed`.

        `head` and `rest` are the whole log as its writer believes it to be. The rest is the
        writer's own, so its length alone proves it; the head is looked at. A log that is another
        one stays as it is: nobody but Redis's memory has a loss.
        """
        log = head + rest
        if sum(map(len, log)) > SEALED_AT_ONCE_BYTES:
            blocks = await asyncio.to_thread(seal, log)
        else:
            blocks = seal(log)
        kept = [block.data for block in blocks]
        if (cipher := self._pipe.cipher) is not None:
            head = cipher.encrypted(self.response_id, 0, head)
            firsts = accumulate((block.count for block in blocks), initial=0)
            kept = [
                cipher.encrypted(self.response_id, first, [data], BLOCK)[0]
                for first, data in zip(firsts, kept, strict=False)
            ]
        return [
            self._claim,
            len(head),
            hashlib.sha1(b"".join(head), usedforsecurity=False).hexdigest(),
            ",".join(str(block.count) for block in blocks),
            *kept,
        ]

    async def keep_sealed(self, sealed: list[Argument]) -> None:
        """Puts what `sealed` gave in the place of the log. Raises: RedisTrouble."""
        await self._pipe.run("seal", self._keys[:2], sealed)

    async def finish(
        self,
        status: Status,
        entries: list[bytes],
        *,
        retention_ms: int,
        bury: bool = False,
        tokens: int | None = None,
        money: float | None = None,
    ) -> None:
        """Appends the last entries and ends the response.

        `tokens` and `money`, in millionths, are what it took, where that is known.

        Raises: as `append`.
        """
        reply = await self._pipe.run(
            "finish",
            self._keys,
            [
                self._prefix,
                self.response_id,
                self._claim,
                self.length,
                MAX_NOTIFICATION_BYTES,
                status,
                retention_ms,
                int(bury),
                -1 if tokens is None else tokens,
                -1 if money is None else money,
                *self._kept(entries),
            ],
        )
        if reply[0] != b"ok":
            raise self._refusal(reply)
        _, self.length = reply

    def _kept(self, entries: list[bytes]) -> list[bytes]:
        cipher = self._pipe.cipher
        if cipher is None:
            return entries
        return cipher.encrypted(self.response_id, self.length, entries)

    def _refusal(self, reply: object) -> Fenced | Gone | Diverged | RedisRefused:
        match reply:
            case [b"gone"]:
                return Gone(self.response_id)
            case [b"fenced"]:
                return Fenced(self.response_id)
            case [b"diverged", int(found)]:
                return Diverged(self.response_id, self.length, found)
            case _:
                return RedisRefused("append: unexpected reply")
