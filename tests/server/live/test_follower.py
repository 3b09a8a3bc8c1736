"""Tests a follower, which reads one log.

After any faults, the follower's client has a prefix of the log, and finally the whole log.
"""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import UnknownResponse
from jobs.ids import item_id
from jobs.log.codec import encode_event
from jobs.record import Status
from server.api.frames import Frame, Shown
from server.live import follower as follower_module
from server.live.follower import Follower
from tests.jobs.factories import message_done, text_delta
from tests.server.factories import DELTAS, RESPONSE, Away, RecordingSink, ScriptedFeed
from tests.system import wait_until

pytestmark = pytest.mark.usefixtures("quick_retries")
BEGUN = encode_event({"type": "response.in_progress", "response": {}})
END = b"\x92\xb2response.completed\x81\xa8response\x80"


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


@pytest.mark.parametrize("while_reading", [True, False])
async def test_a_failure_of_a_sink_ends_only_its_follower(while_reading: bool) -> None:
    class FailingSink(RecordingSink):
        def deliver(self, follower: Follower, frames: list[Frame]) -> None:
            raise KeyError("url")

    feed, failing, sink = ScriptedFeed([]), FailingSink(), RecordingSink()
    if while_reading:
        feed.log.append(DELTAS[0])
    for each in (failing, sink):
        feed.follow(each).catch_up()
    await feed.settle()
    if not while_reading:
        feed.append(DELTAS[0])

    assert [0] == sink.numbers
    assert failing.problem is not None
    assert ("internal_error", 1) == (failing.problem.code, failing.ended_times)
    assert [sink] == [each._sink for each in feed.followers]


async def test_a_gap_during_a_read_causes_another_read() -> None:
    # The read returns the log as it was before the subscription was restored. No notification
    # follows.
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


async def test_a_repeated_notification_is_delivered_once() -> None:
    feed, sink = ScriptedFeed([]), RecordingSink()
    follower = feed.follow(sink)
    follower.catch_up()
    await feed.settle()
    feed.append(*DELTAS[:4])
    follower.notify(0, feed.frames(0, DELTAS[:4]))
    follower.notify(2, feed.frames(2, DELTAS[2:4]))

    assert [0, 1, 2, 3] == sink.numbers


async def test_a_notification_without_entries_sends_nothing() -> None:
    # Workers check for a cancel request by appending no entries, which also sends a notification.
    feed, sink = ScriptedFeed([]), RecordingSink()
    follower = feed.follow(sink)
    follower.catch_up()
    await feed.settle()
    follower.notify(0, [])
    feed.append(DELTAS[0])
    follower.notify(1, [])

    assert [0] == sink.numbers
    assert 1 == feed.reads


async def test_the_next_notification_recovers_a_missed_one() -> None:
    feed, sink = ScriptedFeed([]), RecordingSink()
    feed.follow(sink).catch_up()
    await feed.settle()
    feed.append(*DELTAS[:4], heard=False)
    feed.append(DELTAS[4])
    await feed.settle()

    assert [0, 1, 2, 3, 4] == sink.numbers


async def test_entries_missing_from_the_notification_are_read() -> None:
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
async def test_a_resume_receives_exactly_the_rest(after: int) -> None:
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


async def test_a_resume_at_the_end_of_the_log_waits_for_more() -> None:
    feed, sink = ScriptedFeed(DELTAS[:5]), RecordingSink()
    feed.follow(sink, 4).catch_up()
    await feed.settle()
    feed.append(DELTAS[5])

    assert [5] == sink.numbers


async def test_a_slow_sink_receives_everything_once_it_is_writable_again() -> None:
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


async def test_a_sink_that_fills_up_during_a_read_loses_nothing() -> None:
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


async def test_a_log_rolled_back_behind_the_cursor_is_reported() -> None:
    feed, sink = ScriptedFeed(DELTAS[:5]), RecordingSink()
    follower = feed.follow(sink)
    follower.catch_up()
    await feed.settle()
    del feed.log[3:]
    follower.catch_up()
    await feed.settle()

    assert sink.problem is not None
    assert (410, "response_rolled_back") == (sink.problem.status, sink.problem.code)


