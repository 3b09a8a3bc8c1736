"""Runs each call both on the scripts in Redis and on the Python model, and compares the results."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from jobs.ids import new_response_id
from jobs.log.compaction import compact, expand
from jobs.names import tenant_of
from jobs.redis.pipe import Pipe
from jobs.scripts import calls
from tests.jobs.factories import (
    NAMES,
    fall_due,
    inspect_now,
    run_out,
)
from tests.jobs.scripts.model import (
    ENDS,
    HOUR,
    MAX_ATTEMPTS,
    MAX_RUNNING,
    NO_LIMITS,
    QUEUED,
    RUNNING,
    Model,
    logged,
)


def keys_of(id_: str) -> dict[str, str]:
    """Returns the arguments that most scripts for a response share."""
    return {
        "job_key": NAMES.job(id_),
        "log_key": NAMES.log(id_),
        "prefix": NAMES.prefix,
        "id": id_,
    }


Call = Callable[[], Awaitable[None]]

LOOK = b"""
local found = {}
for _, key in ipairs(redis.call('KEYS', 'holdline:*')) do
  if redis.call('PTTL', key) == -1 then return redis.error_reply('no TTL: ' .. key) end
end
for _, id in ipairs(ARGV) do
  local f = redis.call('HMGET', KEYS[1] .. 'job:' .. id, 'status', 'claim', 'attempt', 'failures',
    'queue_name')
  local since = KEYS[1] .. 'since' .. (f[5] and '|' .. f[5] or '')
  found[#found + 1] = { f[1] or '', f[2] or '', tonumber(f[3] or 0), tonumber(f[4] or 0),
    redis.call('LRANGE', KEYS[1] .. 'log:' .. id, 0, -1),
    redis.call('ZSCORE', KEYS[1] .. 'open', id) and 1 or 0,
    redis.call('ZSCORE', KEYS[1] .. 'leases', id) and 1 or 0,
    redis.call('ZSCORE', KEYS[1] .. 'delayed', id) and 1 or 0,
    redis.call('ZSCORE', since, id) and 1 or 0,
    redis.call('HGET', KEYS[1] .. 'job:' .. id, 'block0') or '' }
