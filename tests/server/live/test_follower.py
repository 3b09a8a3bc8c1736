"""One cursor on one log: whatever happens around it, a client has a prefix and then the whole."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import UnknownResponse
from jobs.log.codec import encode_event
from jobs.log.log import LogWriter
from jobs.log.view import View
from jobs.names import new_response_id
from jobs.queue import Queue
from jobs.record import Job, Status
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from server.live import follower as follower_module
from server.live.relay import Relay
from server.metrics import Metrics
from tests.jobs.factories import SETTINGS, claimed, end_entry, submitted, text_delta
from tests.server.factories import Away, RecordingSink, ScriptedFeed
from tests.system import wait_until

DELTAS = [encode_event(text_delta("msg_1", 0, str(number))) for number in range(100)]
END = b"\x92\xb2response.completed\x81\xa8response\x80"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower_module, "RETRY_SECONDS", (0.001, 0.002))
    monkeypatch.setattr(follower_module, "REWRITE_SECONDS", 0.1)


# On a log in memory.


async def test_a_follower_reads_and_then_receives_notifications() -> None:
    feed, sink = ScriptedFeed(DELTAS[:3]), RecordingSink()
    feed.follow(sink).catch_up()
    await feed.settle()
    feed.append(*DELTAS[3:5])
    feed.append(END)

    assert [0, 1, 2, 3, 4, 5] == sink.numbers
    assert (1, None) == (sink.ended_times, sink.problem)
    assert 1 == feed.reads
    assert not feed.followers


async def test_a_notification_during_a_read_is_not_missed() -> None:
    feed, sink = ScriptedFeed(DELTAS[:3]), RecordingSink()
    feed.back.clear()
    feed.follow(sink).catch_up()
    await asyncio.sleep(0)
    feed.append(DELTAS[3])
    feed.back.set()
    await feed.settle()

    assert [0, 1, 2, 3] == sink.numbers


async def test_a_gap_while_the_log_is_read_lets_it_be_read_again() -> None:
    # The read found the log as it was before the subscription came back; nothing more is published.
    feed, sink = ScriptedFeed(DELTAS[:3]), RecordingSink()
    feed.back.clear()
    follower = feed.follow(sink)
    follower.catch_up()
    await asyncio.sleep(0)
    feed.append(END, heard=False)
    follower.catch_up()
    feed.back.set()
    await feed.settle()

    assert [0, 1, 2, 3] == sink.numbers
    assert 1 == sink.ended_times


async def test_a_repeated_notification_is_passed_on_once() -> None:
    feed, sink = ScriptedFeed([]), RecordingSink()
    follower = feed.follow(sink)
    follower.catch_up()
    await feed.settle()
    feed.append(*DELTAS[:4])
    follower.notify(0, feed.frames(0, DELTAS[:4]))
    follower.notify(2, feed.frames(2, DELTAS[2:4]))

    assert [0, 1, 2, 3] == sink.numbers


async def test_a_notification_of_no_entries_sends_nothing() -> None:
    # An append without entries asks whether the response is to be cancelled, and notifies.
    feed, sink = ScriptedFeed([]), RecordingSink()
    follower = feed.follow(sink)
    follower.catch_up()
    await feed.settle()
    follower.notify(0, [])
    feed.append(DELTAS[0])
    follower.notify(1, [])

    assert [0] == sink.numbers
    assert 1 == feed.reads


async def test_a_missed_notification_is_made_up_for_by_the_next() -> None:
    feed, sink = ScriptedFeed([]), RecordingSink()
    feed.follow(sink).catch_up()
    await feed.settle()
    feed.append(*DELTAS[:4], heard=False)
    feed.append(DELTAS[4])
    await feed.settle()

    assert [0, 1, 2, 3, 4] == sink.numbers


async def test_entries_that_the_notification_did_not_carry_are_read() -> None:
    feed, sink = ScriptedFeed([]), RecordingSink()
    follower = feed.follow(sink)
    follower.catch_up()
    await feed.settle()
    feed.append(*DELTAS[:4], heard=False)
    follower.grown(4)
    follower.grown(4)
    await feed.settle()

    assert [0, 1, 2, 3] == sink.numbers
    assert 2 == feed.reads


@pytest.mark.parametrize("after", range(-1, 6))
async def test_a_resume_has_exactly_the_rest(after: int) -> None:
    feed, sink = ScriptedFeed([*DELTAS[:5], END]), RecordingSink()
    feed.status = Status.COMPLETED
    feed.follow(sink, after).catch_up()
    await feed.settle()

    assert list(range(after + 1, 6)) == sink.numbers
    assert (1, None) == (sink.ended_times, sink.problem)


async def test_a_resume_beyond_the_end_is_refused() -> None:
    feed, sink = ScriptedFeed(DELTAS[:5]), RecordingSink()
    feed.follow(sink, 5).catch_up()
    await feed.settle()

    assert sink.problem is not None
    assert (400, "starting_after_beyond_end") == (sink.problem.status, sink.problem.code)
    assert not feed.followers


async def test_a_resume_at_the_very_end_waits_for_more() -> None:
    feed, sink = ScriptedFeed(DELTAS[:5]), RecordingSink()
    feed.follow(sink, 4).catch_up()
    await feed.settle()
    feed.append(DELTAS[5])

    assert [5] == sink.numbers


async def test_a_slow_sink_is_left_alone_and_has_all_when_it_is_writable_again() -> None:
    feed, sink = ScriptedFeed(DELTAS[:2]), RecordingSink()
    follower = feed.follow(sink)
    follower.catch_up()
    await feed.settle()
    sink.writable = False
    for delta in DELTAS[2:50]:
        feed.append(delta)
    await feed.settle()
    assert [0, 1] == sink.numbers
    assert 1 == feed.reads

    sink.writable = True
    follower.catch_up_if_behind()
    await feed.settle()

    assert list(range(50)) == sink.numbers
    assert feed.reads <= 3


async def test_a_sink_that_becomes_full_in_the_middle_of_a_read_loses_nothing() -> None:
    class Small(RecordingSink):
        def deliver(self, follower: object, frames: object) -> None:
            super().deliver(follower, frames)  # type: ignore[arg-type]
            self.writable = False

    feed, sink = ScriptedFeed(DELTAS[:50]), Small()
    feed.page = 7
    follower = feed.follow(sink)
    follower.catch_up()
    for _ in range(20):
        await feed.settle()
        sink.writable = True
        follower.catch_up_if_behind()
    await feed.settle()

    assert list(range(50)) == sink.numbers


async def test_a_log_that_was_rolled_back_behind_the_cursor_is_said_out_loud() -> None:
    feed, sink = ScriptedFeed(DELTAS[:5]), RecordingSink()
    follower = feed.follow(sink)
    follower.catch_up()
    await feed.settle()
    del feed.log[3:]
    follower.catch_up()
    await feed.settle()

    assert sink.problem is not None
    assert (410, "response_rolled_back") == (sink.problem.status, sink.problem.code)


async def test_a_tail_that_its_worker_writes_again_is_waited_for_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follower_module, "REWRITE_SECONDS", 60)
    feed, sink = ScriptedFeed(DELTAS[:5]), RecordingSink()
    follower = feed.follow(sink)
    follower.catch_up()
    await feed.settle()
    del feed.log[3:]
    follower.catch_up()
    before = feed.reads
    await wait_until(lambda: feed.reads > before + 1)
    feed.append(*DELTAS[3:5])
    feed.append(DELTAS[5])
    await feed.settle()

    assert [0, 1, 2, 3, 4, 5] == sink.numbers
    assert sink.problem is None


async def test_who_comes_back_just_after_a_tail_was_lost_waits_for_it_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follower_module, "REWRITE_SECONDS", 60)
    feed, sink = ScriptedFeed(DELTAS[:3]), RecordingSink()
    follower = feed.follow(sink, 4)
    follower.catch_up()
    await wait_until(lambda: feed.reads > 1)
    feed.append(*DELTAS[3:6])
    await feed.settle()

    assert [5] == sink.numbers
    assert sink.problem is None


async def test_a_log_that_was_rolled_back_and_written_anew_is_said_out_loud() -> None:
    feed, sink = ScriptedFeed(DELTAS[:5]), RecordingSink()
    follower = feed.follow(sink)
    follower.catch_up()
    await feed.settle()
    feed.log[3:] = [*DELTAS[10:14]]
    follower.catch_up()
    await feed.settle()

    assert sink.problem is not None
    assert "response_rolled_back" == sink.problem.code
    assert [0, 1, 2, 3, 4] == sink.numbers


async def test_a_log_that_lost_notified_entries_before_they_were_sent_is_not_read_for_ever() -> (
    None
):
    feed, sink = ScriptedFeed(DELTAS[:5]), RecordingSink()
    follower = feed.follow(sink)
    follower.catch_up()
    await feed.settle()
    sink.writable = False
    feed.append(*DELTAS[5:9])
    del feed.log[5:]
    sink.writable = True
    follower.catch_up_if_behind()
    before = feed.reads
    for _ in range(100):
        await asyncio.sleep(0)

    assert feed.reads - before <= 2
    feed.append(DELTAS[20])
    await feed.settle()
    assert [0, 1, 2, 3, 4, 5] == sink.numbers


async def test_a_response_of_another_owner_is_as_unknown_as_none() -> None:
    foreign, none = RecordingSink(), RecordingSink()
    feed = ScriptedFeed(DELTAS[:5])
    feed.owner = "somebody else"
    feed.follow(foreign).catch_up()
    await feed.settle()
    missing = ScriptedFeed([])
    missing.owner = ""
    missing.fails = [UnknownResponse(missing.response_id)]
    missing.follow(none).catch_up()
    await missing.settle()

    assert foreign.problem is not None
    assert none.problem is not None
    assert (404, none.problem.error) == (foreign.problem.status, foreign.problem.error)
    assert [] == foreign.frames


async def test_a_response_that_is_gone_while_it_is_followed_is_said_out_loud() -> None:
    feed, sink = ScriptedFeed(DELTAS[:5]), RecordingSink()
    follower = feed.follow(sink)
    follower.catch_up()
    await feed.settle()
    feed.fails = [UnknownResponse(feed.response_id)]
    follower.catch_up()
    await feed.settle()

    assert sink.problem is not None
    assert (410, "response_gone") == (sink.problem.status, sink.problem.code)


async def test_redis_away_is_waited_out() -> None:
    feed, sink = ScriptedFeed([*DELTAS[:5], END]), RecordingSink()
    feed.fails = [Away() for _ in range(5)]
    feed.follow(sink).catch_up()
    await feed.settle()

    assert [0, 1, 2, 3, 4, 5] == sink.numbers
    assert (1, None) == (sink.ended_times, sink.problem)


async def test_an_entry_that_cannot_be_read_ends_the_following_with_a_code() -> None:
    feed, sink = ScriptedFeed([DELTAS[0], b"\xc1"]), RecordingSink()
    feed.follow(sink).catch_up()
    await feed.settle()

    assert sink.problem is not None
    assert (500, "response_damaged") == (sink.problem.status, sink.problem.code)


async def test_who_has_left_is_told_nothing_more() -> None:
    feed, sink = ScriptedFeed(DELTAS[:3]), RecordingSink()
    feed.back.clear()
    follower = feed.follow(sink)
    follower.catch_up()
    await asyncio.sleep(0)
    follower.leave()
    follower.leave()
    feed.back.set()
    await feed.settle()
    follower.notify(0, feed.frames(0, DELTAS[:3]))
    follower.catch_up()
    follower.waits(1, None, "busy")

    assert ([], [], 0) == (sink.frames, sink.positions, sink.ended_times)
    assert not feed.followers


STEPS = st.lists(
    st.sampled_from(
        [
            *[
                "append",
                "append unheard",
                "append unheard",
                "gap",
                "full",
                "free",
                "hold",
                "let go",
            ],
            *["turn", "turn", "echo", "away"],
        ]
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(STEPS, st.integers(-1, 3), st.integers(2, 5))
async def test_whatever_happens_a_client_has_a_prefix_and_after_one_more_gap_the_whole(
    steps: list[str], after: int, page: int
) -> None:
    feed, sink = ScriptedFeed(DELTAS[:4]), RecordingSink()
    feed.log = DELTAS[:4]
    feed.page = page
    follower = feed.follow(sink, after)
    follower.catch_up()
    for step in steps:
        match step:
            case "append":
                feed.append(DELTAS[len(feed.log)])
            case "append unheard":
                feed.append(DELTAS[len(feed.log)], heard=False)
            case "gap":
                follower.catch_up()
            case "full":
                sink.writable = False
            case "free":
                sink.writable = True
                follower.catch_up_if_behind()
            case "hold":
                feed.back.clear()
            case "let go":
                feed.back.set()
            case "echo":
                follower.notify(1, feed.frames(1, feed.log[1:3]))
            case "away":
                feed.fails.append(Away())
            case _:
                await asyncio.sleep(0)
        assert list(range(after + 1, after + 1 + len(sink.frames))) == sink.numbers
    feed.back.set()
    sink.writable = True
    follower.catch_up()
    await feed.settle()
    assert list(range(after + 1, len(feed.log))) == sink.numbers

    feed.append(END)  # and what comes now is heard

    assert (1, None) == (sink.ended_times, sink.problem)


# On a real Redis.


@pytest.fixture
async def relay(redis: Redis, pipe: Pipe) -> AsyncIterator[Relay]:
    async with Relay(redis, pipe, Queue(pipe, SETTINGS), Metrics(), doubt_seconds=60) as relay:
        yield relay


async def running(pipe: Pipe) -> tuple[Job, LogWriter]:
    job, grant = await claimed(Queue(pipe, SETTINGS))
    return job, LogWriter(pipe, job.id, grant.claim, grant.length)


def listening_too_late(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Swaps the order: the log is read as if the subscription were there, and only then it is."""
    listen, read = relay.subscriber.subscribe, relay.read
    there = asyncio.Event()
    later: list[Callable[[], None]] = []

    def listen_later(
        channel: str, notify: Callable[[bytes], None], gap: Callable[[], None]
    ) -> None:
        later.append(lambda: listen(channel, notify, there.set))
        gap()

    async def read_first(response_id: str, start: int, least: int, viewer: str) -> View:
        view = await read(response_id, start, least, viewer)
        while later:
            later.pop()()
        return view

    monkeypatch.setattr(relay.subscriber, "subscribe", listen_later)
    monkeypatch.setattr(relay, "read", read_first)
    return there


