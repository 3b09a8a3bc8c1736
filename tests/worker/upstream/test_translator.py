"""Tests that a Responses upstream's items are passed on with new ids, numbers and messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.log.codec import decode_event, encode_event
from jobs.log.response_state import ResponseState
from jobs.record import Job, Status
from tests.fake_model import FakeModel
from tests.fake_responses import SECRET
from tests.worker.conftest import MakeHarness
from tests.worker.harness import Harness, response, said
from tests.worker.toolboxes import toolbox_of
from worker.output import NotAllowed, Output
from worker.upstream.deltas import ErrorInStream, Malformed, TooLong, UpstreamEvent
from worker.upstream.responses.events import ResponsesEventReader
from worker.upstream.responses.request import request
from worker.upstream.tool_calls import NOT_EXECUTED

F: dict[str, Any] = {"type": "function", "name": "f", "parameters": {}, "strict": None}


@pytest.fixture
def models(tmp_path: Path, model: FakeModel) -> str:
    path = tmp_path / "models.toml"
    path.write_text(
        f'[models.m]\nbase_url = "{model.url}"\napi = "responses"\nmodel = "up"\n'
        f'[models.late]\nbase_url = "{model.url}"\napi = "responses"\n'
        "first_token_seconds = 0.3\n"
        f'[models.stalled]\nbase_url = "{model.url}"\napi = "responses"\n'
        "stall_timeout_seconds = 0.3\n"
        f'[models.chat]\nbase_url = "{model.url}"\n'
        f'[models.first]\nbase_url = "{model.url}"\napi = "responses"\n'
        'first_token_seconds = 0.3\nfallbacks = ["chat"]\n'
    )
    return str(path)


async def run(
    make_harness: MakeHarness, models: str, prompt: str, **more: Any
) -> tuple[Harness, Any]:
    async with make_harness(HOLDLINE_MODELS=models) as harness:
        view = await harness.execute(prompt, **more)
        assert "resp_upstream" not in str(view.entries)
        assert SECRET not in str(view.entries)
        return harness, await harness.events(harness.only)


async def test_a_text_answer_is_translated(
    make_harness: MakeHarness, models: str, model: FakeModel
) -> None:
    _, events = await run(make_harness, models, "hi")
    answer = response(events)
    assert "completed" == answer["status"]
    assert model.calls[0].sent == said(events)
    assert (7, 9, 16, 2, 3) == (
        answer["usage"]["input_tokens"],
        answer["usage"]["output_tokens"],
        answer["usage"]["total_tokens"],
        answer["usage"]["input_tokens_details"]["cached_tokens"],
        answer["usage"]["output_tokens_details"]["reasoning_tokens"],
    )
    body = model.calls[0].body
    assert ("up", True, False) == (body["model"], body["stream"], body["store"])
    [item] = answer["output"]
    assert item["id"].startswith("msg_")
    assert not item["id"].startswith("msg_up")
    assert "final_answer" == item["phase"], "what is not known here passes"
    assert {item["id"]} == {event["item_id"] for event in events if "item_id" in event}


async def test_all_types_of_items_are_translated_unchanged(
    make_harness: MakeHarness, models: str
) -> None:
    _, events = await run(make_harness, models, "mode=rich", tools=[F])
    answer = events[-1]["response"]
    thought, odd, call, message = answer["output"]
    assert ("Hm.", "opaque") == (thought["summary"][0]["text"], thought["encrypted_content"])
    assert ("odd_call", {"query": "q"}, "none") == (odd["type"], odd["action"], odd["content"])
    assert ("call_up", "f", '{"a": 1}') == (call["call_id"], call["name"], call["arguments"])
    assert ["rs", "odd", "fc", "msg"] == [item["id"].split("_")[0] for item in answer["output"]]
    [searching] = [e for e in events if e["type"] == "response.odd_call.searching"]
    assert (odd["id"], 1, {"a": [1]}) == (
        searching["item_id"],
        searching["output_index"],
        searching["what"],
    )
    assert not {"sequence_number", "obfuscation"} & {name for event in events for name in event}
    assert "_up" not in json.dumps(events).replace("call_up", "")
    assert answer["output"] == ResponseState(events[:-1]).output
    spoken = [e["delta"] for e in events if e["type"] == "response.output_text.delta"]
    assert message["content"][0]["text"] == "".join(spoken)


@pytest.mark.parametrize(
    ("mode", "status", "reason"),
    [
        ("length", Status.INCOMPLETE, "max_output_tokens"),
        ("filtered", Status.INCOMPLETE, "content_filter"),
        ("invalid", Status.FAILED, "upstream_rejected"),
        ("400", Status.FAILED, "upstream_rejected"),
        ("401", Status.FAILED, "upstream_unauthorized"),
        ("404", Status.FAILED, "upstream_model_not_found"),
        ("failed", Status.QUEUED, "upstream_error"),
        ("limited", Status.QUEUED, "upstream_busy"),
        ("errorevent", Status.QUEUED, "upstream_error"),
        ("eof", Status.QUEUED, "upstream_truncated"),
        ("503", Status.QUEUED, "upstream_busy"),
        ("begun", Status.QUEUED, "upstream_timeout"),
        ("hang", Status.QUEUED, "upstream_stalled"),
        ("unknownitem", Status.QUEUED, "upstream_malformed"),
        ("chat", Status.QUEUED, "upstream_malformed"),
        ("html", Status.QUEUED, "upstream_malformed"),
    ],
)
async def test_each_end_of_the_stream_leads_to_its_status(
    make_harness: MakeHarness, models: str, mode: str, status: Status, reason: str
) -> None:
    short = {"begun": "late", "hang": "stalled"}.get(mode, "m")
    harness, events = await run(make_harness, models, f"mode={mode}", model=short)
    view = await harness.view(harness.only)
    assert status is view.status
    if status is Status.QUEUED:
        assert reason == view.reason
        return
    answer = response(events)
    found = answer["error"] or answer["incomplete_details"]
    assert reason == found.get("code", found.get("reason"))
    assert ["incomplete"] * len(answer["output"]) == [i["status"] for i in answer["output"]]


async def test_a_broken_stream_is_restarted_and_never_spliced(
    make_harness: MakeHarness, models: str, model: FakeModel
) -> None:
    _, events = await run(make_harness, models, "mode=eof times=1", attempts=2)
    answer = response(events)
    assert model.calls[1].sent == said(events)
    assert (2, "completed") == (answer["holdline"]["attempts"], answer["status"])
    added = [e for e in events if e["type"] == "response.output_item.added"]
    assert [0, 1] == [event["output_index"] for event in added]
    assert 2 == len({event["item"]["id"] for event in added})


async def test_a_fallback_answers_if_an_item_has_started_without_content(
    make_harness: MakeHarness, models: str, model: FakeModel
) -> None:
    _, events = await run(make_harness, models, "mode=begun times=1", model="first")
    answer = response(events)
    assert ("chat", "completed") == (answer["holdline"]["model"], answer["status"])
    assert ["message"] == [item["type"] for item in answer["output"]]
    assert "messages" in model.calls[1].body


async def test_output_beyond_the_limit_is_truncated(make_harness: MakeHarness, models: str) -> None:
    async with make_harness(HOLDLINE_MODELS=models, HOLDLINE_MAX_OUTPUT_BYTES="10") as harness:
        await harness.execute("hi")
        answer = response(await harness.events(harness.only))
        assert ("output_too_long", 10) == (answer["error"]["code"], answer["holdline"]["bytes"])


async def test_a_call_of_a_disallowed_function_is_not_passed_on(
    make_harness: MakeHarness, models: str
) -> None:
    harness, events = await run(make_harness, models, "mode=rich")
    assert "tool_not_allowed" == (await harness.view(harness.only)).reason
    assert "function_call" not in [event.get("item", {}).get("type") for event in events]


def test_a_request_is_forwarded_nearly_unchanged() -> None:
    user = {"id": "msg_1", "type": "message", "status": "completed", "role": "user"}
    text = {"type": "input_text", "text": "x"}
    image = {"type": "input_image", "image_url": "https://h/i.png", "detail": "auto"}
    answer = {"type": "output_text", "text": "y", "annotations": [], "logprobs": []}
    context: list[dict[str, Any]] = [
        {**user, "content": [text]},
        {"id": "rs_1", "type": "reasoning", "status": "completed", "summary": []},
        {"id": "rs_2", "type": "reasoning", "summary": [], "encrypted_content": "opaque"},
        {**user, "role": "assistant", "content": [answer]},
        {**user, "role": "assistant", "content": []},
        {"id": "odd_1", "type": "odd_call", "status": "completed"},
    ]
    call = {"type": "function_call_output", "call_id": "c", "output": "z"}
    params = {
        "model": "m",
        "input": [{**call, "id": "fco_1", "status": "completed"}, {**user, "content": [image]}],
        "tools": [F],
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [F]},
        "reasoning": {"effort": "low", "summary": None},
        "metadata": {"a": "b"},
        "store": True,
        "service_tier": "flex",
        "presence_penalty": 0.5,
    }
    found = request(Job("resp_1", "me", 1, params, context), model="up")
    assert [
        {"type": "message", "role": "user", "content": [text]},
        {"type": "reasoning", "summary": [], "encrypted_content": "opaque"},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "y", "annotations": []}],
        },
        {"id": "odd_1", "type": "odd_call", "status": "completed"},
        call,
        {"type": "message", "role": "user", "content": [image]},
    ] == found.pop("input")
    function = {"type": "function", "name": "f", "parameters": {}}
    assert {
        "model": "up",
        "stream": True,
        "store": False,
        "tools": [function],
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [function]},
        "reasoning": {"effort": "low"},
        "presence_penalty": 0.5,
    } == found


def test_each_call_is_sent_once_and_with_a_result() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    cut = {**call, "call_id": "d", "arguments": '{"a', "status": "incomplete"}
    user = {"type": "message", "role": "user", "content": "x"}
    answer = {"type": "function_call_output", "call_id": "c", "output": NOT_EXECUTED}
    result = {**answer, "output": "y"}
    for items, sent in (
        ([call, user], [call, answer, user]),
        ([cut, user], [user]),
        ([call, user, result], [call, user, result]),
        ([call, call, result], [call, result]),
    ):
        job = Job("resp_1", "me", 1, {"input": items})
        assert sent == request(job, model="up")["input"]


def test_nulls_in_a_schema_are_kept() -> None:
    schema = {"type": ["string", "null"], "const": None}
    tool = {"type": "function", "name": "f", "description": None, "parameters": schema}
    form = {"type": "json_schema", "name": "n", "schema": schema, "strict": None}
    params = {"input": "x", "tools": [tool], "text": {"format": form, "verbosity": None}}
    found = request(Job("resp_1", "me", 1, params), model="up")
    assert [{"type": "function", "name": "f", "parameters": schema}] == found["tools"]
    assert {"type": "json_schema", "name": "n", "schema": schema} == found["text"]["format"]


class Kept:
    """A sink that encodes each event as for a log, and keeps the decoded result."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def add(self, *events: Any) -> None:
        self.events += [decode_event(encode_event(event)) for event in events]

    def add_text(self, place: Any, text: str, logprobs: Any = None) -> None:
        self.add({"type": f"{place.event}.delta", **place.fields, "delta": text})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=2)
)
KINDS = st.sampled_from(
    [
        "output_item.added",
        "output_item.done",
        "content_part.added",
        "output_text.delta",
        "function_call_arguments.delta",
        "reasoning_summary_part.added",
        "odd",
        "completed",
        "failed",
        "output_text.annotation.added",
        "reasoning_summary_text.delta",
    ]
)
ITEM = st.fixed_dictionaries(
    {"type": st.sampled_from(["message", "reasoning", "function_call", "odd"])},
    optional={
        "id": JSON,
        "content": JSON,
        "summary": JSON,
        "name": st.sampled_from(["f", "forbidden"]),
        "arguments": JSON,
    },
)
EVENT = st.fixed_dictionaries(
    {"type": KINDS.map(lambda kind: f"response.{kind}")},
    optional={
        "output_index": st.integers(0, 1),
        "item": ITEM | JSON,
        "item_id": JSON,
        "content_index": st.integers(0, 1),
        "summary_index": JSON,
        "delta": JSON,
        "part": JSON | st.just({"type": "output_text", "text": "", "annotations": []}),
        "annotation": JSON,
        "response": JSON,
    },
)


@given(st.lists(EVENT, max_size=8))
@example(
    [
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {"type": "function_call"},
        },
        {"type": "response.odd", "output_index": 0},
    ]
)
@example(
    [
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {"type": "function_call", "name": "forbidden"},
        },
        {"type": "response.odd", "output_index": 0},
    ]
)
def test_any_upstream_events_are_translated_or_malformed(events: list[Any]) -> None:
    """If the events are accepted, the output events can also be accumulated and completed."""
    sink, reader = Kept(), ResponsesEventReader()
    output = Output(sink, "{}_{}".format, index=0, most=1000, toolbox=toolbox_of("f"))
    try:
        for event in events:
            for piece in reader.read(json.dumps(event).encode()):
                if isinstance(piece, UpstreamEvent):
                    output.take(piece)
    except (Malformed, ErrorInStream, TooLong, NotAllowed):
        pass
    ended = output.end(completed=False)
    state = ResponseState(sink.events)
    assert ended == state.output
    assert not state.close()  # each item that was added has ended
