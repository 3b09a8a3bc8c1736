"""Tests a submission's listener with notifications in every possible order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from jobs.log.codec import encode_event
from jobs.log.events import submitted
from jobs.queue import Queue
from jobs.record import Job, Status
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from server.api.frames import Frame, frame
from server.live import submission as submission_module
from server.live.feed import Feed
from server.live.relay import Relay
from server.live.submission import EVENT_BYTES, MAX_BYTES, SubmissionListener
from server.metrics import Metrics
from tests.jobs.factories import NAMES, SETTINGS, a_job, text_delta
from tests.server.factories import DELTAS, RESPONSE, RecordingSink
from tests.subscriptions import channels_of
from tests.system import wait_until


def nothing_subscribed(response_id: str) -> Feed:
    raise AssertionError(response_id)


def frames(first: int, count: int) -> list[Frame]:
    return [frame(first + index, DELTAS[first + index]) for index in range(count)]


@pytest.fixture
async def relay(redis: Redis, pipe: Pipe) -> AsyncIterator[Relay]:
    async with Relay(redis, pipe, Queue(pipe, SETTINGS), Metrics(), doubt_seconds=60) as relay:
        # The first check for losses makes every feed read its log.
        await wait_until(lambda: relay.healthy and relay._epochs)
        yield relay


async def submit(relay: Relay, pipe: Pipe, listener: SubmissionListener) -> Job:
    """Submits a job after its subscription is confirmed, and waits for the first notification."""
    job = a_job("acme/ann")
    listener.listen(job.id, job.owner, "")
    await wait_until(lambda: relay._feeds[job.id].confirmed)
    accepted = await Queue(pipe, SETTINGS).submit(job, submitted(job))
    listener.accepted(accepted.number)
    await wait_until(lambda: listener._frames)
    return job


@pytest.mark.parametrize(("viewer", "may"), [("acme/ann", True), ("acme/*", True), ("b/*", False)])
async def test_notified_entries_are_hidden_from_viewers_without_access(
    relay: Relay, pipe: Pipe, viewer: str, may: bool
) -> None:
    sink = RecordingSink()
    with relay.listen() as listener:
        job = await submit(relay, pipe, listener)
        follower = relay.follow(job.id, viewer, -1, sink)
    await wait_until(lambda: sink.frames or sink.ended_times)
    assert ([0, 1] if may else []) == sink.numbers
    assert may or (sink.problem is not None and 404 == sink.problem.status)
    follower.leave()
    assert {} == relay._feeds


@pytest.mark.parametrize("said", [[2, 1], ["queued", 7, 0, "worker_lost"], ["gone"], ["what?"]])
async def test_after_a_notification_without_entries_the_log_is_read(
    relay: Relay, pipe: Pipe, said: list[Any]
) -> None:
    with relay.listen() as listener:
        job = await submit(relay, pipe, listener)
        await pipe.call("SPUBLISH", NAMES.notifications(job.id), msgpack.packb(said))
        await wait_until(lambda: listener._doubted)
        assert await listener.look() is None


async def test_a_follower_that_leaves_at_once_leaves_no_subscription(
    relay: Relay, pipe: Pipe
) -> None:
    with relay.listen() as listener:
        job = await submit(relay, pipe, listener)
        relay.follow(job.id, job.owner, -1, RecordingSink()).leave()
        assert job.id in relay.followed
    assert ({}, set()) == (relay._feeds, channels_of(relay.subscriber))


async def test_notified_entries_replace_one_read(relay: Relay, pipe: Pipe) -> None:
    sinks = [RecordingSink() for _ in range(3)]
    with relay.listen() as listener:
        job = await submit(relay, pipe, listener)
        followers = [relay.follow(job.id, job.owner, -1, sink) for sink in sinks]
    await wait_until(lambda: all(len(sink.frames) == 2 for sink in sinks))
    assert all([0, 1] == sink.numbers for sink in sinks)
    reads = relay._metrics.registry.get("holdline_log_reads_total")
    assert 1 == reads  # the second and the third follower share one read
    for follower in followers:
        follower.leave()
    assert ({}, set()) == (relay._feeds, channels_of(relay.subscriber))


RINGS = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 8), st.integers(0, 3)), st.sampled_from(["gap", "something else"])
    ),
    max_size=8,
)


@examples(max_examples=300)
@given(RINGS)
async def test_notified_entries_are_used_only_if_they_start_the_log(
    notifications: list[tuple[int, int] | str],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submission_module, "NOTIFICATION_TURNS", 0)
        listener = SubmissionListener(nothing_subscribed)
        for notification in notifications:
            match notification:
                case (int(first), int(count)):
                    listener.notify(first, frames(first, count))
                case "gap":
                    listener.gap()
                case _:
                    listener.doubt()
        look = await listener.look()
        assert await listener.look() is None
    if look is not None:
        view, found = look
        assert list(range(view.length)) == [each.sequence_number for each in found]
        assert DELTAS[: view.length] == view.entries
        began = notifications.index(
            next(
                notification
                for notification in notifications
                if isinstance(notification, tuple) and notification[1]
            )
        )
        assert "something else" not in notifications
        assert "gap" not in notifications[began:]
        begun = any(
            notification[0] for notification in notifications if isinstance(notification, tuple)
        )
        assert (Status.RUNNING if begun else Status.QUEUED) == view.status


async def test_a_first_notification_that_follows_the_reply_is_awaited() -> None:
    listener = SubmissionListener(nothing_subscribed)
    looks = [asyncio.create_task(listener.look()) for _ in range(2)]
    await asyncio.sleep(0)
    listener.notify(0, frames(0, 2))
    found, other = await asyncio.gather(*looks)
    assert found is not None
    assert (2, Status.QUEUED) == (found[0].length, found[0].status)
    assert other is None


async def test_the_kept_entries_are_bounded() -> None:
    listener = SubmissionListener(nothing_subscribed)
    entry = encode_event(text_delta("msg_1", 0, "x" * 1000))
    for number in range(MAX_BYTES // (len(entry) + EVENT_BYTES) + 1):
        assert not listener._doubted
        listener.notify(number, [frame(number, entry)])
    assert listener._doubted
    assert [] == listener._frames
    assert await listener.look() is None


async def test_a_feed_without_followers_is_released(relay: Relay) -> None:
    feed = relay.feed(RESPONSE)
    assert relay.feed(RESPONSE) is feed
    relay.release(feed)
    assert ({}, set()) == (relay._feeds, channels_of(relay.subscriber))
