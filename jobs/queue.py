"""The queue: submit, claim, extend, retry, give back, cancel, rescue, delete: a script each."""

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
MAX_JOB_BYTES = 1 << 26  # of one claim's reply
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
        """The response that now waits, or the one that this key made before.

        `begins` is appended when the job is claimed for the first time, unless it is so large that
        its worker should say it itself.
        `fingerprint` identifies the request's body, without spaces.
        `queue_name` comes from `names.queue_name_of`.
        `cancel_orphan`: whether it is cancelled when nobody follows it; not with webhooks.
        `account` is the end user's, for the limits of end users; empty if they do not apply.
        Raises: QueueFull, Limited, IdempotencyKeyReused, TurnMissing, RedisTrouble; NotReplicated,
            after which the response is queued all the same: submitting it again under its key
            finds it.
        """
        names, settings = names_of(job.id), self._settings
        fails = (
            settings.fail_on_worker_death if fail_on_worker_death is None else fail_on_worker_death
        )
        cancels = settings.cancel_orphans if cancel_orphan is None else cancel_orphan
        cancels = cancels and not settings.webhooks
        shown, answered = input_tokens(job), output_tokens(job)
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
                input_tokens=shown,
                tenant_waiting=settings.tenant_waiting,
                tenant_requests=settings.tenant_requests,
                tenant_tokens=settings.tenant_tokens,
                tenant_money=settings.tenant_money,
                tenant_input_tokens=settings.max_input_tokens,
                tenant_waiting_bytes=settings.tenant_waiting_bytes,
                subject_running=settings.subject_running,
                subject_requests=settings.subject_requests,
                subject_tokens=settings.subject_tokens,
                subject_money=settings.subject_money,
                account=account,
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
    ) -> Accepted:
        """The response that asked for no answer and has ended, or the one that this key made.

        `events` are its whole log. Raises: IdempotencyKeyReused, TurnMissing, RedisTrouble,
        NotReplicated.
        """
        return await self._submitted(
            job,
            calls.submit_completed(
                **self._made(job, idempotency_key, fingerprint),
                retention_ms=self._settings.retention_ms,
                entries=self._kept(job.id, 0, events),
            ),
            ended=True,
        )

    async def made(self, partition: int, owner: str, key: str, fingerprint: str) -> str | None:
        """The response that this key made of a body with this fingerprint, if it still exists.

        The same rule as `known` in `_shared.lua`, for requests that do not submit a job.
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
        """Notes that a client has the whole of a response; False if it has not ended.

        One that is not to be stored is kept for `grace_ms` more; a webhook that is only for what
        nobody has seen is dropped.
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
        """The arguments of a script that makes a response."""
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

    def _kept(self, response_id: str, first: int, events: list[Event]) -> list[bytes]:
        """The entries of events, from index `first` on, as they are kept."""
        entries, cipher = list(map(encode_event, events)), self._pipe.cipher
        return entries if cipher is None else cipher.encrypted(response_id, first, entries)

    async def _submitted(self, job: Job, call: Call, *, ended: bool = False) -> Accepted:
        """Holds the turns that a job names, and submits it; `ended` jobs hold theirs no longer."""
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
        """Up to `count` jobs, held under `claim`; the same ones if the claim was used before.

        None is added to jobs that are `max_job_bytes` large together.
        `room` says how many there may be of a model; of one that it lacks, as many as wait.
        `rates` says how many requests and tokens a minute its provider allows; 0 is any number.
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
        """For each `(response id, claim)`: "held", "cancel" or "lost"."""
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
        """The job waits `delay_ms` for another attempt. Raises: Fenced, Gone."""
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
        """The job is the next one to be claimed by anybody. Raises: Fenced, Gone."""
        reply = await self._pipe.run(
            calls.give_back(**_named(response_id), claim=claim, reason=reason)
        )
        check_held(response_id, reply)

    async def cancel(self, response_id: str, length: int, events: list[Event]) -> bool:
        """True if the response has ended, False if its worker was asked to end it.

        `events` end a response that no worker holds and whose log has `length` entries.
        Raises: UnknownResponse; Diverged when the log has moved: read it and call again.
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
                raise RedisRefused("cancel: unexpected reply")

    async def rescue(self, partition: int, claim: str) -> tuple[int, list[Grant]]:
        """How many lost jobs wait again, and those that the caller must end now."""
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
        """True if there was such a response. Who may delete it is for the caller to know."""
        names = names_of(response_id)
        call = calls.delete(
            **_named(response_id),
            log_key=names.log(response_id),
            turn_key=names.turn(response_id),
            cancels_channel=names.cancels,
        )
        return bool(await self._pipe.run(call))

    async def dead(self, partition: int) -> list[bytes]:
        """What lies in the dead list, oldest first: response ids, or whatever was no id."""
        found: list[bytes] = await self._pipe.call("LRANGE", Partition(partition).dead, 0, -1)
        return found

    async def count_dead(self, partition: int) -> int:
        """How many entries the dead list has."""
        return int(await self._pipe.call("LLEN", Partition(partition).dead))

    async def unbury(self, partition: int, entry: bytes) -> bool:
        """Takes an entry off the dead list; True if it was there."""
        return bool(await self._pipe.call("LREM", Partition(partition).dead, 1, entry))

    async def orphans(self, partition: int, followed: list[str], most: int) -> list[str]:
        """Says what this process follows, to be said again in every third of the grace; up to
        `most` that nobody has followed for the grace.
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
        """No worker begins anything of a model for so long; then a few, then all."""
        for number in range(self._settings.partitions):
            pause_key = Partition(number).pause(model)
            await self._pipe.run(calls.pause(pause_key=pause_key, pause_ms=round(1000 * seconds)))

    async def queue_positions(
        self, partition: int, waiting: list[tuple[str, str]]
    ) -> tuple[float | None, dict[tuple[str, str], tuple[int, int, str]]]:
        """Seconds between claims while the queue is busy; for each `(queue_name, owner)` the head's
        number (0 where nothing waits), how many of the tenant's come before it in higher tiers, and
        why it waits: `own_limit`, `provider_rate`, or "" where the workers are busy.
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
    """The arguments of most scripts of one response."""
    names = names_of(response_id)
    return {
        "job_key": names.job(response_id),
        "channel": names.notifications(response_id),
        "prefix": names.prefix,
        "id": response_id,
    }
