"""Tests that provider-specific data in an answer is sent back unchanged in the next turn."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from jobs.record import Job
from server.api.items import stored
from server.api.request import parse_create
from tests.replay import ReplayedEndpoint
from tests.worker.conftest import MakeHarness
from tests.worker.recording_sink import RecordingSink
from tests.worker.toolboxes import toolbox_of
from worker.output import Output
from worker.upstream.chat.chunks import ChatChunkReader
from worker.upstream.chat.messages import messages
from worker.upstream.chat.request import completion
from worker.upstream.deltas import Reported, Stopped, Usage
from worker.upstream.responses.request import request

from . import chat_rules

Json = dict[str, Any]
SIGNED = {"google": {"thought_signature": "QUJD", "é": [1, None, 1.5]}}
TOOLS = [{"type": "function", "name": "get_weather", "parameters": {"type": "object"}}]
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "sun"}
Through = Callable[[list[Json]], list[Json]]


def kept(items: list[Json]) -> list[Json]:
    """Returns the items as a request with `previous_response_id` loads them."""
    return items


def sent_back(items: list[Json]) -> list[Json]:
    """Returns the items as they arrive from a client that stored and resent them."""
    create = parse_create({"model": "m", "input": json.loads(json.dumps(items))})
    return stored(create.items, lambda prefix, index: f"{prefix}_{index}")


def stream(*deltas: Json, reason: str = "tool_calls") -> bytes:
    choices: list[Json] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": reason})
    chunks = [json.dumps({"object": "chat.completion.chunk", "choices": [one]}) for one in choices]
    return "".join(f"data: {chunk}\n\n" for chunk in [*chunks, "[DONE]"]).encode()


def whole(message: Json) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant"} | message, "finish_reason": "tool_calls"}
    body = json.dumps({"object": "chat.completion", "choices": [choice]}).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return f"{head}\r\nconnection: close\r\n\r\n".encode() + body


def calling(**more: Any) -> Json:
    function = {"name": "get_weather", "arguments": '{"city":"Bern"}'}
    call = {"index": 0, "id": "call_1", "type": "function", "function": function}
    return {"tool_calls": [call | more]}


async def next_turn(make_harness: MakeHarness, reply: bytes, through: Through) -> list[Json]:
    """Returns the messages of the next turn, which contains the result of the reply's call."""
    async with (
        ReplayedEndpoint([reply]) as endpoint,
        make_harness(OPENAI_BASE_URL=endpoint.url) as harness,
    ):
        await harness.execute("weather?", tools=TOOLS)
        output = (await harness.events(harness.only))[-1]["response"]["output"]
    asked = through([{"type": "message", "role": "user", "content": "weather?"}, *output, RESULT])
    job = Job("resp_x", "me", 0, {"input": asked})
    shown: list[Json] = completion(job, default_model="m")["messages"]
    chat_rules.check(shown)
    assert ["user", "assistant", "tool"] == [message["role"] for message in shown]
    return shown


SIGNATURES = {
    "with the call": stream(calling(extra_content=SIGNED)),
    "after the call": stream(calling(), {"tool_calls": [{"index": 0, "extra_content": SIGNED}]}),
    "whole": whole(calling(extra_content=SIGNED)),
}


@pytest.mark.parametrize("through", [kept, sent_back])
@pytest.mark.parametrize("reply", SIGNATURES)
async def test_the_signature_of_a_call_is_sent_back(
    make_harness: MakeHarness, reply: str, through: Through
) -> None:
    shown = await next_turn(make_harness, SIGNATURES[reply], through)
    assert SIGNED == shown[1]["tool_calls"][0]["extra_content"]


@pytest.mark.parametrize("through", [kept, sent_back])
async def test_text_after_a_call_is_sent_before_the_result_of_the_call(
    make_harness: MakeHarness, through: Through
) -> None:
    shown = await next_turn(make_harness, stream(calling(), {"content": "\n"}), through)
    assert "\n" == shown[1]["content"]


