"""Tests that a log has one writer, no gaps, no repeats and one terminal event.

Notifications must carry the new entries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from jobs.errors import Diverged, Fenced, Gone, UnknownResponse
from jobs.ids import new_response_id
from jobs.log.codec import Grown, Waits, decode_notification, encode_event
from jobs.log.events import begins
from jobs.log.log import MAX_NOTIFICATION_BYTES, LogWriter, read, read_all
from jobs.notifications import subscriber
from jobs.queue import Queue
from jobs.record import Job, Status
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from jobs.redis.subscriber import Subscriber
from tests.jobs.factories import (
    NAMES,
    SETTINGS,
    a_job,
    claimed,
    end_entry,
    new_claim,
    opening,
    run_out,
    submitted,
)
from tests.system import wait_until

RETENTION = 60_000


@pytest.fixture
def queue(pipe: Pipe) -> Queue:
    return Queue(pipe, SETTINGS)


async def entries_of(pipe: Pipe, job: Job) -> list[bytes]:
    """Returns the log entries that follow the two events of the submission."""
    return (await read_all(pipe, job.id)).entries[2:]


async def ttl(pipe: Pipe, key: str) -> int:
    left: int = await pipe.call("PTTL", key)
    return left


def repeated(pipe: Pipe, monkeypatch: pytest.MonkeyPatch, times: int = 3) -> None:
    """Runs each script several times and returns the last reply to its caller."""
    run: Callable[..., Any] = pipe.run

    async def run_again(*args: Any) -> Any:
        for _ in range(times - 1):
            await run(*args)
        return await run(*args)

    monkeypatch.setattr(pipe, "run", run_again)


async def test_entries_are_appended_in_order(pipe: Pipe, queue: Queue) -> None:
    job, grant = await claimed(queue)
    writer = LogWriter(pipe, job.id, grant.claim, grant.length)

    assert not await writer.append([b"a", b"b"])
    assert not await writer.append([b"c"])

    assert [b"a", b"b", b"c"] == await entries_of(pipe, job)
    assert 5 == writer.length


async def test_a_repeated_append_writes_its_entries_once(
    pipe: Pipe, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, grant = await claimed(queue)
    repeated(pipe, monkeypatch)
    writer = LogWriter(pipe, job.id, grant.claim, grant.length)

    for number in range(10):
        await writer.append([b"%d" % number])

    assert [b"%d" % number for number in range(10)] == await entries_of(pipe, job)


async def test_repeated_appends_of_equal_entries_write_each_once(
    pipe: Pipe, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, grant = await claimed(queue)
    repeated(pipe, monkeypatch)
    writer = LogWriter(pipe, job.id, grant.claim, grant.length)

    for _ in range(5):
        await writer.append([b"ha", b"ha"])

    assert [b"ha"] * 10 == await entries_of(pipe, job)


async def test_a_repeated_finish_writes_one_terminal_event(
    pipe: Pipe, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, grant = await claimed(queue)
    repeated(pipe, monkeypatch)
    writer = LogWriter(pipe, job.id, grant.claim, grant.length)

    await writer.finish(Status.FAILED, [b"end"], retention_ms=RETENTION, bury=True)

    assert [b"end"] == await entries_of(pipe, job)
    assert [job.id.encode()] == await pipe.call("LRANGE", NAMES.dead, 0, -1)


async def test_a_repeated_finish_without_entries_adds_one_dead_list_entry(
    pipe: Pipe, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, grant = await claimed(queue)
    repeated(pipe, monkeypatch)
    writer = LogWriter(pipe, job.id, grant.claim, grant.length)

    await writer.finish(Status.FAILED, [], retention_ms=RETENTION, bury=True)

    assert [job.id.encode()] == await pipe.call("LRANGE", NAMES.dead, 0, -1)


async def test_other_entries_at_the_same_place_are_a_conflict(pipe: Pipe, queue: Queue) -> None:
    job, grant = await claimed(queue)
    await LogWriter(pipe, job.id, grant.claim, grant.length).append([b"a"])

    with pytest.raises(Diverged) as refused:
        await LogWriter(pipe, job.id, grant.claim, grant.length).append([b"b"])

    assert (2, 3) == (refused.value.expected, refused.value.found)
    assert [b"a"] == await entries_of(pipe, job)


async def test_a_writer_notices_that_its_log_lost_entries(pipe: Pipe, queue: Queue) -> None:
    job, grant = await claimed(queue)
    writer = LogWriter(pipe, job.id, grant.claim, grant.length)
    await writer.append([b"a", b"b"])
    await pipe.call("LTRIM", NAMES.log(job.id), 0, 2)

    with pytest.raises(Diverged) as refused:
        await writer.append([b"c"])

    assert 3 == refused.value.found


async def test_a_log_that_redis_lost_is_rewritten_with_a_ttl(pipe: Pipe, queue: Queue) -> None:
    job, grant = await claimed(queue)
    await pipe.call("DEL", NAMES.log(job.id))
    with pytest.raises(Diverged):
        await LogWriter(pipe, job.id, grant.claim, grant.length).append([b"a"])

    await LogWriter(pipe, job.id, grant.claim, 0).append([b"a"])

    assert 0 < await ttl(pipe, NAMES.log(job.id)) <= SETTINGS.job_ttl_ms


@pytest.mark.parametrize("ending", [False, True])
async def test_a_writer_that_lost_its_lease_writes_nothing(
    pipe: Pipe, queue: Queue, ending: bool
) -> None:
    job, grant = await claimed(queue)
    writer = LogWriter(pipe, job.id, grant.claim, grant.length)
    await run_out(pipe, job.id)
    await queue.leases.rescue(0, new_claim())
    # In the first round the job waits, and in the second round another worker holds it.
    for _ in range(2):
        with pytest.raises(Fenced):
            if ending:
                await writer.finish(Status.COMPLETED, [b"end"], retention_ms=RETENTION)
            else:
                await writer.append([b"late"])
        await queue.leases.claim(0, new_claim(), 1)

    assert [] == await entries_of(pipe, job)


async def test_nothing_is_appended_to_a_finished_log(pipe: Pipe, queue: Queue) -> None:
    job, grant = await claimed(queue)
    writer = LogWriter(pipe, job.id, grant.claim, grant.length)
    await writer.finish(Status.COMPLETED, [b"end"], retention_ms=RETENTION)

    with pytest.raises(Fenced):
        await writer.append([b"more"])
    for status in (Status.COMPLETED, Status.FAILED):
        with pytest.raises(Fenced):
            await writer.finish(status, [b"another end"], retention_ms=RETENTION)

    assert [b"end"] == await entries_of(pipe, job)


async def test_an_append_to_a_deleted_response_reports_that_it_is_gone(
    pipe: Pipe, queue: Queue
) -> None:
    job, grant = await claimed(queue)
    writer = LogWriter(pipe, job.id, grant.claim, grant.length)
    await queue.delete(job.id)

    with pytest.raises(Gone):
        await writer.append([b"a"])
    with pytest.raises(Gone):
        await writer.finish(Status.COMPLETED, [b"end"], retention_ms=RETENTION)
    with pytest.raises(UnknownResponse):
        await read(pipe, job.id, 0)
    assert 0 == await pipe.call("EXISTS", NAMES.log(job.id), NAMES.job(job.id))


async def test_an_append_reports_a_requested_cancel(pipe: Pipe, queue: Queue) -> None:
    job, grant = await claimed(queue)
    writer = LogWriter(pipe, job.id, grant.claim, grant.length)
    await queue.cancel(job.id, 2, [])

    assert await writer.append([b"a"])
    assert await writer.append([])


async def test_an_unfinished_job_and_its_log_outlive_the_longest_possible_run(
    pipe: Pipe, queue: Queue
) -> None:
    job, grant = await claimed(queue)
    await LogWriter(pipe, job.id, grant.claim, grant.length).append([b"a"])

    for key in (NAMES.job(job.id), NAMES.log(job.id)):
        assert SETTINGS.job_ttl_ms - 10_000 < await ttl(pipe, key) <= SETTINGS.job_ttl_ms


async def test_a_finished_job_and_its_log_are_kept_for_the_retention_time(
    pipe: Pipe, queue: Queue
) -> None:
    job, grant = await claimed(queue)
    writer = LogWriter(pipe, job.id, grant.claim, grant.length)
    await writer.finish(Status.COMPLETED, [b"end"], retention_ms=RETENTION)

    for key in (NAMES.job(job.id), NAMES.log(job.id)):
        assert RETENTION - 10_000 < await ttl(pipe, key) <= RETENTION


async def test_ten_thousand_entries_are_appended_in_one_call_and_read_in_several(
    pipe: Pipe, queue: Queue
) -> None:
    job, grant = await claimed(queue)
    entries = [b"%d" % number for number in range(10_000)]
    await LogWriter(pipe, job.id, grant.claim, grant.length).append(entries)

    assert 2_000 == len((await read(pipe, job.id, 2)).entries)
    assert entries == await entries_of(pipe, job)


async def test_a_read_is_bounded_in_bytes_and_returns_at_least_one_entry(
    pipe: Pipe, queue: Queue
) -> None:
    job, grant = await claimed(queue)
    await LogWriter(pipe, job.id, grant.claim, grant.length).append([b"x" * 1000] * 5)

    assert [b"x" * 1000] * 2 == (await read(pipe, job.id, 2, max_bytes=2500)).entries
    assert [b"x" * 1000] == (await read(pipe, job.id, 2, max_bytes=1)).entries
    assert 7 == (await read(pipe, job.id, 2, max_bytes=1)).length
    assert [] == (await read(pipe, job.id, 2, max_entries=0)).entries
    assert [] == (await read(pipe, job.id, 99)).entries


async def test_a_response_that_was_never_submitted_is_unknown(pipe: Pipe) -> None:
    with pytest.raises(UnknownResponse):
        await read(pipe, new_response_id(0), 0)
    with pytest.raises(UnknownResponse):
        await read(pipe, "resp_{0}:x", 0)


class Notifications:
    """Records the notifications of one response."""

    def __init__(self) -> None:
        self.received: list[object] = []
        self.subscribed = asyncio.Event()

    def notify(self, payload: bytes) -> None:
        self.received.append(decode_notification(payload))


async def subscribed_to(
    redis: Redis, pipe: Pipe, job: Job, notifications: Notifications
) -> Subscriber:
    listening = subscriber(redis, pipe, range(1))
    listening.subscribe(
        NAMES.notifications(job.id), notifications.notify, notifications.subscribed.set
    )
    return listening


async def test_a_notification_carries_the_appended_entries_once(
    pipe: Pipe, redis: Redis, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, grant = await claimed(queue)
    notifications = Notifications()
    async with await subscribed_to(redis, pipe, job, notifications):
        await notifications.subscribed.wait()
        repeated(pipe, monkeypatch)
        writer = LogWriter(pipe, job.id, grant.claim, grant.length)
        await writer.append([b"a", b"b"])
        await writer.finish(Status.COMPLETED, [end_entry(job)], retention_ms=RETENTION)
        await wait_until(lambda: len(notifications.received) >= 2)

    assert [(2, [b"a", b"b"]), (4, [end_entry(job)])] == notifications.received


async def test_the_first_claim_notifies_followers_of_the_attempt(
    pipe: Pipe, redis: Redis, queue: Queue
) -> None:
    job, notifications = a_job(), Notifications()
    first = encode_event(begins(job))
    async with await subscribed_to(redis, pipe, job, notifications):
        await notifications.subscribed.wait()
        await queue.submit(job, opening(job), begins=begins(job))
        for _ in range(2):
            [grant] = await queue.leases.claim(0, "one", 1)
            assert (1, 3) == (grant.attempt, grant.length)
        await queue.leases.give_back(job.id, "one", "draining")
        [again] = await queue.leases.claim(0, "two", 1)
        assert (2, 3) == (again.attempt, again.length)
        await wait_until(lambda: len(notifications.received) >= 3)

    said = list(map(encode_event, opening(job)))
    assert [(0, said), (2, [first])] == notifications.received[:2]
    assert [*said, first] == (await read(pipe, job.id, 0)).entries


async def test_the_first_claim_sends_no_notification_if_the_log_has_changed_since_the_submit(
    pipe: Pipe, queue: Queue
) -> None:
    lost, large = a_job(), a_job(instructions="x" * MAX_NOTIFICATION_BYTES)
    for job in (lost, large):
        await queue.submit(job, opening(job), begins=begins(job))
    await pipe.call("RPOP", NAMES.log(lost.id))
    grants = {grant.response_id: grant.length for grant in await queue.leases.claim(0, "one", 2)}
    assert {lost.id: 1, large.id: 2} == grants


async def test_a_notification_of_large_entries_carries_only_their_number(
    pipe: Pipe, redis: Redis, queue: Queue
) -> None:
    job, grant = await claimed(queue)
    notifications = Notifications()
    async with await subscribed_to(redis, pipe, job, notifications):
        await notifications.subscribed.wait()
        writer = LogWriter(pipe, job.id, grant.claim, grant.length)
        await writer.append([b"x" * MAX_NOTIFICATION_BYTES])
        await writer.append([b"x" * MAX_NOTIFICATION_BYTES, b"y"])
        await writer.append([b"y" * (MAX_NOTIFICATION_BYTES // 2)] * 3)
        await wait_until(lambda: len(notifications.received) >= 3)

    assert [(2, [b"x" * MAX_NOTIFICATION_BYTES]), Grown(5), Grown(8)] == notifications.received


async def test_a_notification_carries_the_reason_for_a_wait(
    pipe: Pipe, redis: Redis, queue: Queue
) -> None:
    job, grant = await claimed(queue)
    other = await submitted(queue)
    notifications = Notifications()
    async with await subscribed_to(redis, pipe, job, notifications):
        await notifications.subscribed.wait()
        await queue.leases.give_back(job.id, grant.claim, "worker_stopping")
        [grant] = await queue.leases.claim(0, new_claim(), 1)
        await queue.leases.retry(job.id, grant.claim, 1500, "provider_busy")
        await wait_until(lambda: len(notifications.received) >= 2)

    assert [
        Waits(1, 0, "worker_stopping"),
        Waits(0, 1500, "provider_busy"),
    ] == notifications.received
    assert other.id != job.id
