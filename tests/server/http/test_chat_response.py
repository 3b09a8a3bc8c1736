"""Tests the translation of responses and their events to chat completions."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from jobs.log import items
from jobs.log.codec import Event, encode_event
from jobs.log.events import lifecycle, restarted, terminal
from jobs.record import Status
from server.api.frames import Frame, frame
from server.http.chat_response import Chunks, completion, failure
from tests.error_codes import own_code
from tests.jobs.factories import a_job, opening

JOB = a_job()
USAGE = {
    "input_tokens": 7,
    "input_tokens_details": {"cached_tokens": 1},
    "output_tokens": 3,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 10,
}
LOGPROB = {"token": "So", "bytes": [83, 111], "logprob": -0.5, "top_logprobs": []}


def saying(number: int, kind: str, *pieces: str, **more: Any) -> tuple[list[Event], items.Item]:
    """Returns an item with one part, preceded by its events."""
    item_kind = "reasoning" if kind == "reasoning_text" else "message"
    make = items.reasoning if item_kind == "reasoning" else items.message
    place = items.Place(kind, f"x_{number}", number)
    events = [
        items.added(number, make(f"x_{number}", "in_progress", [])),
        items.part_added(place),
        *(items.delta(place, piece, **more) for piece in pieces),
    ]
    part = items.part_of(kind, "".join(pieces)) | more
    item = make(f"x_{number}", "completed", [part])
    return [*events, *items.done(number, item)], item


def calling(number: int, name: str, *pieces: str) -> tuple[list[Event], items.Item]:
    place = items.Place(items.ARGUMENTS, f"fc_{number}", number)
    begun = items.function_call(f"fc_{number}", "in_progress", f"call_{number}", name, "")
    item = items.function_call(f"fc_{number}", "completed", f"call_{number}", name, "".join(pieces))
    return [
        items.added(number, begun),
        *(items.delta(place, piece) for piece in pieces),
        *items.done(number, item),
    ], item


def an_answer(
    *said: tuple[list[Event], items.Item], status: Status = Status.COMPLETED, **more: Any
) -> list[Event]:
    end = terminal(
        JOB,
        status,
        output=[item for _, item in said],
        attempts=1,
        timing={},
        completed_at=1,
        usage=USAGE,
        **more,
    )
    events = [event for events, _ in said for event in events]
    return [*opening(JOB), lifecycle(JOB, "response.in_progress", "in_progress"), *events, end]


def frames(events: list[Event]) -> list[Frame]:
    return [frame(number, encode_event(event)) for number, event in enumerate(events)]


def told(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(each.removeprefix(b"data: ")) for each in data.split(b"\n\n") if each]


def chunks_of(events: list[Event], *, usage: bool = False, cuts: int = 1) -> list[dict[str, Any]]:
    """Returns all chunks for events that arrive in `cuts` batches."""
    chunks, ready = Chunks(usage=usage), frames(events)
    bounds = [len(ready) * n // cuts for n in range(cuts + 1)]
    batches = [ready[a:b] for a, b in pairwise(bounds) if ready[a:b]]
    return told(b"".join(part for batch in batches for part in chunks.events(batch)))


def folded(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the completion that a plain chat client accumulates from chunks."""
    message: dict[str, Any] = {"content": "", "refusal": "", "reasoning_content": "", "calls": []}
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)
        for choice in chunk["choices"]:
            for name, value in choice["delta"].items():
                if name == "tool_calls":
                    for call in value:
                        if call["index"] == len(message["calls"]):
                            message["calls"].append([call["id"], call["function"]["name"], ""])
                        message["calls"][call["index"]][2] += call["function"]["arguments"]
                elif name != "role":
                    message[name] += value or ""
            message["finish_reason"] = choice["finish_reason"]
    return message


EVERYTHING = an_answer(
    saying(0, "reasoning_text", "H", "m."),
    saying(1, "output_text", "So", " it is.", logprobs=[LOGPROB]),
    saying(2, "refusal", "No", " more."),
    calling(3, "f", '{"a"', ":1}"),
    calling(4, "g", "{}"),
)


@pytest.mark.parametrize("cuts", [1, 2, 5, 40])
def test_chunks_add_up_to_the_completion(cuts: int) -> None:
    message = folded(chunks_of(EVERYTHING, cuts=cuts))
    whole = completion(EVERYTHING[-1]["response"])
    ChatCompletion.model_validate(whole, strict=True)
    choice = whole["choices"][0]

    assert choice["message"]["content"] == message["content"] == "So it is."
    assert choice["message"]["refusal"] == message["refusal"] == "No more."
    assert choice["message"]["reasoning_content"] == message["reasoning_content"] == "Hm."
    assert (
        [
            [call["id"], call["function"]["name"], call["function"]["arguments"]]
            for call in choice["message"]["tool_calls"]
        ]
        == message["calls"]
        == [["call_3", "f", '{"a":1}'], ["call_4", "g", "{}"]]
    )
    assert choice["finish_reason"] == message["finish_reason"] == "tool_calls"
    assert [LOGPROB] == choice["logprobs"]["content"]


