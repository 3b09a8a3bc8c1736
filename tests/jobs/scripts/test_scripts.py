"""The scripts under repeats, reorderings, lost replies and full memory.

`Model` is what the scripts are meant to be, in Python and in memory. Every call is made on both.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import jobs.scripts as scripts_module
from jobs.errors import RedisFull
from jobs.hooks import Hooks
from jobs.log.codec import encode_event
from jobs.log.compaction import compact, expand
from jobs.log.events import begins
from jobs.log.log import LogWriter, read
from jobs.names import model_of, new_response_id
from jobs.queue import Queue
from jobs.record import Job, Status
from jobs.record_store import RecordStore
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from jobs.scripts import SCRIPTS, Script, WrongArguments, calls, check_includes
from jobs.tenants import Tenants
from tests.jobs.dump import Dump, dump
from tests.jobs.factories import (
    NAMES,
    SETTINGS,
    a_job,
    end_entry,
    ending,
    fall_due,
    inspect_now,
    on_redis,
    opening,
    run_out,
)
from tests.jobs.proxy import Proxy

MAX_ATTEMPTS = 3
MAX_RUNNING = 2
LIMITS = ["waiting", "requests", "tokens", "money", "input_tokens"]
NO_LIMITS = {f"tenant_{what}": 0 for what in LIMITS}
HOUR = 3_600_000
RUNNING, QUEUED = "running", "queued"
ENDS = ["completed", "incomplete", "failed", "cancelled"]


@dataclass
class Response:
    """What the model knows of one response."""

    owner: str
    log: list[bytes]
    queue_name: str = ""
    begins: bytes = b""
    status: str = QUEUED
    claim: str = ""
    attempt: int = 0
    failures: int = 0
    cancel: bool = False
    delayed: bool = False
    fails: bool = False
    ran_out: bool = False
    due: bool = False
    ending: bool = False
    compacted: bool = False

    def push(self, expected: int, frames: list[bytes]) -> bool | None:
        """True if pushed, False if found, None if neither."""
        if len(self.log) == expected:
            self.log += frames
            return True
        if len(self.log) == expected + len(frames) and self.log[expected:] == frames:
            return False
        return None

    def begin(self) -> None:
        if self.begins:
            self.push(2, [self.begins])
            self.begins = b""

    def wait(self, claim: str) -> None:
        self.status, self.claim, self.ran_out = QUEUED, claim, False

    def run(self, claim: str) -> None:
        self.status, self.claim, self.ran_out, self.delayed = RUNNING, claim, False, False


def keys_of(id_: str) -> dict[str, str]:
    """The arguments that most scripts of a response have."""
    return {
        "job_key": NAMES.job(id_),
        "log_key": NAMES.log(id_),
        "prefix": NAMES.prefix,
        "id": id_,
    }


@dataclass
class Model:
    """The scripts as they are meant; each method answers as its script does."""

    all: dict[str, Response] = field(default_factory=dict)
    keys: dict[str, tuple[str, str]] = field(default_factory=dict)
    claims: dict[str, list[str]] = field(default_factory=dict)

    def submit(
        self, id_: str, owner: str, key: str, body: str, fails: bool, queue_name: str, begins: bytes
    ) -> list[Any]:
        if id_ in self.all:
            return [b"accepted"]
        if key and key in self.keys and self.keys[key][0] in self.all:
            first, first_body = self.keys[key]
            return [b"same" if first_body == body else b"reused", first.encode()]
        self.all[id_] = Response(owner, logged(id_), queue_name, begins, fails=fails)
        if key:
            self.keys[key] = (id_, body)
        return [b"accepted"]

    def claim(self, claim: str, count: int, room: dict[str, int], granted: list[str]) -> None:
        """Checks what was granted: the higher tier first, no more of a model than there is room
        for, and no more of an owner than may run. Which owner comes first is not the model's
        business.
        """
        if claim in self.claims:
            held = [id_ for id_ in self.claims[claim] if self._holds(id_, claim)]
            assert held == granted
            return
        for one in self.all.values():
            if one.status == QUEUED and one.delayed and one.due:
                one.delayed = one.due = False
        free = [id_ for id_, one in self.all.items() if one.status == QUEUED and not one.delayed]
        room = dict(room)
        for id_ in granted:
            fit = [one for one in free if self._fits(one, room)]
            assert id_ in fit
            assert rank(self.all[id_].queue_name) == min(
                rank(self.all[one].queue_name) for one in fit
            )
            free.remove(id_)
            self.all[id_].run(claim)
            self.all[id_].attempt += 1
            self.all[id_].begin()
            if (model := model_of(self.all[id_].queue_name)) in room:
                room[model] -= 1
        left = [one for one in free if self._fits(one, room)]
        assert len(granted) == count or (len(granted) < count and not left)
        if granted:
            self.claims[claim] = granted

    def _fits(self, id_: str, room: dict[str, int]) -> bool:
        owner = self.all[id_].owner
        running = sum(one.owner == owner and one.status == RUNNING for one in self.all.values())
        return running < MAX_RUNNING and room.get(model_of(self.all[id_].queue_name), 1) > 0

    def append(self, id_: str, claim: str, expected: int, frames: list[bytes]) -> list[Any]:
        one = self.all.get(id_)
        if one is None:
            return [b"gone"]
        if not self._holds(id_, claim):
            return [b"fenced"]
        if one.push(expected, frames) is None:
            return [b"diverged", len(one.log)]
        return [b"ok", len(one.log), int(one.cancel)]

    def finish(
        self, id_: str, claim: str, expected: int, status: str, frames: list[bytes]
    ) -> list[Any]:
        one = self.all.get(id_)
        if one is None:
            return [b"gone"]
        if one.claim != claim or one.status not in (RUNNING, status):
            return [b"fenced"]
        if one.status != RUNNING and len(one.log) != expected + len(frames):
            return [b"fenced"]
        if not one.compacted and one.push(expected, frames) is None:
            return [b"diverged", len(one.log)]
        one.status, one.ran_out = status, False
        return [b"ok", len(one.log)]

    def compact(self, id_: str, claim: str, log: list[bytes]) -> int:
        one = self.all.get(id_)
        if one is None or one.status not in ENDS:
            return 0
        one.compacted = one.compacted or (one.claim == claim and one.log == log)
        return int(one.compacted)

    def retry(self, id_: str, claim: str) -> list[Any]:
        one = self.all.get(id_)
        if one is None:
            return [b"gone"]
        if one.status == QUEUED and one.claim == f"was {claim}":
            return [b"ok"]
        if not self._holds(id_, claim):
            return [b"fenced"]
        one.wait(f"was {claim}")
        one.failures += 1
        one.delayed, one.due = True, one.cancel
        return [b"ok"]

    def give_back(self, id_: str, claim: str) -> list[Any]:
        one = self.all.get(id_)
        if one is None:
            return [b"gone"]
        if one.claim == f"was {claim}":
            return [b"ok"]
        if not self._holds(id_, claim):
            return [b"fenced"]
        one.wait(f"was {claim}")
        return [b"ok"]

    def extend(self, held: list[tuple[str, str]]) -> list[Any]:
        answers = []
        for id_, claim in held:
            if self._holds(id_, claim):
                self.all[id_].ran_out = False
                answers.append(b"cancel" if self.all[id_].cancel else b"held")
            else:
                answers.append(b"lost")
        return answers

    def cancel(self, id_: str, expected: int, frames: list[bytes]) -> list[Any]:
        one = self.all.get(id_)
        if one is None:
            return [b"gone"]
        if one.status == RUNNING:
            one.cancel = True
            return [b"asked"]
        if one.status != QUEUED:
            return [b"ended"]
        if one.push(expected, frames) is None:
            return [b"diverged", len(one.log)]
        one.status, one.delayed = "cancelled", False
        return [b"cancelled"]

    def delete(self, id_: str) -> int:
        return int(self.all.pop(id_, None) is not None)

    def rescue(self, claim: str) -> tuple[int, set[str]]:
        requeued, granted = 0, set()
        for id_, one in self.all.items():
            if one.status == QUEUED and one.delayed and one.due:
                one.delayed = one.due = False
                requeued += 1
            elif one.status == RUNNING and one.ran_out:
                one.failures += not (one.cancel or one.ending)
                if one.ending or one.cancel or one.fails or one.failures >= MAX_ATTEMPTS:
                    one.ending = True
                    one.run(claim)
                    granted.add(id_)
                else:
                    one.wait("")
                    requeued += 1
        return requeued, granted

    def _holds(self, id_: str, claim: str) -> bool:
        one = self.all.get(id_)
        return one is not None and one.status == RUNNING and one.claim == claim


def logged(id_: str) -> list[bytes]:
    """The log of a job that was submitted."""
    return [f"{kind} {id_}".encode() for kind in ("created", "queued")]


def rank(queue_name: str) -> int:
    """How far back a tier stands."""
    return {"p": 1, "f": 3}.get(queue_name[:1], 2)


Call = Callable[[], Awaitable[None]]

LOOK = b"""
local found = {}
for _, key in ipairs(redis.call('KEYS', 'holdline:*')) do
  if redis.call('PTTL', key) == -1 then return redis.error_reply('no TTL: ' .. key) end