def test_a_call_id_that_contains_a_signature_is_sent_back() -> None:
    # The form of a call id created by LiteLLM.
    id_ = "call_1__thought__" + "A" * 4000
    call = {"type": "function_call", "call_id": id_, "name": "f", "arguments": "{}"}
    said, result = messages(sent_back([call, RESULT | {"call_id": id_}]))
    assert [id_, id_] == [said["tool_calls"][0]["id"], result["tool_call_id"]]


THOUGHT = [{"reasoning_content": "I "}, {"reasoning_content": "think."}]
REASONED = {
    "in pieces": (stream(*THOUGHT, calling()), "I think."),
    "with text": (stream(*THOUGHT, {"content": "Hm."}, calling()), "I think."),
    "whole": (whole({"reasoning_content": "I think."} | calling()), "I think."),
    "in another field": (stream({"reasoning": "I think."}, calling()), None),
}
ENCRYPTED = {"type": "reasoning.encrypted", "data": "QUJD", "id": "call_1", "index": 1}


def detail(index: int | None = 0, **fields: Any) -> Json:
    placed = {} if index is None else {"index": index}
    return {"reasoning_details": [{"type": "reasoning.text", **fields, **placed}]}


def thought(**fields: Any) -> Json:
    return {"type": "reasoning.text", "text": "I think.", **fields}


DETAILED: dict[str, tuple[list[Json], list[Json]]] = {
    # OpenRouter sends the text in two fields at once, the signature at the end, and data after the
    # call.
    "in pieces": (
        [
            {"reasoning": "I "} | detail(text="I ", format="anthropic-claude-v1"),
            {"reasoning": "think."} | detail(text="think.", format="anthropic-claude-v1"),
            detail(signature="c2ln"),
            calling(),
            {"content": "", "reasoning_details": [ENCRYPTED]},
        ],
        [thought(format="anthropic-claude-v1", index=0, signature="c2ln"), ENCRYPTED],
    ),
    "without an index": (
        [detail(None, text="I "), detail(None, text="think."), calling()],
        [thought()],
    ),
    # MiniMax repeats the text received so far.
    "repeated": (
        [
            detail(text="I ", format="MiniMax-response-v1"),
            detail(text="I think.", format="MiniMax-response-v1"),
            calling(),
        ],
        [thought(format="MiniMax-response-v1", index=0)],
    ),
    "two of a kind": (
        [
            {"reasoning_details": [ENCRYPTED, ENCRYPTED | {"data": "REVG"}]},
            calling(extra_content=SIGNED),
        ],
        [ENCRYPTED, ENCRYPTED | {"data": "REVG"}],
    ),
}


@pytest.mark.parametrize("through", [kept, sent_back])
@pytest.mark.parametrize("reply", DETAILED)
async def test_reasoning_details_are_sent_back_with_their_call(
    make_harness: MakeHarness, reply: str, through: Through
) -> None:
    deltas, details = DETAILED[reply]
    shown = await next_turn(make_harness, stream(*deltas), through)
    assert details == shown[1]["reasoning_details"]
    signed = shown[1]["tool_calls"][0].get("extra_content")
    assert signed == (SIGNED if reply == "two of a kind" else None)


async def test_reasoning_is_sent_back_in_the_field_it_came_in(make_harness: MakeHarness) -> None:
    sent, _ = REASONED["in another field"]
    assert "I think." == (await next_turn(make_harness, sent, sent_back))[1]["reasoning"]


def whole_turn(*deltas: Json, maker: str) -> list[Json]:
    """Returns the items of an answer by the model `maker`, and the result of its call."""
    functions = frozenset({"get_weather"})
    reader, log = ChatChunkReader(functions), RecordingSink()
    output = Output(log, "{}_{}".format, index=0, most=100_000, toolbox=toolbox_of(*functions))
    output.maker = maker
    for line in stream(*deltas).split(b"\n\n")[:-2]:
        for piece in reader.read(line.removeprefix(b"data: ")):
            if not isinstance(piece, Stopped | Usage | Reported):
                output.take(piece)
    return [*output.end(completed=True), RESULT]


