"""The cost of each event is bounded by counting function calls, which is exact, unlike timing.

A failure means that an event became more expensive for every client. Raise the bound only if the
benefit is worth the cost, and explain why; lower it when a count has fallen.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from contextlib import AsyncExitStack
from types import FrameType

import pytest

from jobs.names import Partition, partition_of
from server.app import Server
from tests.server.factories import Answer, Worker
from tests.server.talk import Client, Talk, connected
from tests.system import CODE, wait_until

OURS = tuple(f"{CODE / name}{os.sep}" for name in ("jobs", "server"))


class Calls:
    """Counts the calls of project functions that a notification causes, up to the transport."""

    def __init__(self, server: Server, response_id: str) -> None:
        self.of: Counter[str] = Counter()
        [node] = server.relay.subscriber._nodes.values()
        handlers = node.confirmed
        channel = Partition(partition_of(response_id)).notifications(response_id).encode()
        self._notify, handlers[channel] = handlers[channel], self.notify

    def notify(self, payload: bytes) -> None:
        before = sys.getprofile()
        sys.setprofile(self._called)
        try:
            self._notify(payload)
        finally:
            sys.setprofile(before)

    def _called(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(OURS):
            self.of[code.co_name] += 1


async def heard(answer: Answer, talks: list[Talk], text: str) -> None:
    await answer.say(text)
    for talk in talks:
        while (await talk.until("response.output_text.delta"))["delta"] != text:
            pass


@pytest.mark.parametrize("followers", [1, 20])
async def test_an_event_costs_a_bounded_number_of_function_calls(
    client: Client, worker: Worker, server: Server, followers: int
) -> None:
    """Allows six calls per event, and six more per event and follower.

    The calls per event decode the notification, the entry, the event and its bytes. The calls per
    follower check its position in the log, check whether its socket is writable, and write the
    event.
    """
    async with AsyncExitStack() as stack:
        talks = [await stack.enter_async_context(connected(client)) for _ in range(followers)]
        await talks[0].say("response.create", input="Why?")
        answer = await worker.take()
        for talk in talks[1:]:
            await talk.say("holdline:resume", response_id=answer.job.id)
        await heard(answer, talks, "So")
        feed = server.relay._feeds[answer.job.id]
        await wait_until(lambda: all(follower._live for follower in feed.followers))
        calls = Calls(server, answer.job.id)
        await heard(answer, talks, ".")
        most = 6 + 6 * followers
        assert most >= calls.of.total() > most / 2, calls.of
        # Work that is the same for all followers must be done only once.
        assert (
            1 == calls.of["decode_notification"] == calls.of["frame"] == calls.of["websocket_frame"]
        )
        await answer.complete()
        for talk in talks:
            await talk.until("response.completed")