@pytest.mark.parametrize("known", [True, False], ids=["with the call", "later"])
def test_a_call_carries_the_data_of_its_provider(known: bool) -> None:
    extra = {"google": {"thought_signature": "QUJD"}}
    events, item = calling(0, "f", "{}")
    events[-1]["item"] = item = item | {"extra_content": extra}
    if known:
        events[0]["item"] |= {"extra_content": extra}
    answer = an_answer((events, item))
    told = [
        call["extra_content"]
        for chunk in chunks_of(answer)
        for call in chunk["choices"][0]["delta"].get("tool_calls", ())
        if "extra_content" in call
    ]
    (call,) = completion(answer[-1]["response"])["choices"][0]["message"]["tool_calls"]
    assert [extra] == told == [call["extra_content"]]


def test_chunk_ids_are_derived_from_the_response_id() -> None:
    ids = {chunk["id"] for chunk in chunks_of(EVERYTHING)}

    assert {JOB.id.replace("resp_", "chatcmpl-")} == ids


def test_usage_is_sent_in_the_last_chunk_only_if_requested() -> None:
    assert all("usage" not in chunk for chunk in chunks_of(EVERYTHING))
    *others, last = chunks_of(EVERYTHING, usage=True)
    assert {None} == {chunk["usage"] for chunk in others}
    assert [] == last["choices"]
    usage = last["usage"]
    assert (7, 3, 10) == tuple(
        usage[f"{name}_tokens"] for name in ("prompt", "completion", "total")
    )
    assert (1, 2) == (
        usage["prompt_tokens_details"]["cached_tokens"],
        usage["completion_tokens_details"]["reasoning_tokens"],
    )


@pytest.mark.parametrize(
    ("status", "more", "reason"),
    [
        (Status.COMPLETED, {}, "stop"),
        (Status.INCOMPLETE, {"incomplete": "max_output_tokens"}, "length"),
        (Status.INCOMPLETE, {"incomplete": "content_filter"}, "content_filter"),
    ],
)
def test_the_finish_reason_reflects_the_end_of_the_response(
    status: Status, more: dict[str, Any], reason: str
) -> None:
    events = an_answer(saying(0, "output_text", "So."), status=status, **more)

    assert reason == completion(events[-1]["response"])["choices"][0]["finish_reason"]
    assert reason == folded(chunks_of(events))["finish_reason"]


@pytest.mark.parametrize(
    ("status", "cause", "code", "http"),
    [
        (Status.FAILED, "upstream_input_too_long", "context_length_exceeded", 400),
        (Status.FAILED, "upstream_busy", "rate_limit_exceeded", 429),
        (Status.FAILED, "upstream_truncated", "server_error", 502),
        (Status.CANCELLED, "", "cancelled", 409),
    ],
)
def test_a_failed_response_ends_with_an_error_and_no_finish_reason(
    status: Status, cause: str, code: str, http: int
) -> None:
    error = {"code": cause, "message": "What to do."} if status is Status.FAILED else None
    events = an_answer(saying(0, "output_text", "So"), status=status, error=error)
    problem = failure(frames(events)[-1].event["response"])
    *before, last = chunks_of(events)

    assert problem is not None
    assert (code, http) == (problem.standard_code, problem.status)
    assert problem.error == last["error"]
    assert [None] == list({chunk["choices"][0]["finish_reason"] for chunk in before})


def again(*first: Event) -> list[Event]:
    """Returns the events of an answer whose first attempt produced output before a restart."""
    begun, _ = saying(0, "output_text", "Bad.")
    whole = an_answer(saying(1, "output_text", "Good."))
    return [*whole[:3], *(first or begun), restarted(JOB, 2, "worker_lost"), *whole[3:]]


def test_a_restart_before_the_first_chunk_is_invisible() -> None:
    assert "Good." == folded(chunks_of(again()))["content"]
    begun = lifecycle(JOB, "response.in_progress", "in_progress")
    assert "Good." == folded(chunks_of(again(begun), cuts=100))["content"]


def test_a_restart_in_mid_stream_ends_it_with_the_id_to_continue_from() -> None:
    *before, last = chunks_of(again(), cuts=100)

    assert "Bad." == folded(before)["content"]
    assert "answer_restarted" == own_code(last["error"])
    assert f"GET /v1/responses/{JOB.id}" in last["error"]["message"]


def test_a_call_with_arguments_in_one_event_is_sent() -> None:
    events, item = calling(0, "f", "{}")
    without = [event for event in events if not event["type"].endswith("arguments.delta")]

    assert [["call_0", "f", "{}"]] == folded(chunks_of(an_answer((without, item))))["calls"]