end
for _, id in ipairs(ARGV) do
  local f = redis.call('HMGET', KEYS[1] .. 'job:' .. id, 'status', 'claim', 'attempt', 'failures')
  found[#found + 1] = { f[1] or '', f[2] or '', tonumber(f[3] or 0), tonumber(f[4] or 0),
    redis.call('LRANGE', KEYS[1] .. 'log:' .. id, 0, -1),
    redis.call('ZSCORE', KEYS[1] .. 'open', id) and 1 or 0,
    redis.call('ZSCORE', KEYS[1] .. 'leases', id) and 1 or 0,
    redis.call('ZSCORE', KEYS[1] .. 'delayed', id) and 1 or 0,
    redis.call('HGET', KEYS[1] .. 'job:' .. id, 'block0') or '' }
end
return found
"""


class Both:
    """Redis and the model, side by side; every call ever made can be made again."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self.model = Model()
        self.ids: list[str] = []
        self.holders: list[tuple[str, str]] = []
        self.calls: list[Call] = []
        self._before: dict[str, list[bytes]] = {}
        self._marks = 0

    def mark(self, what: str) -> bytes:
        """An entry that is like no other."""
        self._marks += 1
        return f"{what} {self._marks}".encode()

    async def make(self, call: Call) -> None:
        """Makes a call, remembers it, and compares."""
        self.calls.append(call)
        await self.again(call)

    async def again(self, call: Call) -> None:
        """Makes a call as it was made before, and compares."""
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
                fail_on_death=int(fails),
                queue_name=queue_name,
                unstored=0,
                hook_wait_ms="0",
                tokens_field=9,
                money_field=9,
                input_tokens=9,
                **NO_LIMITS,
                orphan_ms="",
                max_bytes=100,
                first_entry=begins,
                entries=logged(id_),
            )
            reply = await self.pipe.run(submitted)
            expected = self.model.submit(id_, owner, key, body, fails, queue_name, begins)
            assert expected == (reply[:1] if expected == [b"accepted"] else reply)
            if not before:
                self._before.pop(id_, None)

        return call

    def claim(self, claim: str, count: int, **room: int) -> Call:
        async def call() -> None:
            flat = [part for name, most in room.items() for part in (name, most, 0, 0)]
            claims = calls.claim(
                queues_key=NAMES.queues,
                claimed_key=NAMES.claimed(claim),
                prefix=NAMES.prefix,
                claim=claim,
                count=count,
                lease_ms=HOUR,
                tenant_running=MAX_RUNNING,
                max_bytes=100,
                max_job_bytes=10_000,
                model_limits=flat,
            )
            rows = await self.pipe.run(claims)
            granted = [row[0].decode() for row in rows]
            self.model.claim(claim, count, room, granted)
            self._hold(claim, granted)
            for row in rows:
                one = self.model.all[row[0].decode()]
                assert (one.attempt, one.failures, int(one.cancel)) == tuple(row[2:5])
                assert (len(one.log), one.queue_name) == (row[7], row[8].decode())

        return call

    def _hold(self, claim: str, granted: list[str]) -> None:
        self.holders += [(id_, claim) for id_ in granted if (id_, claim) not in self.holders]

    def append(self, id_: str, claim: str, expected: int, count: int) -> Call:
        frames = [self.mark(claim) for _ in range(count)]

        async def call() -> None:
            appends = calls.append(
                job_key=NAMES.job(id_),
                log_key=NAMES.log(id_),
                channel=NAMES.notifications(id_),
                claim=claim,
                expected=expected,
                max_bytes=100,
                entries=frames,
            )
            reply = await self.pipe.run(appends)
            assert self.model.append(id_, claim, expected, frames) == reply

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

    def put_back(self, script: str, id_: str, claim: str) -> Call:
        async def call() -> None:
            retries = script == "retry"
            delay = {"delay_ms": HOUR} if retries else {}
            puts_back = getattr(calls, script)(
                job_key=NAMES.job(id_),
                channel=NAMES.notifications(id_),
                prefix=NAMES.prefix,
                id=id_,
                claim=claim,
                reason="why",
                **delay,
            )
            reply = await self.pipe.run(puts_back)
            model = self.model.retry if retries else self.model.give_back
            assert model(id_, claim) == reply

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
                **keys_of(id_), channel=NAMES.notifications(id_), cancels_channel=NAMES.cancels
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
                prefix=NAMES.prefix,
                claim=claim,
                lease_ms=HOUR,
                max_attempts=MAX_ATTEMPTS,
                inspect_ms=HOUR,
                limit=100,
            )
            requeued, rows = await self.pipe.run(rescues)
            granted = [row[0].decode() for row in rows]
            assert self.model.rescue(claim) == (requeued, set(granted))
            self._hold(claim, granted)

        return call

    async def time_passes(self, id_: str) -> None:
        """Whatever this response waits for is due."""
        await run_out(self.pipe, id_)
        await fall_due(self.pipe, id_)
        await inspect_now(self.pipe, id_)
        if (one := self.model.all.get(id_)) is not None:
            one.ran_out, one.due = one.status == RUNNING, one.delayed

    async def compare(self) -> None:
        """Redis is as the model, and as the promises say."""
        rows = await self.pipe.call("EVAL", LOOK, 1, NAMES.prefix, *self.ids)
        for id_, (status, claim, attempt, failures, log, open_, leased, delayed, block) in zip(
            self.ids, rows, strict=True
        ):
            one = self.model.all.get(id_)
            assert bool(block) == (one is not None and one.compacted)
            if block:
                assert [] == log
                log = expand(block)  # noqa: PLW2901 - the same log
            if one is None:
                assert (b"", [], 0, 0, 0) == (status, log, open_, leased, delayed)
                continue
            assert (one.status, one.claim) == (status.decode(), claim.decode())
            assert (one.attempt, one.failures) == (attempt, failures)
            assert one.log == log
            assert self._before.get(id_, []) == log[: len(self._before.get(id_, []))]
            self._before[id_] = log
            ended = one.status in ENDS
            assert (not ended, one.status == RUNNING, one.delayed) == (
                bool(open_),
                bool(leased),
                bool(delayed),
            )
            ends = [index for index, entry in enumerate(log) if entry.startswith(b"end")]
            assert ends == ([len(log) - 1] if ended else [])
            writers = [entry.split()[0] for entry in log[1:] if not entry.startswith(b"end")]
            changes = [
                w for w, before in zip(writers, [b"", *writers], strict=False) if w != before
            ]
            assert len(changes) == len(set(changes)), "two writers took turns"

    async def drain(self) -> None:
        """Every response that was accepted can still be brought to an end."""
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


