"""Tests that a socket learns what became of its steers if Redis loses them, or loses events."""

from __future__ import annotations

import pytest

from jobs.log.log import LogWriter
from jobs.redis.pipe import Pipe
from server.app import Server
from server.live import follower
from tests.jobs.factories import NAMES
from tests.server.conftest import Client
from tests.server.factories import Answer, Worker
from tests.server.talk import Talk, connected


async def begun(talk: Talk, worker: Worker) -> Answer:
    """Starts a response, and returns it after its first text."""
    await talk.say("response.create", input="Why?")
    answer = await worker.take()
    await answer.say("So")
    await talk.until("response.output_text.delta")
    return answer


async def steer(talk: Talk, response_id: str, text: str) -> None:
    await talk.say("response.steer", previous_response_id=response_id, input=text)
    await talk.until("response.steer.accepted")


async def given_back(talk: Talk) -> str:
    text: str = (await talk.until("response.steer.failed"))["steer"]["input"]
    return text


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_lost_steer_is_reported_even_if_its_number_is_used_again(
    client: Client, talk: Talk, worker: Worker, pipe: Pipe, replaced: bool
) -> None:
    async with connected(client) as other, connected(client) as third:
        answer = await begun(talk, worker)
        id_ = answer.job.id
        for one in (talk, other):
            await steer(one, id_, "lost")
        await pipe.call("DEL", NAMES.steers(id_))
        await pipe.call("HDEL", NAMES.job(id_), "steers")
        if replaced:
            await steer(third, id_, "after")
        await answer.complete()
        for one in (talk, other):
            assert (410, "steer_lost", None) == await one.error()
            assert id_ == one.events[-1]["response_id"]
        if replaced:
            assert "after" == await given_back(third)


async def test_the_outcome_of_a_steer_is_reported_after_events_were_lost(
    client: Client,
    server: Server,
    talk: Talk,
    worker: Worker,
    pipe: Pipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follower, "REWRITE_SECONDS", 0)
    async with connected(client) as other:
        answer = await begun(talk, worker)
        id_ = answer.job.id
        await steer(talk, id_, "first")
        await steer(other, id_, "second")
        await pipe.call("LTRIM", NAMES.log(id_), 0, 2)
        server.relay.feed(id_).gap()
        assert (410, "response_rolled_back", None) == await talk.error()
        answer.writer = LogWriter(pipe, id_, answer.grant.claim, 3)
        await answer.fail("server_error")
        assert ["first", "second"] == [await given_back(one) for one in (talk, other)]
    assert "error" not in [event["type"] for event in other.events]
