"""Tests answers whose model goes on from the text after a worker or a connection was lost."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from jobs.checkpoint import Checkpoint
from jobs.cipher import Cipher
from jobs.log.codec import Event
from jobs.log.events import CONTINUED, RESTARTED, output_text
from jobs.log.response_state import ResponseState
from jobs.names import Partition
from jobs.queue import Queue
from jobs.record import Job, Status
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from jobs.steers import Steer
from tests.fake_continuing import RUDE, answer
from tests.fake_model import FakeModel
from tests.fake_wire import Script
from tests.system import wait_until
from tests.worker.conftest import MakeHarness
from tests.worker.harness import Harness, response, said
from worker.continuing import continuation
from worker.stop import Stop

MODELS = """
[models.m]
base_url = "{url}"
continues = "{kind}"
{more}
[models.n]
base_url = "{other}"
"""
KINDS = ("vllm", "prefix", "assistant")
TOKENS = 20
TEXT = "".join(answer(Script(tokens=TOKENS)))

Going: TypeAlias = Callable[..., contextlib.AbstractAsyncContextManager[Harness]]


@pytest.fixture
def going(make_harness: MakeHarness, model: FakeModel, tmp_path: Path) -> Going:
    """Returns a function that makes a harness whose model goes on from texts."""

    @contextlib.asynccontextmanager
    async def make(
        kind: str = "assistant", more: str = "", other: str = "http://127.0.0.1:9", **environ: str
    ) -> AsyncIterator[Harness]:
        path = tmp_path / "models.toml"
        path.write_text(MODELS.format(url=model.url, kind=kind, more=more, other=other))
        settings = {"HOLDLINE_MODELS": str(path), "HOLDLINE_MAX_ATTEMPTS": "50"} | environ
        async with make_harness(**settings) as harness:
            yield harness

    return make


def kinds(events: list[Event], *wanted: str) -> list[str]:
    return [
        event["type"] for event in events if event["type"] in (wanted or (CONTINUED, RESTARTED))
    ]


async def start(
    harness: Harness, prompt: Any, until: int = 65, **params: Any
) -> asyncio.Task[None]:
    """Starts an attempt, and returns when the log has a text of at least `until` characters."""
    if not harness.ids:
        await harness.submit(prompt, **params)
    running = asyncio.create_task(harness.execution(await harness.claim()).run())

    async def grown() -> bool:
        return len(said(await harness.events(harness.only))) >= until

    await wait_until(grown)
    return running


async def lose(running: asyncio.Task[None]) -> None:
    """Kills the attempt, as if its worker had died."""
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def sent(model: FakeModel) -> str:
    """Returns what all calls together have sent, without spaces.

    The space at the end of a text is not sent to the endpoint, so that it comes twice.
    """
    return "".join(call.sent for call in model.calls).replace(" ", "")


async def steer(harness: Harness) -> None:
    item = {"type": "message", "role": "user", "content": "Stop.", "id": "", "status": "completed"}
    await harness.context.queue.steers.add(
        harness.only, Steer("s", [item], 100_000), key="s", fingerprint="f", max_bytes=9000
    )


async def ended(harness: Harness, attempts: int = 3) -> list[Event]:
    """Runs attempts until the response ends, and returns its events."""
    for _ in range(attempts):
        await harness.execution(await harness.claim()).run()
        if (await harness.view(harness.only)).status.ended:
            break
    return await harness.events(harness.only)


@pytest.mark.parametrize("kind", KINDS)
async def test_another_worker_lets_the_model_go_on_from_the_text(going: Going, kind: str) -> None:
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
async def test_a_stream_that_breaks_after_any_piece_goes_on(going: Going, at: int) -> None:
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


@pytest.mark.parametrize("rude", RUDE)
async def test_an_answer_that_does_not_go_on_begins_again(going: Going, rude: str) -> None:
    async with going() as harness:
        harness.model.script = {"at": 12}  # the text ends with a space
        await lose(await start(harness, f"mode=continuing tokens={TOKENS} rude={rude}", 60))
        harness.model.script = {}
        events = await ended(harness)
        assert TEXT == said(events) == output_text(response(events)["output"])
        assert [CONTINUED, RESTARTED] == kinds(events)
        end = response(events)["holdline"]
        assert 3 == end["attempts"] == len(harness.model.calls)
        assert "continuations" not in end


@pytest.mark.parametrize(
    ("rude", "status", "text"),
    [
        ("again", "completed", TEXT),
        ("empty", "completed", TEXT[:65]),
        ("length", "incomplete", TEXT),
    ],
)
async def test_unusual_answers_that_go_on(going: Going, rude: str, status: str, text: str) -> None:
    async with going() as harness:
        harness.model.script = {"at": 13}
        await lose(await start(harness, f"mode=continuing tokens={TOKENS} rude={rude}"))
        harness.model.script = {}
        events = await ended(harness)
        assert (status, text) == (response(events)["status"], said(events))
        assert [CONTINUED] == kinds(events)


async def test_a_text_after_finished_reasoning_goes_on(going: Going) -> None:
    async with going() as harness:
        harness.model.script = {"at": 13}
        await lose(await start(harness, f"mode=continuing tokens={TOKENS} rude=thinks", 71))
        harness.model.script = {}
        events = await ended(harness)
        output = events[-1]["response"]["output"]
        assert ["reasoning", "message"] == [item["type"] for item in output]
        assert ("Well. " + TEXT, [CONTINUED]) == (said(events), kinds(events))
        assert ["user", "assistant"] == [m["role"] for m in harness.model.calls[1].body["messages"]]


async def test_an_endpoint_that_is_away_leaves_the_answer_to_a_fallback(going: Going) -> None:
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


async def test_an_endpoint_that_is_away_goes_on_later_if_there_is_no_fallback(
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


async def test_an_encrypted_text_goes_on(going: Going, redis_url: str) -> None:
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


LONG = "A text of more than thirty-two characters, which is "
MESSAGE: Event = {
    "type": "response.output_item.added",
    "output_index": 1,
    "item": {
        "id": "msg_1",
        "type": "message",
        "status": "in_progress",
        "role": "assistant",
        "content": [{"type": "output_text", "text": LONG, "annotations": [], "logprobs": []}],
    },
}


def before(kind: str, *, done: bool = True) -> Event:
    """Returns the event of an item of this type before the message."""
    event = f"response.output_item.{'done' if done else 'added'}"
    return {"type": event, "output_index": 0, "item": {"id": "x", "type": kind, "content": []}}


def with_part(**changes: Any) -> Event:
    part = MESSAGE["item"]["content"][0] | changes
    return MESSAGE | {"item": MESSAGE["item"] | {"content": [part]}}


REFUSED = MESSAGE["item"]["content"][0], {"type": "refusal", "refusal": "No."}


@pytest.mark.parametrize(
    ("events", "goes_on"),
    [
        ([MESSAGE], True),
        ([before("reasoning"), MESSAGE], True),
        ([], False),
        ([before("reasoning", done=False)], False),
        ([before("reasoning", done=False), MESSAGE], False),
        ([before("function_call"), MESSAGE], False),
        ([before("message"), MESSAGE], False),
        ([before("compaction"), MESSAGE], False),
        ([MESSAGE | {"type": "response.output_item.done"}], False),
        ([with_part(annotations=[{"type": "url_citation"}])], False),
        ([with_part(logprobs=[{"token": "A"}])], False),
        ([with_part(type="refusal", refusal=LONG)], False),
        ([MESSAGE | {"item": MESSAGE["item"] | {"content": [*REFUSED]}}], False),
        ([with_part(text="Short.")], False),
        ([with_part(text=" \n" * 40)], False),
    ],
)
def test_only_one_unfinished_text_goes_on(events: list[Event], goes_on: bool) -> None:
    job = Job("resp_1", "me", 1, {"model": "m", "input": "hi"})
    assert goes_on == (continuation(job, ResponseState(events), Checkpoint("m")) is not None)


@pytest.mark.parametrize("status", [400, 422, 500])
async def test_a_refused_request_begins_again_at_once(going: Going, status: int) -> None:
    async with going("vllm", HOLDLINE_MAX_ATTEMPTS="2") as harness:
        model = harness.model
        model.script, model.status = {"at": 13}, status
        await lose(await start(harness, f"mode=continuing tokens={TOKENS}"))
        model.script = {}
        model.refuse = lambda body: (
            {"message": "Extra inputs are not permitted", "param": "continue_final_message"}
            if "continue_final_message" in body
            else None
        )
        await harness.execution(await harness.claim()).run()
        events = await harness.events(harness.only)
        assert TEXT == said(events)
        assert [CONTINUED, RESTARTED] == kinds(events)
        assert 2 == response(events)["holdline"]["attempts"] == len(model.calls)


SCHEMA = {"type": "json_schema", "name": "s", "schema": {"type": "object"}}
TOOLS = [{"type": "function", "name": "f", "parameters": {}, "strict": False}]


@pytest.mark.parametrize(
    "params",
    [
        {"text": {"format": SCHEMA}},
        {"text": {"format": {"type": "json_object"}}},
        {"include": ["message.output_text.logprobs"]},
        {"tools": TOOLS, "tool_choice": "required"},
        {"tools": TOOLS, "tool_choice": {"type": "function", "name": "f"}},
        {"metadata": {"holdline_on_worker_death": "restart"}},
        {"holdline_stop": ["END", TEXT[62:65] + "!"]},
    ],
    ids=["json-schema", "json", "logprobs", "required", "function", "policy", "stop-word"],
)
async def test_some_requests_begin_again(going: Going, params: dict[str, Any]) -> None:
    async with going() as harness:
        harness.model.script = {"at": 13}
        await lose(await start(harness, f"mode=continuing tokens={TOKENS}", **params))
        harness.model.script = {}
        events = await ended(harness)
        assert TEXT == said(events)
        assert [RESTARTED] == kinds(events)
        assert 2 == response(events)["holdline"]["attempts"]


async def test_another_model_of_the_same_name_begins_again(going: Going) -> None:
    """The models file changes between two workers."""
    async with going(more='model = "old"') as harness, going(more='model = "new"') as changed:
        harness.model.script = {"at": 13}
        await lose(await start(harness, f"mode=continuing tokens={TOKENS}"))
        harness.model.script, changed.ids = {}, harness.ids
        events = await ended(changed)
        assert (TEXT, [CONTINUED, RESTARTED]) == (said(events), kinds(events))
        first, second = harness.model.calls
        assert ("old", "new") == (first.body["model"], second.body["model"])
        assert ["user"] == [message["role"] for message in second.body["messages"]]


async def test_a_short_text_begins_again(going: Going) -> None:
    async with going() as harness:
        harness.model.script = {"at": 6}
        await lose(await start(harness, f"mode=continuing tokens={TOKENS}", 30))
        harness.model.script = {}
        events = await ended(harness)
        assert (TEXT, [RESTARTED]) == (said(events), kinds(events))


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


async def test_a_cancellation_ends_a_text_that_goes_on(going: Going) -> None:
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


async def test_a_steer_ends_a_text_that_goes_on(going: Going) -> None:
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
