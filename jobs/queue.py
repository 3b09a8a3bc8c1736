"""Implements the queue of jobs. Each operation that changes a job runs one Lua script in Redis."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from .conversation_feed import FeedStore
from .conversations import ConversationStore
from .each_partition import each_partition
from .errors import (
    Diverged,
    IdempotencyKeyReused,
    Limited,
    NotReplicated,
    QueueFull,
    RedisRefused,
    RedisTrouble,
    SteersTaken,
    UnknownResponse,
)
from .lease_store import LeaseStore
from .log.codec import encode_event, kept_fingerprints, kept_job
from .log.events import opening_events
from .log.log import MAX_NOTIFICATION_BYTES
from .names import Partition, is_end_user, names_of, script_keys
from .record import Status
from .redis.unexpected_reply import decoding
from .replies import accepted
from .scripts import calls
from .steers import SteerLog
from .tokens import COUNT, input_tokens, output_tokens
from .turn_store import TurnStore
from .worker_death import FAIL

if TYPE_CHECKING:
    from .config.models import Price
    from .log.codec import Event
    from .log.log import Successor
    from .record import Job, SharedSettings
    from .redis.pipe import Pipe
    from .replies import Accepted
    from .scripts import Call

WAIT_MS = 1_000


class Queue:
    """The operations on the jobs of all partitions. Those of a job's worker are in `leases`."""

    def __init__(self, pipe: Pipe, settings: SharedSettings, *, wait_replicas: int = 0) -> None:
        self._pipe = pipe
        self._settings = settings
        self._wait_replicas = wait_replicas
        self.conversations = ConversationStore(pipe, settings)
        self.feeds = FeedStore(pipe, settings)
        self.turns = TurnStore(pipe, settings.job_ttl_ms, self.conversations)
        self.steers = SteerLog(pipe, settings)
        self.leases = LeaseStore(pipe, settings)
        self.partitions = settings.partitions

    async def submit(
        self,
        job: Job,
        events: list[Event],
        *,
        begins: Event | None = None,
        idempotency_key: str | None = None,
        fingerprint: str = "",
        fail_on_worker_death: bool | None = None,
        queue_name: str = "",
        price: Price | None = None,
        cancel_orphan: bool | None = None,
        account: str = "",
        steered: str = "",
        trace: str = "",
    ) -> Accepted:
        """Queues a response, or returns the response that the idempotency key created earlier.

        The script `claim` appends `begins` to the log when a worker claims the job for the first
        time. If `begins` is too large for a notification, the worker appends it instead.
        `fingerprint` identifies the request's body and contains no spaces.
        `queue_name` is the result of `names.queue_name_of`.
        `fail_on_worker_death` and `cancel_orphan` default to the shared settings. An orphan is a
        response that no client follows. A response with a webhook or a push is not cancelled.
        `account` is the end user's account, or empty if no limits of end users apply. `steered` is
        the response of the same partition whose pending steers the job contains, or empty. `trace`
        is the context of the request's trace (see `runtime.trace_context`).

        Raises: QueueFull, Limited, IdempotencyKeyReused, SteersTaken, TurnMissing, RedisTrouble;
            the errors of `ConversationStore.hold`; NotReplicated, although the response is queued:
            a retry with the same idempotency key returns it.
        """
        names, settings = names_of(job.id), self._settings
        fails = (
            settings.on_worker_death == FAIL
            if fail_on_worker_death is None
            else fail_on_worker_death
        )
        cancels = settings.cancel_orphans if cancel_orphan is None else cancel_orphan
        # A count of tokens is no answer: nobody is told of its end, and it uses no tokens.
        counts = COUNT in job.params
        hooks = settings.webhooks and not counts
        pushes = settings.push and is_end_user(job.owner) and not counts
        cancels = cancels and not hooks and not pushes
        limits = self._limits(job, account)
        shown, answered = limits["input_tokens"], output_tokens(job)
        entries = self._kept(job.id, 0, [*events, *([begins] if begins else [])])
        first = entries.pop() if begins else b""
        return await self._submitted(
            job,
            calls.submit(
                **self._made(job, idempotency_key, fingerprint),
                channel=names.notifications(job.id),
                ttl_ms=settings.job_ttl_ms,
                inspect_ms=settings.inspect_ms,
                max_wait_ms=settings.max_wait_ms,
                max_waiting=settings.max_waiting,
                max_waiting_bytes=settings.max_waiting_bytes,
                fail_on_death=int(fails),
                queue_name=queue_name,
                hook_wait_ms=settings.hook_wait_ms if hooks else "",
                push_wait_ms=settings.push_wait_ms if pushes else "",
                context_bytes=job.context_bytes if job.turns else 0,
                tokens_field=1 if counts else shown + answered,
                money_field=price.of(shown, answered) if price else 0,
                **limits,
                orphan_ms=settings.orphan_ms if cancels else "",
                max_bytes=MAX_NOTIFICATION_BYTES,
                steered=steered,
                trace=trace,
                first_entry=first if len(first) <= MAX_NOTIFICATION_BYTES else b"",
                entries=entries,
            ),
        )

    def successor(self, job: Job, price: Price | None) -> Successor:
        """Returns the job that continues a steered response, as `LogWriter.finish` takes it.

        The job belongs to the partition of the steered response. It gets the queue, the account and
        the deliveries of that response, and a place at the front of its tenant's queue.
        """
        settings = self._settings
        shown, answered = input_tokens(job), output_tokens(job)
        created, queued, first = self._kept(job.id, 0, opening_events(job))
        return {
            "successor": job.id,
            "record": kept_job(job, self._pipe.cipher),
            "successor_tokens": shown + answered,
            "successor_money": price.of(shown, answered) if price else 0,
            "ttl_ms": settings.job_ttl_ms,
            "max_wait_ms": settings.max_wait_ms,
            "inspect_ms": settings.inspect_ms,
            "orphan_ms": settings.orphan_ms,
            "begins": first if len(first) <= MAX_NOTIFICATION_BYTES else b"",
            "created": created,
            "queued": queued,
        }

    async def submit_completed(
        self,
        job: Job,
        events: list[Event],
        *,
        idempotency_key: str | None = None,
        fingerprint: str = "",
        account: str = "",
        trace: str = "",
    ) -> Accepted:
        """Stores a response that is completed without calling a model.

        Returns this response, or the response that the idempotency key created earlier. `events` is
        the whole log. `account` and `trace` have the same meaning as for `submit`.

        Raises: the same errors as `submit`, except QueueFull.
        """
        return await self._submitted(
            job,
            calls.submit_completed(
                **self._made(job, idempotency_key, fingerprint),
                **self._limits(job, account),
                retention_ms=self._settings.retention_ms,
                trace=trace,
                entries=self._kept(job.id, 0, events),
            ),
            ended=True,
        )

    async def made(self, partition: int, owner: str, key: str, fingerprint: str) -> str | None:
        """Returns the id of the response that an idempotency key created, or None.

        Also returns None if the response no longer exists, or if its request had another
        fingerprint. The Lua function `known` in `_shared.lua` applies the same rule when a job is
        submitted.
        """
        names = Partition(partition)
        found = (await self._pipe.call("GET", names.idempotency(owner, key)) or b"").split()
        if len(found) != 2 or found[1].decode() not in kept_fingerprints(
            fingerprint, self._pipe.cipher
        ).split(","):
            return None
        response_id: str = found[0].decode()
        return response_id if await self._pipe.call("EXISTS", names.job(response_id)) else None

    async def seen(self, response_id: str, grace_ms: int) -> bool:
        """Records that a client has received a whole response.

        An unstored response then expires after `grace_ms`. Deliveries that are only sent for
        unseen responses are dropped. Returns False if the response does not exist or has not ended.
        """
        names = names_of(response_id)
        call = calls.seen(
            job_key=names.job(response_id),
            log_key=names.log(response_id),
            hook_key=names.hook(response_id),
            prefix=names.prefix,
            id=response_id,
            grace_ms=grace_ms,
        )
        return bool(await self._pipe.run(call))

    def _made(self, job: Job, idempotency_key: str | None, fingerprint: str) -> dict[str, Any]:
        """Returns the arguments that `submit` and `submit_completed` both pass to their scripts."""
        names = names_of(job.id)
        made = names.job(job.id)
        key, prints = made, ""
        if idempotency_key is not None:
            key = names.idempotency(job.owner, idempotency_key)
            prints = kept_fingerprints(fingerprint, self._pipe.cipher)
        return {
            "job_key": made,
            "log_key": names.log(job.id),
            "idempotency_key": key,
            "prefix": names.prefix,
            "id": job.id,
            "owner": job.owner,
            "record": kept_job(job, self._pipe.cipher),
            "fingerprints": prints,
            "unstored": int(job.params.get("store") is False),
        }

    def _limits(self, job: Job, account: str) -> dict[str, Any]:
        """Returns the script arguments for the limits of a job's tenant and end user."""
        return {
            "input_tokens": input_tokens(job),
            **self._settings.limit_arguments,
            "account": account,
        }

    def _kept(self, response_id: str, first: int, events: list[Event]) -> list[bytes]:
        """Encodes events as log entries, and encrypts the entries if encryption is configured.

        `first` is the index of the first entry in the log.
        """
        entries, cipher = list(map(encode_event, events)), self._pipe.cipher
        return entries if cipher is None else cipher.encrypted(response_id, first, entries)

    async def _submitted(self, job: Job, call: Call, *, ended: bool = False) -> Accepted:
        """Places a hold on the turns or the conversation that a job refers to, and submits the job.

        If the job was not accepted or is already `ended`, they are released. Otherwise, the input
        items of the job are appended to its conversation.
        """
        await self._hold(job)
        refused = False
        try:
            found = accepted(job.id, await self._pipe.run(call), self._settings)
            refused = not found.fresh
        except (QueueFull, Limited, IdempotencyKeyReused, SteersTaken):
            refused = True
            raise
        finally:
            if refused or ended:
                await self.turns.release(job.id, job.turns)
            if refused and job.conversation:
                await self.conversations.release(job.conversation, job.id)
        if job.conversation and not refused:
            # If this fails, a worker appends the items.
            with contextlib.suppress(RedisTrouble):
                await self.conversations.append(
                    job.conversation,
                    job.id,
                    job.params["input"],
                    status=Status.COMPLETED if ended else None,
                    previous=job.continues,
                )
        await self.replicated(found.response_id)
        return found

    async def _hold(self, job: Job) -> None:
        if job.conversation:
            items = job.params["input"]
            await self.conversations.hold(job.conversation, job.owner, job.id, items)
        await self.turns.hold(job.id, job.turns)

    async def replicated(self, response_id: str) -> None:
        """Waits until the replicas have the latest writes, if replication is required.

        Raises: NotReplicated, RedisTrouble.
        """
        if self._wait_replicas:
            have = await self._pipe.call(
                "WAIT", self._wait_replicas, WAIT_MS, at=names_of(response_id).job(response_id)
            )
            if have < self._wait_replicas:
                raise NotReplicated(response_id, have)

    async def cancel(self, response_id: str, length: int, events: list[Event]) -> bool:
        """Cancels a queued response at once, or asks the worker of a running response to end it.

        Returns True if the response has ended, and False if its worker was asked to end it.
        `events` are the last events of a queued response whose log has `length` entries.

        Raises: UnknownResponse; Diverged if the log has another length. After Diverged, read the
            log and call the method again.
        """
        names = names_of(response_id)
        reply = await self._pipe.run(
            calls.cancel(
                **script_keys(response_id),
                log_key=names.log(response_id),
                cancels_channel=names.cancels,
                expected=length,
                max_bytes=MAX_NOTIFICATION_BYTES,
                retention_ms=self._settings.retention_ms,
                entries=self._kept(response_id, length, events),
            )
        )
        match reply:
            case [b"cancelled"] | [b"ended"]:
                return True
            case [b"asked"]:
                return False
            case [b"gone"]:
                raise UnknownResponse(response_id)
            case [b"diverged", int(found)]:
                raise Diverged(response_id, length, found)
            case _:
                raise RedisRefused("the `cancel` script returned an unexpected reply")

    async def delete(self, response_id: str) -> bool:
        """Deletes a response. Returns False if it did not exist.

        The caller must have checked that the response belongs to the requesting owner.
        """
        names = names_of(response_id)
        call = calls.delete(
            **script_keys(response_id),
            log_key=names.log(response_id),
            turn_key=names.turn(response_id),
            cancels_channel=names.cancels,
        )
        return bool(await self._pipe.run(call))

    async def dead(self, partition: int) -> list[bytes]:
        """Returns the entries of the dead list, oldest first.

        Each entry is a response id, or an invalid entry that a worker found in a waiting list.
        """
        with decoding("the dead list"):
            return list(await self._pipe.call("LRANGE", Partition(partition).dead, 0, -1))

    async def count_dead(self, partition: int) -> int:
        """Returns the number of entries in the dead list."""
        return int(await self._pipe.call("LLEN", Partition(partition).dead))

    async def unbury(self, partition: int, entry: bytes) -> bool:
        """Removes an entry from the dead list. Returns True if the list contained it."""
        return bool(await self._pipe.call("LREM", Partition(partition).dead, 1, entry))

    async def orphans(self, partition: int, followed: list[str], most: int) -> list[str]:
        """Records which responses this server's clients follow, and returns up to `most` orphans.

        An orphan is a response that no client of any server has followed for the grace period. Each
        server has to call this method three times in each grace period.
        """
        reply = await self._pipe.run(
            calls.orphans(
                followed_key=Partition(partition).followed,
                grace_ms=self._settings.orphan_ms * 4 // 3,
                limit=most,
                ids=followed,
            )
        )
        return [response_id.decode() for response_id in reply]

    async def pause(self, model: str, seconds: float) -> None:
        """Pauses a model in all workers for `seconds`.

        During the pause, no job of the model begins. After the pause, the number of jobs that may
        begin grows from one until it is no longer limited.
        """

        async def pause(number: int) -> None:
            pause_key = Partition(number).pause(model)
            await self._pipe.run(calls.pause(pause_key=pause_key, pause_ms=round(1000 * seconds)))

        await each_partition(self._settings.partitions, pause)

    async def queue_positions(
        self, partition: int, waiting: list[tuple[str, str]]
    ) -> tuple[float | None, dict[tuple[str, str], tuple[int, int, str]]]:
        """Returns the data from which the positions of waiting jobs are computed.

        The first value is the number of seconds between two claimed jobs while the queue is busy,
        or None if it is unknown. The second value has three values for each `(queue_name, owner)`:
        the number of the first waiting job of the owner's tenant, or 0 if no job waits; the number
        of the tenant's jobs in higher tiers; and the reason for waiting, which is `own_limit`,
        `provider_rate`, or "" if the workers are busy.
        """
        names = Partition(partition)
        flat = [part for pair in waiting for part in pair]
        pace, *found = await self._pipe.run(
            calls.queue_positions(numbers_key=names.numbers, prefix=names.prefix, tenants=flat)
        )
        seconds = float(pace) / 1000 if pace else None
        reasons = (reason.decode() for reason in found[2::3])
        heads = zip(found[::3], found[1::3], reasons, strict=True)
        return seconds, dict(zip(waiting, heads, strict=True))
