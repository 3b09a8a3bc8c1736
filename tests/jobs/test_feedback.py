"""Tests how the feedback on a response is stored, and its webhook queued, on a real Redis."""

from __future__ import annotations

import os
from base64 import b64encode

import pytest

from jobs.cipher import Cipher
from jobs.deliveries import Deliveries, Delivery, Kind
from jobs.errors import EncryptionKeyMissing, UnknownResponse
from jobs.feedback import Feedback, feedback_of
from jobs.feedback_store import FeedbackStore
from jobs.ids import new_response_id
from jobs.queue import Queue
from jobs.record import Job
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from tests.jobs.dump import dump
from tests.jobs.factories import NAMES, SETTINGS, a_job, ending, opening

UP, DOWN = Feedback("up", "Thanks."), Feedback("down", "Too short.")
HOUR = 3_600_000


@pytest.fixture
def store(pipe: Pipe) -> FeedbackStore:
    return FeedbackStore(pipe, webhooks=True)


@pytest.fixture
def webhooks(pipe: Pipe) -> Deliveries:
    return Deliveries(pipe, Kind.FEEDBACK)


async def answered(pipe: Pipe, owner: str = "acme/anna") -> Job:
    job = a_job(owner)
    await Queue(pipe, SETTINGS).submit_completed(job, [ending(job)])
    return job


async def claimed(webhooks: Deliveries, claim: str) -> list[Delivery]:
    return await webhooks.claim(0, claim, 5, HOUR)


async def test_the_last_feedback_counts_and_one_webhook_reports_it(
    pipe: Pipe, store: FeedbackStore, webhooks: Deliveries
) -> None:
    job = await answered(pipe)
    assert Feedback() == await store.get(job.id)
    for given in (UP, DOWN, DOWN):
        await store.put(job.id, given)
    assert DOWN == await store.get(job.id)
    [delivery] = await claimed(webhooks, "a")
    assert (job.id, "acme/anna", 2) == (delivery.id, delivery.owner, delivery.changes)
    assert DOWN == feedback_of(job.id, delivery.message, None)
    assert await webhooks.settle(delivery, "a")
    await store.put(job.id, DOWN)
    assert [] == await claimed(webhooks, "b")
    assert not await pipe.call("EXISTS", NAMES.feedback(job.id))


async def test_a_change_during_an_attempt_is_reported_after_it(
    pipe: Pipe, store: FeedbackStore, webhooks: Deliveries
) -> None:
    job = await answered(pipe)
    await store.put(job.id, UP)
    [first] = await claimed(webhooks, "a")
    await store.put(job.id, DOWN)
    assert [] == await claimed(webhooks, "b")  # two workers never report on the same response
    assert await webhooks.settle(first, "a")
    assert not await webhooks.settle(first, "a")
    [second] = await claimed(webhooks, "c")
    assert (1, 1, 2) == (second.tries, first.changes, second.changes)
    assert DOWN == feedback_of(job.id, second.message, None)
    assert await webhooks.settle(second, "c")
    assert [] == await claimed(webhooks, "d")
    assert b"2" == await pipe.call("HGET", NAMES.numbers, "~sent")


async def test_a_change_between_two_attempts_keeps_the_time_of_the_next_attempt(
    pipe: Pipe, store: FeedbackStore, webhooks: Deliveries
) -> None:
    job = await answered(pipe)
    await store.put(job.id, UP)
    [first] = await claimed(webhooks, "a")
    await webhooks.settle(first, "a", again_ms=HOUR)
    await store.put(job.id, DOWN)
    assert [] == await claimed(webhooks, "b")
    await pipe.call("ZADD", NAMES.feedbacks, 1, job.id)
    [second] = await claimed(webhooks, "c")
    assert (2, DOWN) == (second.tries, feedback_of(job.id, second.message, None))
    await webhooks.settle(second, "c")
    assert [] == await claimed(webhooks, "d")


async def test_a_webhook_outlives_its_response_and_is_deleted_with_it(
    pipe: Pipe, store: FeedbackStore, webhooks: Deliveries
) -> None:
    job, deleted = await answered(pipe), await answered(pipe)
    for one in (job, deleted):
        await store.put(one.id, UP)
        assert 0 < await pipe.call("PTTL", NAMES.feedback(one.id))
        assert 0 < await pipe.call("PTTL", NAMES.job(one.id)) <= SETTINGS.retention_ms
    await pipe.call("DEL", NAMES.job(job.id), NAMES.log(job.id))  # the response expires
    await Queue(pipe, SETTINGS).delete(deleted.id)
    assert [job.id] == [one.id for one in await claimed(webhooks, "a")]
    for one in (job, deleted):
        with pytest.raises(UnknownResponse):
            await store.put(one.id, DOWN)
    assert not await pipe.call("EXISTS", NAMES.feedback(deleted.id))


async def test_a_server_without_webhooks_queues_none_and_a_full_queue_loses_no_feedback(
    pipe: Pipe, store: FeedbackStore
) -> None:
    job = await answered(pipe)
    await FeedbackStore(pipe, webhooks=False).put(job.id, UP)
    assert not await pipe.call("EXISTS", NAMES.feedbacks)
    await pipe.call("ZADD", NAMES.feedbacks, *(x for n in range(100_000) for x in (n, f"id{n}")))
    await pipe.call("PEXPIRE", NAMES.feedbacks, HOUR)
    await store.put(job.id, DOWN)
    assert DOWN == await store.get(job.id)
    assert b"1" == await pipe.call("HGET", NAMES.numbers, "~dropped")


async def test_unfinished_responses_take_feedback_and_unknown_ones_do_not(
    pipe: Pipe, store: FeedbackStore
) -> None:
    job = a_job()
    await Queue(pipe, SETTINGS).submit(job, opening(job))
    await store.put(job.id, UP)
    assert UP == await store.get(job.id)
    for unknown in (new_response_id(0), "resp_x"):
        with pytest.raises(UnknownResponse):
            await store.put(unknown, UP)


async def test_feedback_is_encrypted_in_the_response_and_in_the_webhook(redis_url: str) -> None:
    cipher, other = (Cipher(b64encode(os.urandom(32)).decode()) for _ in range(2))
    async with Pipe(Redis(redis_url, cipher)) as pipe:
        job = await answered(pipe)
        store = FeedbackStore(pipe, webhooks=True)
        await store.put(job.id, Feedback("up", "canary"))
        assert Feedback("up", "canary") == await store.get(job.id)
        assert "canary" not in repr(await dump(pipe))
        [delivery] = await claimed(Deliveries(pipe, Kind.FEEDBACK), "a")
        assert "canary" == feedback_of(job.id, delivery.message, cipher).comment
        with pytest.raises(EncryptionKeyMissing):
            feedback_of(job.id, delivery.message, other)
        with pytest.raises(EncryptionKeyMissing):
            feedback_of(job.id, delivery.message, None)