QUEUES = ["", "", "", "p:", "f:", "d:m", "f:m", "p:n"]
STEPS = [
    *["submit", "submit", "claim", "claim", "append", "append", "append", "finish", "retry"],
    *[
        "give_back",
        "extend",
        "cancel",
        "delete",
        "rescue",
        "compact",
        "compact",
        "time",
        "time",
        "again",
        "again",
        "again",
    ],
]


async def step(both: Both, draw: Callable[..., Any]) -> None:
    """One drawn step, by a writer that may be alive, dead or a sleepwalker."""
    what = draw(st.sampled_from(STEPS))
    if what == "again":
        if both.calls:
            await both.again(draw(st.sampled_from(both.calls)))
        return
    if what == "submit":
        key = draw(st.sampled_from(["", "", "key"]))
        owner, body = draw(st.sampled_from("ab")), draw(st.sampled_from(["one", "one", "two"]))
        queue_name, first = draw(st.sampled_from(QUEUES)), draw(st.sampled_from([b"", b"begins"]))
        await both.make(both.submit(owner, key, body, draw(st.booleans()), queue_name, first))
        return
    if what == "claim":
        room = {"m": draw(st.integers(0, 2))} if draw(st.booleans()) else {}
        await both.make(both.claim(f"c{len(both.calls)}", draw(st.integers(1, 3)), **room))
        return
    if what == "rescue":
        await both.make(both.rescue(f"r{len(both.calls)}"))
        return
    if not both.ids:
        return
    id_ = draw(st.sampled_from(both.ids))
    length = len(both.model.all[id_].log) if id_ in both.model.all else 1
    length = max(0, length + draw(st.sampled_from([0, 0, 0, 0, -1, 1])))
    if what == "time":
        await both.time_passes(id_)
    elif what == "cancel":
        await both.make(both.cancel(id_, length))
    elif what == "delete":
        await both.make(both.delete(id_))
    elif what == "extend":
        held = draw(st.lists(st.sampled_from(both.holders), max_size=3)) if both.holders else []
        await both.make(both.extend(held))
    elif both.holders:
        id_, claim = draw(st.sampled_from(both.holders))
        length = len(both.model.all[id_].log) if id_ in both.model.all else length
        length = max(0, length + draw(st.sampled_from([0, 0, 0, 0, -1])))
        if what == "append":
            await both.make(both.append(id_, claim, length, draw(st.integers(0, 3))))
        elif what == "finish":
            await both.make(both.finish(id_, claim, length, draw(st.sampled_from(ENDS))))
        elif what == "compact":
            log = both.model.all[id_].log if id_ in both.model.all else [b"gone"]
            await both.make(both.compact(id_, claim, log[:length] or [b"none"]))
        else:
            await both.make(both.put_back(what, id_, claim))


