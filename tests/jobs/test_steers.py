"""Tests the steers of a response with any order of steers, ends and deaths, on a real Redis."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import Fenced, Limited, SteersTaken, UnknownResponse
from jobs.ids import new_response_id
from jobs.log.codec import job_of
from jobs.log.events import begins
from jobs.log.log import ANY_STEERS, LogWriter, Steered
from jobs.queue import Queue
from jobs.record import Job, Status
from jobs.redis.pipe import Pipe
from jobs.replies import Grant
from jobs.steers import (
    MAX_STEERS,
    PENDING,
    Steer,
    SteeringEnded,
    SteerKeyReused,
    TooManySteers,
    input_of,
)
from tests.jobs.factories import (
    NAMES,
    SETTINGS,
    a_job,
    end_entry,
    ending,
    on_redis,
    opening,
    run_out,
    status_of,
)

STEP = st.one_of(
    st.tuples(st.just("steer"), st.sampled_from("abcdef")),
    st.tuples(
        st.sampled_from(["claim", "read", "commit", "wait", "fail", "die", "cancel", "give back"]),
        st.just(""),
    ),
)


def message(text: str) -> dict[str, object]:
    part = {"type": "input_text", "text": text}
    return {"type": "message", "role": "user", "content": [part], "id": "", "status": "completed"}


def a_steer(text: str) -> Steer:
    return Steer(text, [message(text)], 9000)


async def add(pipe: Pipe, job: Job, text: str, key: str | None = None) -> tuple[int, bool]:
    log = Queue(pipe, SETTINGS).steers
    return await log.add(job.id, a_steer(text), key=key or text, fingerprint=text, max_bytes=1_000)


@dataclass
class History:
    """A response, its workers and its steers, as a client and the workers know them."""

    pipe: Pipe
    job: Job
    accepted: list[str] = field(default_factory=list)
    grant: Grant | None = None
    read: int = 0

    @property
    def queue(self) -> Queue:
        return Queue(self.pipe, SETTINGS)

    async def steer(self, text: str) -> None:
        try:
            number, fresh = await add(self.pipe, self.job, text)
        except SteeringEnded:
            # A steer that was stored before the end is still found by its key.
            assert text not in self.accepted
            return
        assert fresh == (text not in self.accepted)
        if fresh:
            self.accepted.append(text)
        assert self.accepted[number] == text

    async def claim(self) -> None:
        for grant in await self.queue.leases.claim(0, new_response_id(0), 1):
            if grant.response_id != self.job.id:
                # The successor stays in the queue.
                await self.queue.leases.give_back(grant.response_id, grant.claim, "draining")
                return
            assert grant.steers == len(self.accepted)
            self.grant, self.read = grant, grant.steers

    async def end(self, how: str) -> None:
        if self.grant is None:
            return
        steers = (await self.queue.steers.read(self.job.id)).steers[: self.read]
        id_ = new_response_id(0)
        items = input_of(steers, id_)
        successor = Job(id_, self.job.owner, 0, {"model": "m", "input": items})
        made = self.queue.successor(successor, None)
        failed = how == "fail"
        status = Status.FAILED if failed else Status.COMPLETED
        writer = LogWriter(self.pipe, self.job.id, self.grant.claim, self.grant.length)
        for _ in range(2):  # the reply of the first call was lost
            try:
                await writer.finish(
                    status,
                    [end_entry(self.job)],
                    retention_ms=60_000,
                    steers=ANY_STEERS if failed else self.read,
                    successor={"commit": made if steers else "", "wait": PENDING, "fail": ""}[how],
                )
            except Steered:
                assert self.read < len(self.accepted)
                self.read = len(self.accepted)
                return
            except Fenced:
                self.grant = None
                return
            writer.length = self.grant.length
        self.grant = None

    async def step(self, name: str, text: str) -> None:
        match name:
            case "steer":
                await self.steer(text)
            case "claim":
                await self.claim()
            case "read":
                self.read = len((await self.queue.steers.read(self.job.id)).steers)
            case "commit" | "wait" | "fail":
                await self.end(name)
            case "die":
                await run_out(self.pipe, self.job.id)
                await self.queue.leases.rescue(0, new_response_id(0))
                self.grant = None
            case "give back" if self.grant is not None:
                await self.queue.leases.give_back(self.job.id, self.grant.claim, "draining")
                self.grant = None
            case "give back":
                pass  # no worker runs the response
            case _:
                length = await self.pipe.call("LLEN", NAMES.log(self.job.id))
                await self.queue.cancel(self.job.id, length, [ending(self.job, Status.CANCELLED)])


@on_redis(150)
@given(steps=st.lists(STEP, max_size=14))
async def test_each_steer_is_committed_once_or_given_back(
    pipe: Pipe, steps: list[tuple[str, str]]
) -> None:
    await pipe.call("FLUSHALL")
    job = a_job()
    history = History(pipe, job)
    await history.queue.submit(job, opening(job), begins=begins(job))
    for name, text in steps:
        await history.step(name, text)
    found = await history.queue.steers.read(job.id)
    assert history.accepted == [steer.given for steer in found.steers]
    others = [
        key.decode().rpartition(":")[2]
        for key in await pipe.call("KEYS", NAMES.job("*"))
        if not key.decode().endswith(job.id)
    ]
    if found.status is Status.COMPLETED and history.accepted:
        # Only a failed or cancelled response gives its steers back.
        assert "" != found.successor
    if found.successor in ("", PENDING):
        assert [] == others  # given back or pending: no response contains the steers
        return
    assert found.status.ended
    assert [found.successor] == others
    record = await pipe.call("HGET", NAMES.job(found.successor), "job")
    successor = job_of(found.successor, record, None)
    texts = [item["content"][0]["text"] for item in successor.params["input"]]
    assert history.accepted == texts
    assert "queued" == await status_of(pipe, found.successor)


async def test_a_resent_steer_is_found_also_after_the_end(pipe: Pipe) -> None:
    job = a_job()
    history = History(pipe, job)
    await history.queue.submit(job, opening(job), begins=begins(job))
    for step in (("steer", "a"), ("steer", "b"), ("claim", ""), ("commit", "")):
        await history.step(*step)
    assert (0, False) == await add(pipe, job, "a")
    with pytest.raises(SteerKeyReused):
        await add(pipe, job, "b", "a")
    with pytest.raises(SteeringEnded):
        await add(pipe, job, "c")
    assert 0 < await pipe.call("PTTL", NAMES.steers(job.id)) <= 60_000
    await history.queue.delete(job.id)
    assert 0 == await pipe.call("EXISTS", NAMES.steers(job.id))
    with pytest.raises(UnknownResponse):
        await add(pipe, job, "a")


async def test_the_steers_of_a_response_are_bounded(pipe: Pipe) -> None:
    job = a_job()
    await Queue(pipe, SETTINGS).submit(job, opening(job))
    with pytest.raises(TooManySteers):
        await add(pipe, job, "x" * 1000)
    log = Queue(pipe, SETTINGS).steers
    for number in range(MAX_STEERS):
        await log.add(job.id, Steer("", [], 0), key=str(number), fingerprint="f", max_bytes=10_000)
    with pytest.raises(TooManySteers):
        await add(pipe, job, "y")


async def test_the_first_steer_of_a_response_counts_as_one_request(pipe: Pipe) -> None:
    job = a_job("acme/")
    queue = Queue(pipe, SETTINGS)
    await queue.submit(job, opening(job))
    await pipe.call("HSET", NAMES.tenant("acme"), "requests_per_minute", 1)
    assert (0, True) == await add(pipe, job, "a")
    assert (1, True) == await add(pipe, job, "b")
    other = a_job("acme/")
    with pytest.raises(Limited):
        await queue.submit(other, opening(other))


async def test_one_request_takes_the_pending_steers(pipe: Pipe) -> None:
    job, first, second = a_job(), a_job(), a_job()
    history = History(pipe, job)
    queue = history.queue
    await queue.submit(job, opening(job), begins=begins(job))
    for step in (("steer", "a"), ("claim", ""), ("wait", "")):
        await history.step(*step)
    assert PENDING == (await queue.steers.read(job.id)).successor
    for _ in range(2):  # the reply of the first call was lost
        await queue.submit(first, opening(first), steered=job.id)
    with pytest.raises(SteersTaken):
        await queue.submit(second, opening(second), steered=job.id)
    assert first.id == (await queue.steers.read(job.id)).successor
    assert await status_of(pipe, second.id) is None


async def test_only_the_owner_reads_the_steers(pipe: Pipe) -> None:
    job = a_job("acme/anna")
    queue = Queue(pipe, SETTINGS)
    await queue.submit(job, opening(job))
    await add(pipe, job, "a")
    assert 1 == len((await queue.steers.read(job.id, "acme/anna")).steers)
    with pytest.raises(UnknownResponse):
        await queue.steers.read(job.id, "acme/bob")
