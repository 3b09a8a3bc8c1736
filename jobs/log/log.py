"""Reads the log of a response, appends to it and finishes it.

The log is authoritative, and a notification only announces that the log has grown. A compacted log
(see `compaction`) is read in the same way as any other log.
"""

from __future__ import annotations

import asyncio
import hashlib
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from jobs.ciphertext import BLOCK
from jobs.errors import Diverged, Fenced, Gone, RedisRefused, UnknownResponse
from jobs.names import names_of
from jobs.record import Status
from jobs.scripts import calls

from .compaction import BLOCK_BYTES, BLOCK_ENTRIES, compact, expand
from .view import View

if TYPE_CHECKING:
    from jobs.redis.pipe import Pipe
    from jobs.scripts import Call

# The maximum total size of the entries in a notification. These entries save each follower a read
# of the log. But Redis sends a notification to every subscribed server, even if no follower there
# needs the entries. For larger entries, this would cost more than the reads.
MAX_NOTIFICATION_BYTES = 32_768
READ_ENTRIES = BLOCK_ENTRIES
READ_BYTES = BLOCK_BYTES
# Compacting a log of this size takes a few ms. A larger log would block the event loop for longer,
# so it is compacted in a thread.
MAX_INLINE_COMPACTION_BYTES = 262_144


async def read(
    pipe: Pipe,
    response_id: str,
    start: int,
    *,
    max_entries: int = READ_ENTRIES,
    max_bytes: int = READ_BYTES,
    min_entries: int = 1,
    viewer: str = "",
) -> View:
    """Reads a response and its log from index `start` on, up to `max_entries` and `max_bytes`.

    Returns at least `min_entries` entries, even if they exceed `max_bytes`, so that every read
    makes progress. From a compacted log, returns the rest of the block that contains `start`.

    If the owner `viewer` may not see the response, raises UnknownResponse in the same time as for a
    missing response. An empty viewer may see every response.

    Raises: UnknownResponse, Undecodable, RedisTrouble.
    """
    names = names_of(response_id)
    reply = await pipe.run(
        calls.read(
            job_key=names.job(response_id),
            log_key=names.log(response_id),
            first_index=start,
            max_entries=max_entries,
            max_bytes=max_bytes,
            min_entries=min_entries,
            viewer=viewer,
        )
    )
    if not reply:
        raise UnknownResponse(response_id)
    status, owner, attempt, number, reason, length, found, queue_name, first, blocks, trace = reply
    if (cipher := pipe.cipher) is not None:
        found = cipher.decrypted(response_id, start, found)
    skipped = start - first
    for block in blocks:
        data = block
        if cipher is not None:
            index = start + len(found) - skipped
            [data] = cipher.decrypted(response_id, index, [block], BLOCK)
        found += expand(data, skipped)
        skipped = 0
    return View(
        Status(status.decode()),
        owner.decode(),
        attempt,
        number,
        reason.decode(),
        length,
        found[:max_entries],
        queue_name.decode(),
        trace.decode(),
    )


async def read_all(pipe: Pipe, response_id: str, *, viewer: str = "") -> View:
    """Reads a response and its whole log, with several reads if the log is long."""
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
        view.queue_name,
        view.trace,
    )


# The value of `steers` for a caller that gives all steers back, without having read them.
ANY_STEERS: Final = -1
# The arguments of `finish_steered` that describe the successor.
Successor = dict[str, Any]


class Steered(Exception):
    """A response was not ended, because the caller has not read all of its steers."""