# In parts, because a test has ten seconds; some more where the machine is busy with others.
@pytest.mark.timeout(60)
@pytest.mark.parametrize("part", range(6))
@on_redis(12)
@given(data=st.data())
async def test_scripts_do_what_the_model_does_however_they_are_repeated_and_reordered(
    pipe: Pipe, part: int, data: st.DataObject
) -> None:
    await pipe.call("FLUSHALL")
    both = Both(pipe)
    for _ in range(data.draw(st.integers(1, 40), label="steps")):
        await step(both, data.draw)
    await both.drain()


# One situation for every script, in which it has something to do.

HOOKED = replace(SETTINGS, webhooks=True, hook_wait_ms=HOUR)

Do = Callable[[Pipe], Awaitable[object]]


@dataclass(frozen=True)
class Situation:
    """`before` leads to where `do` runs the script."""

    script: str
    before: Do
    do: Do


def situations() -> list[Situation]:
    job: Job = a_job()
    running: Job = a_job("other")
    several = [a_job("held"), a_job("held")]

    async def waiting(pipe: Pipe) -> None:
        queue = Queue(pipe, HOOKED)
        await queue.submit(running, opening(running))
        await queue.claim(0, "mine", 1)
        await queue.submit(job, opening(job), begins=begins(job))

    async def hooked(pipe: Pipe) -> None:
        await waiting(pipe)
        await writer(pipe).finish(Status.COMPLETED, end, retention_ms=60_000)

    async def due(pipe: Pipe) -> None:
        await hooked(pipe)
        await pipe.call("ZADD", NAMES.hooks, 1, running.id)

    async def sending(pipe: Pipe) -> None:
        await due(pipe)
        await Hooks(pipe).claim(0, "a-claim", 5, HOUR)

    async def with_time(pipe: Pipe) -> None:
        await waiting(pipe)
        await run_out(pipe, running.id)
        await inspect_now(pipe, job.id)

    async def seen(pipe: Pipe) -> None:
        await Queue(pipe, SETTINGS).submit_completed(
            new, [ending(new)], idempotency_key="key", fingerprint="body"
        )

    async def replying(pipe: Pipe) -> None:
        await waiting(pipe)
        await Queue(pipe, SETTINGS).reply("public", "body", job.id, "open")

    async def cut(pipe: Pipe) -> None:
        await replying(pipe)
        await Queue(pipe, SETTINGS).reply("public", "body", job.id, "cut")

    async def held(pipe: Pipe) -> None:
        queue = Queue(pipe, replace(SETTINGS, tenant_running=1))
        for one, claim in zip(several, ("mine", "next"), strict=True):
            await queue.submit(one, opening(one))
            await queue.claim(0, claim, 1)

    def writer(pipe: Pipe) -> LogWriter:
        return LogWriter(pipe, running.id, "mine", 2)

    head = [encode_event(event) for event in opening(running)]
    end = [end_entry(running)]
    new = a_job("new", store=False)
    return [
        Situation(
            "submit",
            waiting,
            lambda pipe: Queue(pipe, SETTINGS).submit(
                new, opening(new), begins=begins(new), idempotency_key="key", fingerprint="body"
            ),
        ),
        Situation(
            "submit_completed",
            waiting,
            lambda pipe: Queue(pipe, SETTINGS).submit_completed(
                new, [ending(new)], idempotency_key="key", fingerprint="body"
            ),
        ),
        Situation(
            "reply",
            replying,
            lambda pipe: Queue(pipe, SETTINGS).reply("public", "body", job.id, "cut"),
        ),
        Situation(
            "attach", cut, lambda pipe: Queue(pipe, SETTINGS).attach("public", "body", new.id)
        ),
        Situation("seen", seen, lambda pipe: Queue(pipe, SETTINGS).seen(new.id, 9000)),
        Situation("claim", waiting, lambda pipe: Queue(pipe, SETTINGS).claim(0, "next", 5)),
        Situation(
            "extend", waiting, lambda pipe: Queue(pipe, SETTINGS).extend(0, [(running.id, "mine")])
        ),
        Situation("append", waiting, lambda pipe: writer(pipe).append([b"a", b"b"])),
        Situation(
            "finish",
            waiting,
            lambda pipe: writer(pipe).finish(Status.COMPLETED, end, retention_ms=60_000, bury=True),
        ),
        Situation("compact", hooked, lambda pipe: writer(pipe).compact(head, end)),
        Situation(
            "retry",
            waiting,
            lambda pipe: Queue(pipe, SETTINGS).retry(running.id, "mine", 9000, "x"),
        ),
        Situation(
            "give_back",
            waiting,
            lambda pipe: Queue(pipe, SETTINGS).give_back(running.id, "mine", "x"),
        ),
        Situation(
            "cancel",
            waiting,
            lambda pipe: Queue(pipe, SETTINGS).cancel(job.id, 2, [ending(job, Status.CANCELLED)]),
        ),
        Situation("rescue", with_time, lambda pipe: Queue(pipe, SETTINGS).rescue(0, "rescuer")),
        Situation("delete", waiting, lambda pipe: Queue(pipe, SETTINGS).delete(job.id)),
        Situation("claim_webhooks", due, lambda pipe: Hooks(pipe).claim(0, "a-claim", 5, HOUR)),
        Situation(
            "settle_webhook", sending, lambda pipe: Hooks(pipe).settle(running.id, "a-claim")
        ),
        Situation("set_tenant", held, lambda pipe: Tenants(pipe, 1).set("held", {"running": "5"})),
        Situation(
            "put_record",
            waiting,
            lambda pipe: RecordStore(pipe, NAMES.api_keys).put("id", None, b"k"),
        ),
        Situation("orphans", waiting, lambda pipe: Queue(pipe, SETTINGS).orphans(0, [job.id], 9)),
        Situation("pause", waiting, lambda pipe: Queue(pipe, SETTINGS).pause("m", 60)),
        Situation("read", waiting, lambda pipe: read(pipe, job.id, 0)),
        Situation(
            "queue_positions",
            waiting,
            lambda pipe: Queue(pipe, SETTINGS).queue_positions(0, [("", "public")]),
        ),
    ]


