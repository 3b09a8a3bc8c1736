"""Tests that deltas become items and events whose accumulation equals the final response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from jobs.log.codec import encode_event
from jobs.log.response_state import ResponseState
from tests.worker.recording_sink import RecordingSink
from tests.worker.toolboxes import toolbox_of
from worker.output import ITEM_BYTES, MIN_OTHER_BYTES, NotAllowed, Output
from worker.upstream.deltas import (
    Annotation,
    Call,
    OutputDelta,
    Reasoning,
    Refusal,
    Text,
    Thinking,
    TooLong,
    UpstreamEvent,
)

if TYPE_CHECKING:
    from collections.abc import Callable

EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
SOURCE = {
    "type": "url_citation",
    "url": "https://example.org",
    "title": "A",
    "start_index": 0,
    "end_index": 1,
}
PROBABLE = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}

said = st.text(min_size=1, max_size=5)
pieces = st.lists(
    st.builds(Text, said, st.none() | st.just([PROBABLE]))
    | st.builds(Refusal, said)
    | st.builds(Reasoning, said)
    | st.builds(
        Call,
        st.integers(0, 2),
        st.sampled_from(["", "call_1"]),
        st.sampled_from(["", "f", "g"]),
        st.text(max_size=5),
    )
    | st.just(Annotation(SOURCE))
    | st.just(Thinking([{"type": "reasoning.encrypted", "data": "x"}])),
    max_size=20,
)


def output(log: RecordingSink, most: int = 10_000, index: int = 0) -> Output:
    return Output(log, "{}_{}".format, index=index, most=most, toolbox=toolbox_of("f", "g"))


def kinds(log: RecordingSink) -> list[str]:
    return [event["type"].removeprefix("response.") for event in log.events]


@given(pieces, st.booleans(), st.integers(0, 3))
@example([Call(0, "call_1", "f", "{}"), Call(1, "call_1", "g", "{}")], True, 0)
def test_events_add_up_to_the_items_that_the_response_holds(
    said: list[Any], completed: bool, index: int
) -> None:
    log = RecordingSink()
    growing = output(log, index=index)
    for piece in said:
        growing.take(piece)
    items = growing.end(completed=completed)

    state = ResponseState(log.events)
    assert items == state.output
    assert [] == state.close()
    assert not items or index + len(items) == state.next_index
    ids = [item["call_id"] for item in items if "call_id" in item]
    assert len({*ids}) == len(ids)


@given(pieces, st.data())
def test_the_open_items_of_an_interrupted_attempt_can_be_closed(
    said: list[Any], data: st.DataObject
) -> None:
    log = RecordingSink()
    growing = output(log)
    for piece in said:
        growing.take(piece)
    growing.end(completed=True)
    cut = data.draw(st.integers(0, len(log.events)))

    state = ResponseState(log.events[:cut])
    rest = state.close()

    whole = ResponseState([*log.events[:cut], *rest])
    assert state.output == whole.output
    assert [] == whole.close()


@given(pieces)
def test_every_event_is_valid_by_the_types_of_the_sdk(said: list[Any]) -> None:
    log = RecordingSink()
    growing = output(log)
    for piece in said:
        growing.take(piece)
    growing.end(completed=True)

    for number, event in enumerate(log.events):
        EVENT.validate_python({**event, "sequence_number": number})


def test_an_item_of_another_type_closes_the_open_item() -> None:
    log = RecordingSink()
    growing = output(log)
    for piece in (Reasoning("Hm."), Text("So."), Call(0, "call_1", "f", "{}")):
        growing.take(piece)

    assert [
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
    ] == kinds(log)


def test_interleaved_calls_are_told_apart() -> None:
    log = RecordingSink()
    growing = output(log)
    for key in (0, 1):
        growing.take(Call(key, f"call_{key}", "f", ""))
    for letter in "12":
        for key in (0, 1):
            growing.take(Call(key, "", "", letter))

    assert ["12", "12"] == [item["arguments"] for item in growing.end(completed=True)]


def test_arguments_are_held_until_the_name_of_the_function_arrives() -> None:
    log = RecordingSink()
    growing = output(log)
    growing.take(Call(0, "", "", '{"a":'))
    assert [] == log.events
    growing.take(Call(0, "", "f", "1}"))

    (item,) = growing.end(completed=True)
    assert '{"a":1}' == item["arguments"]
    assert "call_0" == item["call_id"]


def test_a_call_of_a_function_that_is_not_allowed_raises() -> None:
    log = RecordingSink()
    with pytest.raises(NotAllowed):
        output(log).take(Call(0, "call_1", "delete_all", "{}"))
    assert [] == log.events


def test_output_beyond_the_limit_is_truncated_between_characters() -> None:
    log = RecordingSink()
    growing = output(log, most=10)
    growing.take(Reasoning("12345678"))
    with pytest.raises(TooLong):
        growing.take(Text("é€"))

    thought, text = growing.end(completed=False)
    assert "12345678" == thought["content"][0]["text"]
    assert ("é", "incomplete") == (text["content"][0]["text"], text["status"])
    assert 10 == growing.size


def test_a_complete_answer_without_text_is_an_empty_message() -> None:
    (message,) = output(RecordingSink()).end(completed=True)
    assert ("message", "") == (message["type"], message["content"][0]["text"])
    assert [] == output(RecordingSink()).end(completed=False)


def upstream(type_: str, **fields: Any) -> UpstreamEvent:
    return UpstreamEvent({"type": f"response.{type_}", **fields})


ENDLESS: dict[str, Callable[[int], list[OutputDelta]]] = {
    "annotations": lambda _: [Annotation(SOURCE)],
    "log probabilities": lambda _: [Text("", [PROBABLE])],
    "long log probabilities": lambda _: [Text("", [PROBABLE | {"token": "x" * 5000}])],
    "empty calls": lambda number: [Call(number, f"call_{number}", "f", "")],
    "calls without a name": lambda number: [Call(number, "", "", "")],
    "provider data": lambda _: [Call(0, "", "f", "", {"signature": "x" * 100})],
    "items without text": lambda _: [Reasoning(""), Text("")],
    "parts without text": lambda _: [Refusal(""), Text("")],
    "items of an upstream": lambda number: [
        upstream("output_item.added", output_index=number, item={"type": "message", "id": number})
    ],
    "items that pass": lambda number: [
        upstream("output_item.done", output_index=number, item={"type": "x", "y": "z" * 100})
    ],
    "events that pass": lambda number: [
        *(
            [upstream("output_item.added", output_index=0, item={"type": "x", "id": "x"})]
            if number == 0
            else []
        ),
        upstream("x.delta", item_id="x", delta="y" * 100),
    ],
    "events of unknown items": lambda number: [
        upstream("output_text.annotation.added", item_id=f"{number}", annotation=SOURCE)
    ],
    "arguments without a name": lambda number: [
        upstream("function_call_arguments.delta", item_id=f"{number}", delta="{")
    ],
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_output_besides_text_is_bounded(kind: str) -> None:
    log = RecordingSink()
    growing = output(log, most=1)
    with pytest.raises(TooLong):
        for number in range(10_000):
            for piece in ENDLESS[kind](number):
                growing.take(piece)
    growing.end(completed=False)
    added = sum(len(encode_event(event)) for event in log.events)
    # An item is written several times, because several of its events contain the whole item.
    assert added < 5 * (MIN_OTHER_BYTES + ITEM_BYTES)
    state = ResponseState(log.events)
    assert all(item.get("status") != "in_progress" for item in state.output)