def test_provider_data_is_sent_only_to_the_model_that_produced_it() -> None:
    for deltas, names in (
        ([*THOUGHT, calling(extra_content=SIGNED)], {"reasoning_content"}),
        (DETAILED["in pieces"][0], {"reasoning", "reasoning_details"}),
    ):
        asked = {"type": "message", "role": "user", "content": "weather?"}
        items = sent_back([asked, *whole_turn(*deltas, maker="one")])
        for named, to, goes in (
            ("one", "one", True),
            # The call goes to a fallback model, which did not produce these history items.
            ("one", "two", False),
            ("two", "two", False),
            # The call goes to a fallback model, the same one that produced these history items.
            ("two", "one", True),
        ):
            job = Job("resp_x", "me", 0, {"model": named, "input": items})
            told = completion(job, default_model="m", asked=to)["messages"][1]
            assert {"role", "content", "tool_calls"} | (names if goes else set()) == told.keys()
            call = told["tool_calls"][0]
            assert ("extra_content" in call) == (goes and "reasoning_content" in names)
            assert "holdline" not in json.dumps(told)


def test_provider_data_of_unknown_origin_is_sent_to_the_requested_model() -> None:
    call = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
    items = [call | {"extra_content": SIGNED}, RESULT]
    job = Job("resp_x", "me", 0, {"model": "one", "input": items})
    for to, extra in (("one", SIGNED), ("two", None)):
        told = completion(job, default_model="m", asked=to)["messages"][0]["tool_calls"][0]
        assert extra == told.get("extra_content")


@pytest.mark.parametrize("through", [kept, sent_back])
@pytest.mark.parametrize("reply", REASONED)
async def test_reasoning_content_is_sent_back_with_its_call(
    make_harness: MakeHarness, reply: str, through: Through
) -> None:
    sent, thought = REASONED[reply]
    assert thought == (await next_turn(make_harness, sent, through))[1].get("reasoning_content")


def test_reasoning_without_a_call_is_not_sent_back() -> None:
    parts = [{"type": "reasoning_text", "text": "I think."}]
    thought = {"type": "reasoning", "content": parts, "holdline_field": "reasoning_content"}
    said = {"type": "message", "role": "assistant", "content": "So."}
    asked = {"type": "message", "role": "user", "content": "And?"}
    call = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
    shown = messages([thought, said, asked, call, RESULT, thought, call, RESULT])
    assert [None, None, None, None, "I think.", None] == [
        message.get("reasoning_content") for message in shown
    ]


async def test_provider_data_is_bounded_in_size(make_harness: MakeHarness) -> None:
    reply = stream(calling(extra_content={"google": "x" * 70_000}))
    async with (
        ReplayedEndpoint([reply]) as endpoint,
        make_harness(OPENAI_BASE_URL=endpoint.url, HOLDLINE_MAX_OUTPUT_BYTES="1000") as harness,
    ):
        await harness.execute("weather?", tools=TOOLS)
        response = (await harness.events(harness.only))[-1]["response"]
    assert "output_too_long" in json.dumps(response)


def test_the_phase_of_a_message_is_passed_on_to_the_responses_api() -> None:
    parts = [{"type": "output_text", "text": "Let me look."}]
    message = {"type": "message", "role": "assistant", "phase": "commentary", "content": parts}
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    items = sent_back([message, call | {"extra_content": SIGNED}])
    job = Job("resp_x", "me", 0, {"input": items})
    sent = request(job, model="m")["input"]
    assert ("commentary", call) == (sent[0]["phase"], sent[1])
    assert "phase" not in completion(job, default_model="m")["messages"][0]