SITUATIONS = [pytest.param(each, id=each.script) for each in situations()]


def test_every_script_has_a_situation() -> None:
    assert sorted(SCRIPTS) == sorted(each.script for each in situations())


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(redis_url) as proxy:
        yield proxy


async def after(pipe: Pipe, situation: Situation) -> tuple[object, Dump]:
    """What the script answers and leaves behind when all goes well."""
    await situation.before(pipe)
    reply = await situation.do(pipe)
    left = await dump(pipe)
    await pipe.call("FLUSHALL")
    return reply, left


@pytest.mark.parametrize("lost", [1, 3])
@pytest.mark.parametrize("situation", SITUATIONS)
async def test_a_script_whose_reply_was_lost_is_repeated_and_leaves_what_one_run_leaves(
    pipe: Pipe, proxy: Proxy, situation: Situation, lost: int
) -> None:
    _, expected = await after(pipe, situation)
    await situation.before(pipe)
    async with Pipe(Redis(proxy.url)) as through:
        await through.call("PING")
        for _ in range(lost):
            # A new connection loads the scripts first; the reply to lose is the one after that.
            proxy.drop_next_reply()
            await situation.do(through)
            assert proxy.dropped
            if situation.script in ("delete", "rescue"):
                break  # their answer is what they found, and that is gone the next time

    found = await dump(pipe)

    assert expected == found
    assert proxy.accepted > 1


