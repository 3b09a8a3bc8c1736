"""Tests answers that restart, because their text cannot be continued with certainty."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from jobs.checkpoint import Checkpoint
from jobs.log.codec import Event
from jobs.log.events import CONTINUED, RESTARTED, output_text
from jobs.log.response_state import ResponseState
from jobs.names import names_of
from jobs.record import Job
from tests.fake_continuing import RUDE
from tests.fake_model import FakeModel
from tests.system import wait_until
from tests.worker.conftest import MakeHarness
from tests.worker.continuing import TEXT, TOKENS, Going, ended, kinds, lose, start
from tests.worker.harness import numbered, response, said
from worker.continuing import continuation


@pytest.mark.parametrize("rude", RUDE)
async def test_an_answer_that_is_not_continued_restarts(going: Going, rude: str) -> None:
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
    ("events", "continues"),
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
def test_only_a_single_unfinished_text_is_continued(events: list[Event], continues: bool) -> None:
    job = Job("resp_1", "me", 1, {"model": "m", "input": "hi"})
    assert continues == (continuation(job, ResponseState(events), Checkpoint("m")) is not None)


@pytest.mark.parametrize("status", [400, 422, 500])
async def test_a_refused_request_restarts_at_once(going: Going, status: int) -> None:
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
async def test_some_requests_restart(going: Going, params: dict[str, Any]) -> None:
    async with going() as harness:
        harness.model.script = {"at": 13}
        await lose(await start(harness, f"mode=continuing tokens={TOKENS}", **params))
        harness.model.script = {}
        events = await ended(harness)
        assert TEXT == said(events)
        assert [RESTARTED] == kinds(events)
        assert 2 == response(events)["holdline"]["attempts"]


async def test_another_model_of_the_same_name_restarts(going: Going) -> None:
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


async def test_a_text_restarts_if_redis_may_have_lost_a_part_of_it(going: Going) -> None:
    async with going() as harness:
        harness.model.script = {"at": 13}
        await lose(await start(harness, f"mode=continuing tokens={TOKENS}"))
        key = names_of(harness.only).job(harness.only)
        await harness.context.pipe.call("HSET", key, "history", "of-another-master")
        harness.model.script = {}
        events = await ended(harness)
        assert (TEXT, [RESTARTED]) == (said(events), kinds(events))


BACKGROUND = """
[models.m]
base_url = "{url}"
api = "responses"
background = true
"""


def background(model: FakeModel, folder: Path) -> str:
    """Writes a models file whose model generates in the background, and returns its path."""
    path = folder / "models.toml"
    path.write_text(BACKGROUND.format(url=model.url))
    return str(path)


async def test_another_response_does_not_replace_an_answer_without_output(
    make_harness: MakeHarness, model: FakeModel, tmp_path: Path
) -> None:
    """No text in the log contradicts the response, so only its id shows that it is another one."""
    async with make_harness(HOLDLINE_MODELS=background(model, tmp_path)) as harness:
        await harness.submit("mode=late after=0.3 tokens=5")
        running = asyncio.create_task(harness.execution(await harness.claim()).run())
        key = names_of(harness.only).job(harness.only)
        await wait_until(lambda: harness.context.pipe.call("HEXISTS", key, "checkpoint"))
        await lose(running)
        model.background.rude = "other_document"
        events = await ended(harness)
        assert (numbered(2, 5), [RESTARTED]) == (said(events), kinds(events))


async def test_a_background_answer_restarts_if_redis_may_have_lost_a_part_of_it(
    make_harness: MakeHarness, model: FakeModel, tmp_path: Path
) -> None:
    """The client may have received the lost entries, and must recognize that others follow."""
    async with make_harness(HOLDLINE_MODELS=background(model, tmp_path)) as harness:
        await lose(await start(harness, "mode=slow tokens=20 pace=0.03", 1))
        key = names_of(harness.only).job(harness.only)
        assert await harness.context.pipe.call("HGET", key, "history")
        await harness.context.pipe.call("HSET", key, "history", "of-another-master")
        events = await ended(harness)
        assert (numbered(2, 20), [RESTARTED]) == (said(events), kinds(events))
        added = [e for e in events if e["type"] == "response.output_item.added"]
        assert 2 == len({event["item"]["id"] for event in added})
        assert [True, False] == [one.cancelled for one in model.background.stored.values()]


async def test_a_short_text_restarts(going: Going) -> None:
    async with going() as harness:
        harness.model.script = {"at": 6}
        await lose(await start(harness, f"mode=continuing tokens={TOKENS}", 30))
        harness.model.script = {}
        events = await ended(harness)
        assert (TEXT, [RESTARTED]) == (said(events), kinds(events))
