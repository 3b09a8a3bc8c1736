"""Tests answers whose model continues the text after a worker or a connection was lost."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from typing import Any

import pytest

from jobs.cipher import Cipher
from jobs.log.events import CONTINUED, RESTARTED, output_text
from jobs.names import Partition
from jobs.queue import Queue
from jobs.record import Status
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from tests.fake_model import FakeModel
from tests.system import wait_until
from tests.worker.continuing import (
    KINDS,
    TEXT,
    TOKENS,
    Going,
    ended,
    kinds,
    lose,
    sent,
    start,
    steer,
)
from tests.worker.harness import response, said
from worker.stop import Stop


@pytest.mark.parametrize("kind", KINDS)
async def test_another_worker_lets_the_model_continue_the_text(going: Going, kind: str) -> None:
    async with going(kind) as harness:
        harness.model.script = {"at": 13}
        await lose(await start(harness, f"mode=continuing tokens={TOKENS}"))
        harness.model.script = {}
        events = await ended(harness)
        end = response(events)
        assert TEXT == said(events) == output_text(end["output"])
        assert [CONTINUED] == kinds(events)
        assert ("completed", 2, 1) == (
            end["status"],
            end["holdline"]["attempts"],
            end["holdline"]["continuations"],
        )
        (item,) = end["output"]
        (told,) = [event for event in events if event["type"] == CONTINUED]
        assert told == {
            "type": CONTINUED,
            "response_id": harness.only,
            "attempt": 2,
            "reason": "worker_lost",
            "item_id": item["id"],
            "output_index": 0,
            "content_index": 0,
            "at": 65,
        }
        first, second = harness.model.calls
        assert first.sent + second.sent == TEXT
        asked, last = second.body["messages"]
        assert "user" == asked["role"]
        assert TEXT[:65].rstrip() == last["content"]
        assert ("prefix" == kind) == last.get("prefix", False)
        flags = {"continue_final_message": True, "add_generation_prompt": False}
        for name, value in flags.items():
            assert (value if kind == "vllm" else None) == second.body.get(name)


async def test_workers_that_die_after_each_piece_repeat_nothing(going: Going) -> None:
    async with going() as harness:
        prompt, script = f"mode=continuing tokens={TOKENS}", harness.model.script
        script["at"], length = 8, 40
        while length < len(TEXT) - 10:
            await lose(await start(harness, prompt, length))
            script["at"] = 2
            # One of the ten characters may be the space at the end of the text so far.
            length = len(said(await harness.events(harness.only))) + 9
        script["at"] = -1
        events = await ended(harness)
        assert TEXT == said(events)
        assert {CONTINUED} == set(kinds(events))
        assert TEXT.replace(" ", "") == sent(harness.model)
        holdline = response(events)["holdline"]
        assert holdline["attempts"] == len(harness.model.calls) == holdline["continuations"] + 1


@pytest.mark.parametrize("at", range(7, 24))
async def test_a_stream_that_breaks_after_any_piece_is_continued(going: Going, at: int) -> None:
    async with going() as harness:
        harness.model.script = {"at": at}
        await harness.submit(f"mode=breaking tokens={TOKENS}")
        await harness.execution(await harness.claim()).run()
        harness.model.script = {}
        events = await ended(harness)
        assert TEXT == said(events)
        assert [CONTINUED] == kinds(events)
        assert "upstream_truncated" == next(e["reason"] for e in events if e["type"] == CONTINUED)
        assert TEXT.replace(" ", "") == sent(harness.model)


@pytest.mark.parametrize(
    ("rude", "status", "text"),
    [
        ("again", "completed", TEXT),
        ("empty", "completed", TEXT[:65]),
        ("length", "incomplete", TEXT),
    ],
)
async def test_unusual_replies_that_continue_the_text(
    going: Going, rude: str, status: str, text: str
) -> None:
    async with going() as harness:
        harness.model.script = {"at": 13}
        await lose(await start(harness, f"mode=continuing tokens={TOKENS} rude={rude}"))
        harness.model.script = {}
        events = await ended(harness)
        assert (status, text) == (response(events)["status"], said(events))
        assert [CONTINUED] == kinds(events)


async def test_a_text_after_finished_reasoning_is_continued(going: Going) -> None:
    async with going() as harness:
        harness.model.script = {"at": 13}
        await lose(await start(harness, f"mode=continuing tokens={TOKENS} rude=thinks", 71))
        harness.model.script = {}
        events = await ended(harness)
        output = events[-1]["response"]["output"]
        assert ["reasoning", "message"] == [item["type"] for item in output]
        assert ("Well. " + TEXT, [CONTINUED]) == (said(events), kinds(events))
        assert ["user", "assistant"] == [m["role"] for m in harness.model.calls[1].body["messages"]]


async def test_an_unavailable_endpoint_leaves_the_answer_to_a_fallback(going: Going) -> None:
    async with FakeModel() as other, going(more='fallbacks = ["n"]', other=other.url) as harness:
        harness.model.script = {"at": 13}
        await lose(await start(harness, f"mode=continuing tokens={TOKENS}"))
        harness.model.refuse = lambda _: {"message": "no", "code": "model_not_found"}
        events = await ended(harness)
        end = response(events)
        assert ("n", 2) == (end["holdline"]["model"], end["holdline"]["attempts"])
        assert (TEXT, [CONTINUED, RESTARTED]) == (said(events), kinds(events))
        (call,) = other.calls
        assert ["user"] == [message["role"] for message in call.body["messages"]]


async def test_an_unavailable_endpoint_continues_later_if_there_is_no_fallback(
    going: Going,
) -> None:
    async with going() as harness:
        harness.model.script = {"at": 13}
        prompt = f"mode=continuing tokens={TOKENS}"
        await lose(await start(harness, prompt))
        harness.model.script = {"at": 0}
        execution = harness.execution(await harness.claim())
        running = asyncio.create_task(execution.run())
        await wait_until(lambda: len(harness.model.calls) == 2)
        harness.model.cut(lambda wires: wires)
        await running
        harness.model.script = {}
        events = await ended(harness)
        assert (TEXT, [CONTINUED, CONTINUED]) == (said(events), kinds(events))
        assert 3 == response(events)["holdline"]["attempts"]


async def test_an_encrypted_text_is_continued(going: Going, redis_url: str) -> None:
    cipher = Cipher(base64.b64encode(bytes(range(32))).decode())
    async with going() as harness, Pipe(Redis(redis_url, cipher)) as locked:
        queue = Queue(locked, harness.context.config.shared)
        harness.context = replace(harness.context, pipe=locked, queue=queue)
        harness.model.script = {"at": 13}
        await lose(await start(harness, f"mode=continuing tokens={TOKENS}"))
        harness.model.script = {}
        events = await ended(harness)
        assert (TEXT, [CONTINUED]) == (said(events), kinds(events))
        kept = await harness.context.pipe.call("LRANGE", Partition(0).log(harness.only), 0, -1)
        assert not any(b"b6589" in entry or CONTINUED.encode() in entry for entry in kept)


async def test_a_text_in_which_each_character_has_several_units(going: Going) -> None:
    several = "\U0001f30aé\u4e2d\U0001f469\u200d\U0001f680"
    text = several + "".join(chr(0x4E00 + index) for index in range(40)) + several
    async with going() as harness:
        prompt = f"mode=continuing say={text}"
        for at, until in ((8, 40), (1, 45)):
            harness.model.script = {"at": at}
            await lose(await start(harness, prompt, until))
        harness.model.script = {}
        events = await ended(harness)
        assert (text, [CONTINUED] * 2) == (said(events), kinds(events))
        assert [40, 45] == [e["at"] for e in events if e["type"] == CONTINUED]


async def test_the_limit_is_lowered_and_each_call_is_booked(going: Going) -> None:
    async with going() as harness:
        harness.model.script = {"at": 13}
        prompt = f"mode=continuing tokens={TOKENS}"
        await lose(await start(harness, prompt, max_output_tokens=100))
        harness.model.script = {}
        end = response(await ended(harness))
        first, second = harness.model.calls
        assert (100, 100 - 17) == (first.body["max_tokens"], second.body["max_tokens"])
        estimate = -(-len(prompt) // 4)
        assert 7 + estimate == end["usage"]["input_tokens"]
        assert TOKENS + 17 == end["usage"]["output_tokens"]


async def test_a_text_that_has_reached_the_limit_ends_the_response(going: Going) -> None:
    async with going() as harness:
        harness.model.script = {"at": 13}
        await lose(await start(harness, f"mode=continuing tokens={TOKENS}", max_output_tokens=17))
        events = await ended(harness)
        end = response(events)
        assert ("incomplete", {"reason": "max_output_tokens"}) == (
            end["status"],
            end["incomplete_details"],
        )
        assert (TEXT[:65], []) == (said(events), kinds(events))
        assert (1, 1) == (len(harness.model.calls), end["holdline"]["attempts"])


async def test_a_poisoned_job_dies_after_its_attempts(going: Going) -> None:
    async with going(HOLDLINE_MAX_ATTEMPTS="3") as harness:
        prompt, length = f"mode=continuing tokens={TOKENS}", 65
        harness.model.script = {"at": 13}
        for _ in range(3):
            await lose(await start(harness, prompt, length))
            harness.model.script, length = {"at": 1}, length + 5
        leases = harness.context.queue.leases

        async def rescued() -> list[Any]:
            return (await leases.rescue(0, "rescue"))[1]

        (grant,) = await wait_until(rescued)
        assert (3, "worker_lost") == (grant.failures, grant.reason)
        assert 3 == len(harness.model.calls)


async def test_a_cancellation_ends_a_continued_text(going: Going) -> None:
    async with going() as harness:
        harness.model.script = {"at": 13}
        prompt = f"mode=continuing tokens={TOKENS}"
        await lose(await start(harness, prompt))
        harness.model.script = {"at": 1}
        execution = harness.execution(await harness.claim())
        running = asyncio.create_task(execution.run())
        await harness.until_said(harness.only, TEXT[:70])
        execution.stop(Stop.CANCEL)
        await running
        end = response(await harness.events(harness.only))
        assert (Status.CANCELLED, TEXT[:70]) == (end["status"], output_text(end["output"]))


ASKED = [{"type": "message", "role": "user", "content": f"mode=continuing tokens={TOKENS}"}]


async def test_a_steer_between_two_workers_ends_the_text_without_a_call(going: Going) -> None:
    async with going() as harness:
        harness.model.script = {"at": 13}
        await lose(await start(harness, ASKED))
        await steer(harness)
        await harness.execution(await harness.claim()).run()
        events = await harness.events(harness.only)
        end = response(events)
        assert ("incomplete", {"reason": "steered"}) == (end["status"], end["incomplete_details"])
        assert (TEXT[:65], [], 1) == (said(events), kinds(events), len(harness.model.calls))


async def test_a_steer_ends_a_continued_text(going: Going) -> None:
    async with going() as harness:
        harness.model.script = {"at": 13}
        await lose(await start(harness, ASKED))
        harness.model.script = {"at": 1}
        execution = harness.execution(await harness.claim())
        running = asyncio.create_task(execution.run())
        await harness.until_said(harness.only, TEXT[:70])
        await steer(harness)
        execution.steer()
        await running
        end = response(await harness.events(harness.only))
        assert {"reason": "steered"} == end["incomplete_details"]
        assert (TEXT[:70], 2) == (output_text(end["output"]), len(harness.model.calls))
        assert 1 == end["holdline"]["continuations"]


@pytest.mark.parametrize("policy", ["continue", "restart", "fail"])
async def test_a_worker_that_stops_leaves_the_answer_to_the_policy(
    going: Going, policy: str
) -> None:
    async with going(more=f'on_worker_death = "{policy}"') as harness:
        harness.model.script = {"at": 13}
        await harness.submit(f"mode=continuing tokens={TOKENS}")
        execution = harness.execution(await harness.claim())
        running = asyncio.create_task(execution.run())
        await harness.until_said(harness.only, TEXT[:65])
        assert not execution.can_be_continued  # a worker that stops still waits for its end
        execution.stop(Stop.GIVE_BACK)
        await running
        harness.model.script = {}
        events = await ended(harness)
        end = response(events)
        expected: dict[str, Any] = {
            "continue": ("completed", TEXT, [CONTINUED], 2),
            "restart": ("completed", TEXT, [RESTARTED], 2),
            "fail": ("failed", TEXT[:65], [], 1),
        }
        assert expected[policy] == (
            end["status"],
            said(events),
            kinds(events),
            len(harness.model.calls),
        )
        if policy == "fail":
            assert "worker_lost" == end["error"]["code"]


@pytest.mark.parametrize("policy", ["continue", "restart", "fail"])
async def test_a_broken_stream_leaves_the_answer_to_the_policy(going: Going, policy: str) -> None:
    async with going(more=f'on_worker_death = "{policy}"') as harness:
        harness.model.script = {"at": 13}
        await harness.submit(f"mode=breaking tokens={TOKENS}")
        await harness.execution(await harness.claim()).run()
        harness.model.script = {}
        events = await ended(harness)
        assert ("completed", TEXT) == (response(events)["status"], said(events))
        assert [CONTINUED if policy == "continue" else RESTARTED] == kinds(events)