# These may write while memory is full: they keep what there is, or make room.
MAY_WRITE = {"extend", "give_back", "delete", "claim_webhooks", "settle_webhook", "compact", "seen"}
READS = {"read", "queue_positions"}


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_with_memory_full_a_script_writes_nothing_unless_it_keeps_or_makes_room(
    pipe: Pipe, situation: Situation
) -> None:
    _, expected = await after(pipe, situation)
    await situation.before(pipe)
    untouched = await dump(pipe)
    await pipe.call("CONFIG", "SET", "maxmemory", "1")
    try:
        if situation.script in MAY_WRITE | READS:
            await situation.do(pipe)
            assert expected == await dump(pipe)
        else:
            with pytest.raises(RedisFull):
                await situation.do(pipe)
            assert untouched == await dump(pipe)
    finally:
        await pipe.call("CONFIG", "SET", "maxmemory", "0")

    await situation.do(pipe)  # memory is free again, and nothing has to be mended
    assert expected == await dump(pipe)


FOLDER = Path(scripts_module.__file__).parent
FILES = sorted(path for path in FOLDER.glob("*.lua") if not path.stem.startswith("_"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_script_says_what_it_takes_and_why_it_may_be_repeated(path: Path) -> None:
    first, *lines = path.read_text(encoding="utf-8").splitlines()
    header = "\n".join(line for line in lines if line.startswith("--"))

    assert re.fullmatch(r"#!lua( flags=[a-z-]+)?", first)
    for heading in ("KEYS", "ARGV", "Returns", "May be repeated:"):
        assert re.search(rf"^-- {heading} ?\S*", header, re.MULTILINE), heading


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_script_asks_any_clock_but_that_of_redis(path: Path) -> None:
    assert not re.search(r"\bos\.|math\.random", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=lambda script: script.name)
def test_in_front_of_a_script_stands_only_what_is_used(script: Script) -> None:
    source = script.source.decode()
    declared = re.findall(r"^local (?:function )?(\w+)", source, re.MULTILINE)
    named = set(declared) - set(script.keys)
    unused = [name for name in named if len(re.findall(rf"\b{name}\b", source)) == 1]
    assert [] == unused
    assert len(set(declared)) == len(declared)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("-- @include now", r"missing \['push'\], unused or unknown \[\]"),
        ("-- @include now push keep", r"missing \[\], unused or unknown \['keep'\]"),
        ("-- @include now\n-- @include push other", r"unused or unknown \['other'\]"),
    ],
)
def test_a_missing_and_an_unused_include_are_errors(header: str, message: str) -> None:
    parts = {"now", "push", "keep"}
    code = "push(log, now(), job.keep, 'keep') -- keep\n"
    assert {"now", "push"} == check_includes(f"-- @include now push\n{code}", parts)
    with pytest.raises(WrongArguments, match=message):
        check_includes(f"{header}\n{code}", parts)