class LogWriter:
    """Writes the log of a response. Only one writer has a valid claim on the response at a time.

    `length` is the number of entries that the writer expects in the log. Redis compares it at every
    append. After any error other than RedisTrouble, stop writing, because the response belongs to
    another attempt or no longer exists.
    """

    def __init__(self, pipe: Pipe, response_id: str, claim: str, length: int) -> None:
        self._pipe = pipe
        names = names_of(response_id)
        self._prefix = names.prefix
        self._job_key = names.job(response_id)
        self._log_key = names.log(response_id)
        self._channel = names.notifications(response_id)
        self._claim = claim
        self.response_id = response_id
        self.length = length

    async def append(self, entries: list[bytes], checkpoint: bytes = b"") -> bool:
        """Appends entries and notifies followers. Returns True if a client requested cancellation.

        `checkpoint` is that of the log with these entries, or empty if it has none.

        Raises: Fenced, Gone, Diverged; RedisTrouble, after which you may append the same entries
            again.
        """
        return self.appended(await self._pipe.run(self._append(entries, checkpoint)))

    def begin(self, entries: list[bytes], checkpoint: bytes = b"") -> asyncio.Future[object] | None:
        """Sends an append once and returns a future for its reply, or None if it cannot be sent.

        Pass the reply to `appended`. After an error, call `append` with the same entries, to which
        you may add more. `append` detects whether Redis has already appended the first ones.
        """
        return self._pipe.begin(self._append(entries, checkpoint))

    def appended(self, reply: Any) -> bool:
        """Handles the reply to `begin`. Returns and raises the same as `append`."""
        if reply[0] != b"ok":
            raise self._refusal(reply)
        _, self.length, cancel = reply
        return bool(cancel)

    def _append(self, entries: list[bytes], checkpoint: bytes) -> Call:
        call: Call = calls.append(
            job_key=self._job_key,
            log_key=self._log_key,
            channel=self._channel,
            claim=self._claim,
            expected=self.length,
            max_bytes=MAX_NOTIFICATION_BYTES,
            checkpoint=checkpoint,
            entries=self._kept(entries),
        )
        return call

    async def compact(self, head: list[bytes], rest: list[bytes]) -> None:
        """Compacts the log of a response that this writer has finished.

        `head` and `rest` are the arguments of `compacted`.

        Raises: RedisTrouble.
        """
        await self.store_compacted(await self.compacted(head, rest))

    async def compacted(self, head: list[bytes], rest: list[bytes]) -> Call:
        """Compacts the log and returns the script call that `store_compacted` takes.

        `head` and `rest` together are all entries of the log as far as the writer knows. Redis
        compares the length of the log and a checksum of the head. The rest needs no checksum,
        because this writer has appended it. If the log differs, Redis leaves it uncompacted. The
        only effect is that the log uses more memory.
        """
        log = head + rest
        if sum(map(len, log)) > MAX_INLINE_COMPACTION_BYTES:
            blocks = await asyncio.to_thread(compact, log)
        else:
            blocks = compact(log)
        kept = [block.data for block in blocks]
        if (cipher := self._pipe.cipher) is not None:
            head = cipher.encrypted(self.response_id, 0, head)
            firsts = accumulate((block.count for block in blocks), initial=0)
            kept = [
                cipher.encrypted(self.response_id, first, [data], BLOCK)[0]
                for first, data in zip(firsts, kept, strict=False)
            ]
        call: Call = calls.compact(
            job_key=self._job_key,
            log_key=self._log_key,
            claim=self._claim,
            head_length=len(head),
            head_sha1=hashlib.sha1(b"".join(head), usedforsecurity=False).hexdigest(),
            counts=",".join(str(block.count) for block in blocks),
            blocks=kept,
        )
        return call

    async def store_compacted(self, compacted: Call) -> None:
        """Replaces the log in Redis with the result of `compacted`. Raises: RedisTrouble."""
        await self._pipe.run(compacted)

    async def finish(
        self,
        status: Status,
        entries: list[bytes],
        *,
        retention_ms: int,
        bury: bool = False,
        tokens: int | None = None,
        money: float | None = None,
        steers: int = ANY_STEERS,
        successor: Successor | str = "",
        http_status: int | None = None,
    ) -> None:
        """Appends the last entries of the log and ends the response with a final status.

        `steers` is the number of steers that the caller has read. `successor` is the response that
        contains them and is queued in the same step, `steers.PENDING`, or "" to give them back.

        `tokens` is the response's usage, and `money` its cost in millionths; None means unknown.
        `bury` adds the response to the dead list, which an operator has to inspect. `http_status`
        is the status with which the model's endpoint refused the last attempt.

        Raises: the same errors as `append`; Steered if the response has more steers.
        """
        common = {
            "job_key": self._job_key,
            "log_key": self._log_key,
            "channel": self._channel,
            "prefix": self._prefix,
            "id": self.response_id,
            "claim": self._claim,
            "expected": self.length,
            "max_bytes": MAX_NOTIFICATION_BYTES,
            "status": status,
            "retention_ms": retention_ms,
            "tokens": -1 if tokens is None else tokens,
            "money": -1 if money is None else money,
            "steers": steers,
            "http_status": "" if http_status is None else http_status,
            "entries": self._kept(entries),
        }
        if isinstance(successor, str):
            call = calls.finish(**common, to_dead=int(bury), successor=successor)
        else:
            call = calls.finish_steered(**common, **successor)
        reply = await self._pipe.run(call)
        if reply[0] == b"steered":
            raise Steered
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
                return RedisRefused("a script that writes the log returned an unexpected reply")