@pytest.mark.parametrize("order", ["subscribe, then read", "read, then subscribe"])
async def test_only_who_subscribes_before_reading_has_what_is_written_in_between(
    relay: Relay, pipe: Pipe, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    job, writer = await running(pipe)
    read = relay.read

    async def written_just_after(response_id: str, start: int, least: int, viewer: str) -> View:
        view = await read(response_id, start, least, viewer)
        if writer.length == 2:
            await writer.append(DELTAS[:1])
        return view

    monkeypatch.setattr(relay, "read", written_just_after)
    swapped = order.startswith("read")
    there = listening_too_late(relay, monkeypatch) if swapped else None
    sink = RecordingSink()
    follower = relay.follow(job.id, "public", -1, sink)
    if there is not None:
        await there.wait()  # from here on it hears; what is lost, is lost
    await wait_until(lambda: follower._live and writer.length == 3)

    assert ([0, 1] if swapped else [0, 1, 2]) == sink.numbers
    follower.leave()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_hundred_who_join_at_random_moments_of_a_running_answer_are_whole(
    relay: Relay, pipe: Pipe, seed: int
) -> None:
    rng = random.Random(seed)
    job, writer = await running(pipe)
    joins = sorted(rng.randrange(200) for _ in range(100))
    sinks = []
    for turn in range(200):
        for _ in range(joins.count(turn)):
            sink = RecordingSink()
            sinks.append(sink)
            relay.follow(job.id, "public", -1, sink)
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
        await writer.append([DELTAS[turn % 100]] * rng.randint(1, 3))
    length = writer.length
    await writer.finish(Status.COMPLETED, [end_entry(job)], retention_ms=60_000)
    await wait_until(lambda: all(sink.ended_times for sink in sinks))

    assert 100 == len(sinks)
    assert {tuple(range(length + 1))} == {tuple(sink.numbers) for sink in sinks}
    assert 1 == len({tuple(frame.json for frame in sink.frames) for sink in sinks})


async def test_forty_followers_whose_subscription_is_killed_again_and_again_are_whole(
    relay: Relay, pipe: Pipe
) -> None:
    rng = random.Random(4)
    job, writer = await running(pipe)
    sinks = [RecordingSink() for _ in range(40)]
    for turn, sink in enumerate(sinks):
        relay.follow(job.id, "public", -1, sink)
        await writer.append([DELTAS[turn]])
        if rng.random() < 0.2:
            await pipe.call("CLIENT", "KILL", "TYPE", "pubsub")
    await writer.finish(Status.COMPLETED, [end_entry(job)], retention_ms=60_000)
    await wait_until(lambda: all(sink.ended_times for sink in sinks))

    assert {tuple(range(writer.length))} == {tuple(sink.numbers) for sink in sinks}


async def test_entries_as_large_as_a_whole_read_do_not_stop_a_follower(
    relay: Relay, pipe: Pipe
) -> None:
    job, writer = await running(pipe)
    large = [encode_event(text_delta("msg_1", 0, letter * 400_000)) for letter in "abc"]
    for entry in large:
        await writer.append([entry])
    await writer.append(DELTAS[:1])
    sink = RecordingSink()
    follower = relay.follow(job.id, "public", -1, sink)
    await wait_until(lambda: len(sink.frames) == 6)
    await writer.append(large[:1])
    await writer.append(large[1:2])
    await wait_until(lambda: len(sink.frames) == 8)

    assert list(range(8)) == sink.numbers
    follower.leave()


async def test_a_waiting_response_is_followed_from_its_first_event(
    relay: Relay, pipe: Pipe
) -> None:
    job = await submitted(Queue(pipe, SETTINGS))
    sink = RecordingSink()
    follower = relay.follow(job.id, "public", -1, sink)
    await wait_until(lambda: len(sink.frames) == 2)
    await Queue(pipe, SETTINGS).delete(job.id)
    await wait_until(lambda: sink.ended_times)

    assert sink.problem is not None
    assert (410, True) == (sink.problem.status, follower.done)


async def test_unknown_is_said_of_what_never_was(relay: Relay) -> None:
    sink = RecordingSink()
    relay.follow(new_response_id(0), "public", -1, sink)
    await wait_until(lambda: sink.ended_times)

    assert sink.problem is not None
    assert 404 == sink.problem.status
    with pytest.raises(UnknownResponse):
        relay.follow("resp_{0}", "public", -1, sink)


async def test_the_last_follower_of_a_log_receives_its_notifications(
    relay: Relay, pipe: Pipe
) -> None:
    job, writer = await running(pipe)
    sinks = [RecordingSink() for _ in range(3)]
    one, other, left = (relay.follow(job.id, "public", -1, sink) for sink in sinks)
    await wait_until(lambda: left._live and other._live and one._live)
    for follower in (one, other):
        follower.leave()
        await writer.append([DELTAS[0]])
    await writer.finish(Status.COMPLETED, [end_entry(job)], retention_ms=60_000)
    await wait_until(lambda: left.done)

    assert list(range(writer.length)) == sinks[2].numbers


async def test_a_feed_without_followers_leaves_nothing_behind(relay: Relay, pipe: Pipe) -> None:
    job, writer = await running(pipe)
    sinks = [RecordingSink() for _ in range(20)]
    followers = [relay.follow(job.id, "public", -1, sink) for sink in sinks]
    await wait_until(lambda: all(sink.frames for sink in sinks))
    for follower in followers[:10]:
        follower.leave()
    await writer.finish(Status.COMPLETED, [end_entry(job)], retention_ms=60_000)
    await wait_until(lambda: all(sink.ended_times for sink in sinks[10:]))

    assert {} == relay._feeds
    assert {} == relay.subscriber._subscriptions
    channels = await pipe.call("PUBSUB", "CHANNELS", "holdline:*notifications*")
    assert [] == channels
