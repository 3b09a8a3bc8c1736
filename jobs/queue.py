"""The queue of jobs; each operation that changes a job's state runs one Lua script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import (
    Diverged,
    IdempotencyKeyReused,
    Limited,
    NotReplicated,
    QueueFull,
    RedisRefused,
    UnknownResponse,
)
from .log.codec import encode_event, kept_fingerprints, kept_job
from .log.log import MAX_NOTIFICATION_BYTES
from .names import Partition, names_of
from .replies import accepted, check_held, granted
from .scripts import calls
from .tokens import input_tokens, output_tokens
from .turn_store import TurnStore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .log.codec import Event
    from .models import Price
    from .record import Job, SharedSettings
    from .redis.pipe import Pipe
    from .replies import Accepted, Grant
    from .scripts import Call

RESCUE_LIMIT = 100
MAX_JOB_BYTES = 1 << 26  # the default bound of the jobs in one claim's reply
WAIT_MS = 1_000


class Queue:
    """The queue of all partitions."""

    def __init__(self, pipe: Pipe, settings: SharedSettings, *, wait_replicas: int = 0) -> None:
        self._pipe = pipe
        self._settings = settings
        self._wait_replicas = wait_replicas
        self.turns = TurnStore(pipe, settings.job_ttl_ms)

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
    ) -> Accepted:
        """Queues a response, or returns the one that the idempotency key has created before.

        `begins` is appended when the job is claimed for the first time. If it is larger than a
        notification may be, the worker appends it.
        `fingerprint` identifies the request's body and contains no spaces.
        `queue_name` comes from `names.queue_name_of`.
        `fail_on_worker_death` and `cancel_orphan` default to the shared settings. An orphan is a
        response that nobody follows; none is cancelled if webhooks are configured.
        `account` is that of the end user, for the limits of end users; empty if they do not apply.

        Raises: QueueFull, Limited, IdempotencyKeyReused, TurnMissing, RedisTrouble; NotReplicated,
            after which the response is queued all the same: submitting it again with its key finds
            it.
        """
        names, settings = names_of(job.id), self._settings
        fails = (
            settings.fail_on_worker_death if fail_on_worker_death is None else fail_on_worker_death
        )
        cancels = settings.cancel_orphans if cancel_orphan is None else cancel_orphan
        cancels = cancels and not settings.webhooks
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
                hook_wait_ms=settings.hook_wait_ms if settings.webhooks else "",
                context_bytes=job.context_bytes if job.turns else 0,
                tokens_field=shown + answered,
                money_field=price.of(shown, answered) if price else 0,
                **limits,
                orphan_ms=settings.orphan_ms if cancels else "",
                max_bytes=MAX_NOTIFICATION_BYTES,
                first_entry=first if len(first) <= MAX_NOTIFICATION_BYTES else b"",
                entries=entries,
            ),
        )

    async def submit_completed(
        self,
        job: Job,
        events: list[Event],
        *,
        idempotency_key: str | None = None,
        fingerprint: str = "",
        account: str = "",
    ) -> Accepted:
        """Stores a request without generation as completed; `events` are its whole log.

        Returns the response, or the one that the idempotency key has created before.
        `account` is as for `submit`.

        Raises: Limited, IdempotencyKeyReused, TurnMissing, RedisTrouble, NotReplicated.
        """
        return await self._submitted(
            job,
            calls.submit_completed(
                **self._made(job, idempotency_key, fingerprint),
                **self._limits(job, account),
                retention_ms=self._settings.retention_ms,
                entries=self._kept(job.id, 0, events),
            ),
            ended=True,
        )

    async def made(self, partition: int, owner: str, key: str, fingerprint: str) -> str | None:
        """Returns the id of the response that an idempotency key created, or None.

        Returns None as well if its body had another fingerprint or if it no longer exists. This is
        the rule of `known` in `_shared.lua`, for requests that do not submit a job.
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
        """Records that a client has received a whole response; returns False if it has not ended.

        An unstored response is kept for `grace_ms` more. A webhook that is only for unseen
        responses is dropped.
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
        """Returns the arguments that all scripts that create a response have in common."""
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
        """Returns the arguments with the limits of a job's tenant and end user."""
        settings = self._settings
        return {
            "input_tokens": input_tokens(job),
            "tenant_waiting": settings.tenant_waiting,
            "tenant_requests": settings.tenant_requests,
            "tenant_tokens": settings.tenant_tokens,
            "tenant_money": settings.tenant_money,
            "tenant_input_tokens": settings.max_input_tokens,
            "tenant_waiting_bytes": settings.tenant_waiting_bytes,
            "subject_running": settings.subject_running,
            "subject_requests": settings.subject_requests,
            "subject_tokens": settings.subject_tokens,
            "subject_money": settings.subject_money,
            "account": account,
        }

    def _kept(self, response_id: str, first: int, events: list[Event]) -> list[bytes]:
        """Returns the entries of events from index `first` on, encrypted if there is a cipher."""
        entries, cipher = list(map(encode_event, events)), self._pipe.cipher
        return entries if cipher is None else cipher.encrypted(response_id, first, entries)

    async def _submitted(self, job: Job, call: Call, *, ended: bool = False) -> Accepted:
        """Holds the turns that a job names and submits it; releases them if the job is `ended`."""
        await self.turns.hold(job.id, job.turns)
        try:
            found = accepted(job.id, await self._pipe.run(call), self._settings)
            ended = ended or not found.fresh
        except (QueueFull, Limited, IdempotencyKeyReused):
            ended = True
            raise
        finally:
            if ended:
                await self.turns.release(job.id, job.turns)
        await self._replicated(found.response_id)
        return found

    async def _replicated(self, response_id: str) -> None:
        if self._wait_replicas:
            have = await self._pipe.call(
                "WAIT", self._wait_replicas, WAIT_MS, at=names_of(response_id).job(response_id)
            )
            if have < self._wait_replicas:
                raise NotReplicated(response_id, have)

    async def claim(
        self,
        partition: int,
        claim: str,
        count: int,
        room: Mapping[str, int] | None = None,
        rates: Mapping[str, tuple[int, int]] | None = None,
        max_job_bytes: int = MAX_JOB_BYTES,
    ) -> list[Grant]:
        """Claims up to `count` jobs under `claim`; a repeated claim returns the same jobs.

        No further job is added once the jobs have `max_job_bytes` together.
        `room` has the number of jobs of each model that may begin; other models are unlimited.
        `rates` has the requests and tokens per minute that a model's provider allows; 0 means any
        number.
        """
        names = Partition(partition)
        room, rates = room or {}, rates or {}
        rooms: list[str | int] = []
        for model in dict.fromkeys((*room, *rates)):
            rooms += [model, room.get(model, -1), *rates.get(model, (0, 0))]
        reply = await self._pipe.run(
            calls.claim(
                queues_key=names.queues,
                claimed_key=names.claimed(claim),
                prefix=names.prefix,
                claim=claim,
                count=count,
                lease_ms=self._settings.lease_ms,
                tenant_running=self._settings.tenant_running,
                max_bytes=MAX_NOTIFICATION_BYTES,
                max_job_bytes=max_job_bytes,
                model_limits=rooms,
            )
        )
        return [granted(claim, row) for row in reply]

    async def extend(self, partition: int, held: list[tuple[str, str]]) -> list[str]:
        """Renews the leases of `(response id, claim)` pairs; returns the state of each.

        The states are "held"; "cancel": it is held and is to be cancelled; "lost": it is not held.
        """
        names = Partition(partition)
        flat = [part for pair in held for part in pair]
        reply = await self._pipe.run(
            calls.extend(
                leases_key=names.leases,
                prefix=names.prefix,
                lease_ms=self._settings.lease_ms,
                held=flat,
            )
        )
        return [answer.decode() for answer in reply]

    async def retry(self, response_id: str, claim: str, delay_ms: int, reason: str) -> None:
        """Queues a running job for another attempt after `delay_ms`. Raises: Fenced, Gone."""
        reply = await self._pipe.run(
            calls.retry(
                **_named(response_id),
                claim=claim,
                delay_ms=delay_ms,
                reason=reason,
            )
        )
        check_held(response_id, reply)

    async def give_back(self, response_id: str, claim: str, reason: str) -> None:
        """Gives a running job back to the front of its tenant's queue. Raises: Fenced, Gone."""
        reply = await self._pipe.run(
            calls.give_back(**_named(response_id), claim=claim, reason=reason)
        )
        check_held(response_id, reply)

    async def cancel(self, response_id: str, length: int, events: list[Event]) -> bool:
        """Cancels a response: at once, or by asking the worker that holds it.

        Returns True if the response has ended, False if its worker was asked to end it.
        `events` end a response that no worker holds and whose log has `length` entries.

        Raises: UnknownResponse; Diverged if the log has another length: read it and call again.
        """
        names = names_of(response_id)
        reply = await self._pipe.run(
            calls.cancel(
                **_named(response_id),
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
                raise RedisRefused("the script cancel returned an unexpected reply")

    async def rescue(self, partition: int, claim: str) -> tuple[int, list[Grant]]:
        """Recovers lost jobs of a partition.

        Returns the number of jobs that are queued again, and the jobs that the caller must end.
        """
        names, settings = Partition(partition), self._settings
        requeued, rows = await self._pipe.run(
            calls.rescue(
                leases_key=names.leases,
                delayed_key=names.delayed,
                open_key=names.open,
                prefix=names.prefix,
                claim=claim,
                lease_ms=settings.lease_ms,
                max_attempts=settings.max_attempts,
                inspect_ms=settings.inspect_ms,
                limit=RESCUE_LIMIT,
            )
        )
        return requeued, [granted(claim, row) for row in rows]

    async def delete(self, response_id: str) -> bool:
        """Deletes a response; returns False if it did not exist. The caller checks the owner."""
        names = names_of(response_id)
        call = calls.delete(
            **_named(response_id),
            log_key=names.log(response_id),
            turn_key=names.turn(response_id),
            cancels_channel=names.cancels,
        )
        return bool(await self._pipe.run(call))

    async def dead(self, partition: int) -> list[bytes]:
        """Returns the entries of the dead list, oldest first: response ids or invalid entries."""
        found: list[bytes] = await self._pipe.call("LRANGE", Partition(partition).dead, 0, -1)
        return found

    async def count_dead(self, partition: int) -> int:
        """Returns the number of entries in the dead list."""
        return int(await self._pipe.call("LLEN", Partition(partition).dead))

    async def unbury(self, partition: int, entry: bytes) -> bool:
        """Removes an entry from the dead list; returns True if it was there."""
        return bool(await self._pipe.call("LREM", Partition(partition).dead, 1, entry))

    async def orphans(self, partition: int, followed: list[str], most: int) -> list[str]:
        """Records the responses that this process follows; returns up to `most` orphans.

        Call it in every third of the grace period. Orphans are responses that nobody has followed
        for the grace period.
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

        Meanwhile none of its jobs begins; afterwards a few may, then all.
        """
        for number in range(self._settings.partitions):
            pause_key = Partition(number).pause(model)
            await self._pipe.run(calls.pause(pause_key=pause_key, pause_ms=round(1000 * seconds)))

    async def queue_positions(
        self, partition: int, waiting: list[tuple[str, str]]
    ) -> tuple[float | None, dict[tuple[str, str], tuple[int, int, str]]]:
        """Returns what queue positions are computed from.

        The first value is the seconds between claimed jobs while the queue is busy, or None if
        unknown. The second one has, for each `(queue_name, owner)`: the number of the head (0 if no
        job waits), the number of the tenant's jobs in higher tiers, and the reason for waiting:
        `own_limit`, `provider_rate`, or "" if the workers are busy.
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


def _named(response_id: str) -> dict[str, str]:
    """Returns the arguments that most scripts for one response have in common."""
    names = names_of(response_id)
    return {
        "job_key": names.job(response_id),
        "channel": names.notifications(response_id),
        "prefix": names.prefix,
        "id": response_id,
    }