def test_what_runs_once_a_token_makes_two_functions_and_no_more() -> None:
    source = SCRIPTS["append"].source.decode()
    assert ["notify", "push"] == re.findall(r"function (\w+)", source)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_script_has_its_arguments_by_the_names_of_its_header(path: Path) -> None:
    script, code = SCRIPTS[path.stem], re.sub(r"--.*", "", path.read_text(encoding="utf-8"))
    assert not re.search(r"\b(KEYS|ARGV)\b", code)
    # A key may be named for the cluster alone, which finds the slot by it.
    names = [*script.args, *filter(None, [script.rest])]
    assert [] == [name for name in names if not re.search(rf"\b{name}\b", code)]


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=lambda script: script.name)
def test_a_call_names_every_argument_of_the_header_and_no_other(script: Script) -> None:
    call, rest = getattr(calls, script.name), [script.rest] if script.rest else []
    names = [*script.keys, *script.args, *rest]
    right = {name: ["a", "b"] if name in rest else name for name in names}
    more = ["a", "b"] if rest else []
    assert (script.name, len(script.keys), *script.keys, *script.args, *more) == call(**right)
    for name in names:
        with pytest.raises(TypeError, match=rf"{script.name}\(\) missing 1 .*: '{name}'"):
            call(**{key: value for key, value in right.items() if key != name})
    with pytest.raises(TypeError, match=rf"{script.name}\(\) got an unexpected .* 'other'"):
        call(**right, other="")
    with pytest.raises(TypeError, match="positional"):
        call(*right.values())