end
return found
"""


class Both:
    """Runs calls both in Redis and on the Python model. Any earlier call can be repeated."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self.model = Model()
        self.ids: list[str] = []
        self.holders: list[tuple[str, str]] = []
        self.calls: list[Call] = []
        self._before: dict[str, list[bytes]] = {}
        self._marks = 0

    def mark(self, what: str) -> bytes:
        """Returns a unique log entry."""
        self._marks += 1
        return f"{what} {self._marks}".encode()

    async def make(self, call: Call) -> None:
        """Makes a call, records the call for repetition, and compares the results."""
        self.calls.append(call)
        await self.again(call)

    async def again(self, call: Call) -> None:
        """Repeats an earlier call and compares the results."""
        await call()
        await self.compare()

    def submit(
        self, owner: str, key: str, body: str, fails: bool, queue_name: str, begins: bytes
    ) -> Call:
        id_ = new_response_id(0)
        self.ids.append(id_)

        async def call() -> None:
            before = id_ in self.model.all
            submitted = calls.submit(
                **keys_of(id_),
                idempotency_key=NAMES.idempotency("all", key) if key else NAMES.job(id_),
                channel=NAMES.notifications(id_),
                owner=owner,
                record=b"job",
                fingerprints=body if key else "",
                ttl_ms=HOUR,
                inspect_ms=HOUR,
                max_wait_ms=HOUR,
                max_waiting=1000,
                max_waiting_bytes=1 << 30,
                fail_on_death=int(fails),
                queue_name=queue_name,
                unstored=0,
                hook_wait_ms="0",
                push_wait_ms="",
                context_bytes=0,
                tokens_field=9,
                money_field=9,
                input_tokens=9,
                **NO_LIMITS,
                orphan_ms="",
                max_bytes=100,
                first_entry=begins,
                steered="",
                trace=id_,
                entries=logged(id_),
            )
            reply = await self.pipe.run(submitted)
            expected = self.model.submit(id_, owner, key, body, fails, queue_name, begins)
            assert expected == (reply[:1] if expected == [b"accepted"] else reply)
            if not before:
                self._before.pop(id_, None)

        return call

    def claim(self, claim: str, count: int, *, only: bool = False, **room: int) -> Call:
        async def call() -> None:
            flat = [part for name, most in room.items() for part in (name, most, 0, 0)]
            claims = calls.claim(
                queues_key=NAMES.queues,
                claimed_key=NAMES.claimed(claim),
                prefix=NAMES.prefix,
                claim=claim,
                worker="",
                count=count,
                lease_ms=HOUR,
                tenant_running=MAX_RUNNING,
                max_bytes=100,
                max_job_bytes=10_000,
                only_listed=int(only),
                model_limits=flat,
            )
            _, *rows = await self.pipe.run(claims)
            granted = [row[0].decode() for row in rows]
            self.model.claim(claim, count, room, granted, only=only)
            self._hold(claim, granted)
            for row in rows:
                one = self.model.all[row[0].decode()]
                assert (one.attempt, one.failures, int(one.cancel)) == tuple(row[2:5])
                assert (len(one.log), one.queue_name) == (row[7], row[8].decode())
                assert row[0] == row[12]  # the trace context, which is the id in these tests

        return call

    def _hold(self, claim: str, granted: list[str]) -> None:
        self.holders += [(id_, claim) for id_ in granted if (id_, claim) not in self.holders]

    def append(self, id_: str, claim: str, expected: int, count: int, *, marked: bool) -> Call:
        frames = [self.mark(claim) for _ in range(count)]
        checkpoint = self.mark("checkpoint") if marked else b""

        async def call() -> None:
            appends = calls.append(
                job_key=NAMES.job(id_),
                log_key=NAMES.log(id_),
                channel=NAMES.notifications(id_),
                claim=claim,
                expected=expected,
                max_bytes=100,
                checkpoint=checkpoint,
                entries=frames,
            )
            reply = await self.pipe.run(appends)
            assert self.model.append(id_, claim, expected, frames, checkpoint) == reply

        return call

    def finish(self, id_: str, claim: str, expected: int, status: str) -> Call:
        frames = [self.mark(claim), self.mark("end")]

        async def call() -> None:
            finishes = calls.finish(
                **keys_of(id_),
                channel=NAMES.notifications(id_),
                claim=claim,
                expected=expected,
                max_bytes=100,
                status=status,
                retention_ms=HOUR,
                to_dead=0,
                tokens=len(frames),
                money=0,
                steers=-1,
                successor="",
                http_status="",
                entries=frames,
            )
            reply = await self.pipe.run(finishes)
            assert self.model.finish(id_, claim, expected, status, frames) == reply

        return call

    def compact(self, id_: str, claim: str, log: list[bytes]) -> Call:
        async def call() -> None:
            digest = hashlib.sha1(b"".join(log)).hexdigest()
            blocks = compact(log)
            counts = ",".join(str(block.count) for block in blocks)
            compacts = calls.compact(
                job_key=NAMES.job(id_),
                log_key=NAMES.log(id_),
                claim=claim,
                head_length=len(log),
                head_sha1=digest,
                counts=counts,
                blocks=[block.data for block in blocks],
            )
            reply = await self.pipe.run(compacts)
            assert self.model.compact(id_, claim, log) == reply

        return call

    def begin_again(self, id_: str, claim: str, attempt: int, *, keeps: bool) -> Call:
        async def call() -> None:
            begins = calls.begin_again(
                job_key=NAMES.job(id_), claim=claim, attempt=attempt, keeps_checkpoint=int(keeps)
            )
            reply = await self.pipe.run(begins)
            assert self.model.begin_again(id_, claim, attempt, keeps=keeps) == reply

        return call

    def put_back(self, script: str, id_: str, claim: str, *, keeps: bool) -> Call:
        async def call() -> None:
            retries = script == "retry"
            more: dict[str, Any] = (
                {"delay_ms": HOUR, "keeps_checkpoint": int(keeps), "http_status": ""}
                if retries
                else {}
            )
            puts_back = getattr(calls, script)(
                job_key=NAMES.job(id_),
                channel=NAMES.notifications(id_),
                prefix=NAMES.prefix,
                id=id_,
                claim=claim,
                reason="why",
                **more,
            )
            reply = await self.pipe.run(puts_back)
            if retries:
                assert self.model.retry(id_, claim, keeps_checkpoint=keeps) == reply
            else:
                assert self.model.give_back(id_, claim) == reply

        return call

    def extend(self, held: list[tuple[str, str]]) -> Call:
        async def call() -> None:
            flat = [part for pair in held for part in pair]
            extends = calls.extend(
                leases_key=NAMES.leases, prefix=NAMES.prefix, lease_ms=HOUR, held=flat
            )
            reply = await self.pipe.run(extends)
            assert self.model.extend(held) == reply

        return call

    def cancel(self, id_: str, expected: int) -> Call:
        frames = [self.mark("end")]

        async def call() -> None:
            cancels = calls.cancel(
                **keys_of(id_),
                channel=NAMES.notifications(id_),
                cancels_channel=NAMES.cancels,
                expected=expected,
                max_bytes=100,
                retention_ms=HOUR,
                entries=frames,
            )
            reply = await self.pipe.run(cancels)
            assert self.model.cancel(id_, expected, frames) == reply

        return call

    def delete(self, id_: str) -> Call:
        async def call() -> None:
            deletes = calls.delete(
                **keys_of(id_),
                turn_key=NAMES.turn(id_),
                channel=NAMES.notifications(id_),
                cancels_channel=NAMES.cancels,
            )
            reply = await self.pipe.run(deletes)
            assert self.model.delete(id_) == reply
            self._before.pop(id_, None)

        return call

    def rescue(self, claim: str) -> Call:
        async def call() -> None:
            rescues = calls.rescue(
                leases_key=NAMES.leases,
                delayed_key=NAMES.delayed,
                open_key=NAMES.open,
                rescued_key=NAMES.rescued,
                prefix=NAMES.prefix,
                claim=claim,
                lease_ms=HOUR,
                max_attempts=MAX_ATTEMPTS,
                inspect_ms=HOUR,
                limit=100,
                every_ms=0,
                max_gap_ms=0,
                grace_ms=0,
            )
            requeued, rows = await self.pipe.run(rescues)
            granted = [row[0].decode() for row in rows]
            assert self.model.rescue(claim) == (requeued, set(granted))
            self._hold(claim, granted)

        return call

    async def time_passes(self, id_: str) -> None:
        """Makes a response's retry delay and lease expire, and its inspection due."""
        await run_out(self.pipe, id_)
        await fall_due(self.pipe, id_)
        await inspect_now(self.pipe, id_)
        if (one := self.model.all.get(id_)) is not None:
            one.ran_out, one.due = one.status == RUNNING, one.delayed

    async def compare(self) -> None:
        """Checks that Redis has the same state as the Python model and satisfies the invariants."""
        rows = await self.pipe.call("EVAL", LOOK, 1, NAMES.prefix, *self.ids)
        for id_, (status, claim, attempt, failures, log, *places, block) in zip(
            self.ids, rows, strict=True
        ):
            one = self.model.all.get(id_)
            assert bool(block) == (one is not None and one.compacted)
            if block:
                assert [] == log
                log = expand(block)  # noqa: PLW2901 - the same log
            if one is None:
                assert (b"", [], [0, 0, 0, 0]) == (status, log, places)
                continue
            assert (one.status, one.claim) == (status.decode(), claim.decode())
            assert (one.attempt, one.failures) == (attempt, failures)
            assert one.log == log
            assert self._before.get(id_, []) == log[: len(self._before.get(id_, []))]
            self._before[id_] = log
            ended = one.status in ENDS
            waits = one.status == QUEUED and not one.delayed
            assert [not ended, one.status == RUNNING, one.delayed, waits] == list(map(bool, places))
            ends = [index for index, entry in enumerate(log) if entry.startswith(b"end")]
            assert ends == ([len(log) - 1] if ended else [])
            writers = [entry.split()[0] for entry in log[1:] if not entry.startswith(b"end")]
            changes = [
                w for w, before in zip(writers, [b"", *writers], strict=False) if w != before
            ]
            assert len(changes) == len(set(changes)), "two writers took turns"

        ranked = await self.pipe.call("ZRANGE", NAMES.tenants, 0, -1, "WITHSCORES")
        unfinished = Counter(
            tenant_of(one.owner) for one in self.model.all.values() if one.status not in ENDS
        )
        tenants = (tenant.decode() for tenant in ranked[::2])
        assert unfinished == dict(zip(tenants, map(int, ranked[1::2]), strict=True))

    async def drain(self) -> None:
        """Checks that every accepted response can still be finished."""
        for round_ in range(4 + MAX_ATTEMPTS + len(self.ids)):
            if round_ and all(one.status in ENDS for one in self.model.all.values()):
                break
            for id_ in self.ids:
                await self.time_passes(id_)
            await self.again(self.rescue(f"last-rescue-{round_}"))
            await self.again(self.claim(f"last-claim-{round_}", 100))
            for id_, one in list(self.model.all.items()):
                if one.status == RUNNING:
                    await self.again(self.finish(id_, one.claim, len(one.log), "completed"))
        assert {one.status for one in self.model.all.values()} <= set(ENDS)