async def test_lost_entries_that_the_worker_rewrites_are_awaited_and_not_repeated(
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


async def test_a_resume_right_after_a_loss_waits_for_the_rewritten_entries(
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


async def test_a_log_rolled_back_and_rewritten_is_reported() -> None:
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


@pytest.mark.parametrize("notified", ["repeated", "with later entries", "without entries"])
async def test_a_notification_that_replaces_a_sent_entry_is_never_spliced(notified: str) -> None:
    # A master that had been replaced accepted one more entry. The new master never had it, and has
    # another entry in its place.
    feed, sink = ScriptedFeed(DELTAS[:3]), RecordingSink()
    follower = feed.follow(sink)
    follower.catch_up()
    await feed.settle()
    feed.log[2:] = [DELTAS[5]]
    if notified == "without entries":
        follower.grown(3)
    else:
        more = [DELTAS[6]] if notified == "with later entries" else []
        feed.log += more
        follower.notify(2, feed.frames(2, [DELTAS[5], *more]))
    feed.append(DELTAS[7])
    await feed.settle()

    assert [0, 1, 2] == sink.numbers
    assert sink.problem is not None
    assert "response_rolled_back" == sink.problem.code


@pytest.mark.parametrize("notified", ["with entries", "without entries"])
async def test_a_notification_that_replaces_a_sent_entry_during_a_read_is_never_spliced(
    notified: str,
) -> None:
    # The read returns the log of the replaced master; the notification comes from the new master.
    feed, sink = ScriptedFeed(DELTAS[:3]), RecordingSink()
    follower = feed.follow(sink)
    follower.catch_up()
    await feed.settle()
    feed.back.clear()
    follower.catch_up()
    await asyncio.sleep(0)
    feed.log[2:] = [DELTAS[5]]
    if notified == "with entries":
        follower.notify(2, feed.frames(2, [DELTAS[5]]))
    else:
        follower.grown(3)
    feed.back.set()
    await feed.settle()
    feed.append(DELTAS[7])
    await feed.settle()

    assert [0, 1, 2] == sink.numbers
    assert sink.problem is not None
    assert "response_rolled_back" == sink.problem.code


@pytest.mark.parametrize("attempt", ["cut", "grown", "begun", "closed"])
async def test_a_resume_that_names_its_last_item_detects_a_rollback(
    attempt: str,
) -> None:
    item = item_id("msg", RESPONSE, 1, 0, "first")
    other = encode_event(text_delta(item_id("msg", RESPONSE, 1, 0, "other"), 0, "4"))
    closing = message_done(item, 0, "0123", "incomplete")
    log = {
        "cut": DELTAS[:3],
        "grown": [*DELTAS[:3], *[other] * 4, END],
        "begun": [*DELTAS[:4], BEGUN, *DELTAS[5:7]],
        # Another worker closed the item after the delta was lost.
        "closed": [*DELTAS[:4], *map(encode_event, closing), BEGUN],
    }
    feed, sink = ScriptedFeed(log[attempt]), RecordingSink()
    feed.status = Status.COMPLETED
    feed.follow(sink, 4, shown=Shown(item, "response.output_text.delta")).catch_up()
    await feed.settle()

    assert sink.problem is not None
    assert (410, "response_rolled_back") == (sink.problem.status, sink.problem.code)
    assert [] == sink.numbers


@pytest.mark.parametrize(
    ("after", "item", "kind"),
    [
        (4, "msg_1", "response.output_text.delta"),
        (4, "msg_1", None),
        (4, None, "response.output_text.delta"),
        (0, "", "response.in_progress"),
        (-1, "", ""),
        (-1, "msg_1", None),
    ],
)
async def test_a_resume_that_names_the_right_event_receives_the_rest(
    after: int, item: str | None, kind: str | None
) -> None:
    feed, sink = ScriptedFeed([BEGUN, *DELTAS[1:6], END]), RecordingSink()
    feed.status = Status.COMPLETED
    feed.page = 2
    feed.follow(sink, after, shown=Shown(item, kind)).catch_up()
    await feed.settle()

    assert list(range(after + 1, 7)) == sink.numbers
    assert (1, None) == (sink.ended_times, sink.problem)


async def test_a_log_that_lost_notified_entries_is_not_read_forever() -> None:
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


async def test_a_response_of_another_owner_is_unknown() -> None:
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


async def test_the_deletion_of_a_followed_response_is_reported() -> None:
    feed, sink = ScriptedFeed(DELTAS[:5]), RecordingSink()
    follower = feed.follow(sink)
    follower.catch_up()
    await feed.settle()
    feed.fails = [UnknownResponse(feed.response_id)]
    follower.catch_up()
    await feed.settle()

    assert sink.problem is not None
    assert (410, "response_gone") == (sink.problem.status, sink.problem.code)


async def test_a_follower_waits_through_an_outage_of_redis() -> None:
    feed, sink = ScriptedFeed([*DELTAS[:5], END]), RecordingSink()
    feed.fails = [Away() for _ in range(5)]
    feed.follow(sink).catch_up()
    await feed.settle()

    assert [0, 1, 2, 3, 4, 5] == sink.numbers
    assert (1, None) == (sink.ended_times, sink.problem)


async def test_an_unreadable_entry_ends_the_follower_with_an_error_code() -> None:
    feed, sink = ScriptedFeed([DELTAS[0], b"\xc1"]), RecordingSink()
    feed.follow(sink).catch_up()
    await feed.settle()

    assert sink.problem is not None
    assert (500, "response_damaged") == (sink.problem.status, sink.problem.code)


async def test_a_follower_that_left_receives_nothing_more() -> None:
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
async def test_a_client_always_has_a_prefix_and_the_whole_log_after_one_more_gap(
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

    # The follower still receives entries that are appended later.
    feed.append(END)

    assert (1, None) == (sink.ended_times, sink.problem)
