"""Tests that a damaged stream of a provider's own tools never breaks the log of a response."""

from __future__ import annotations

import contextlib
import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.log.codec import decode_event, encode_event
from jobs.log.response_state import ResponseState
from tests import fake_hosted
from tests.worker.recording_sink import RecordingSink
from tests.worker.toolboxes import toolbox_of
from worker.output import NotAllowed, Output
from worker.upstream.deltas import (
    ErrorInStream,
    Malformed,
    Reported,
    Stopped,
    TooLong,
    UpstreamEvent,
    Usage,
)
from worker.upstream.responses.events import ResponsesEventReader

Event = dict[str, Any]
JUNK: list[Any] = [None, 5, "x", [], {}, {"a": None}, "\ud800", 2**70, [[1]], True]


def stream() -> list[Event]:
    """Returns the events of a response with one item of each type."""
    events: list[Event] = []
    for index, item in enumerate(fake_hosted.ITEMS):
        kind, place = item["type"], {"item_id": item["id"], "output_index": index}
        begun = {**item, **fake_hosted.BEGUN.get(kind, {})}
        about = {"output_index": index, "item": begun}
        events.append({"type": "response.output_item.added", **about})
        for name, fields in fake_hosted.EVENTS.get(kind, []):
            events.append({"type": f"response.{name}", **place, **fields})
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    whole = {"status": "completed", "output": list(fake_hosted.ITEMS)}
    return [*events, {"type": "response.completed", "response": whole}]


def damaged(events: list[Event], random: Random) -> list[Event]:
    """Returns the events with some lost, repeated, exchanged or changed."""
    events = json.loads(json.dumps(events))
    for _ in range(random.randint(1, 4)):
        here, there = random.randrange(len(events)), random.randrange(len(events))
        match random.randrange(5):
            case 0:
                del events[here]
            case 1:
                events.insert(here, events[there])
            case 2:
                events[here], events[there] = events[there], events[here]
            case _:
                _change(events[here], random)
    return events


def _change(value: Event, random: Random) -> None:
    while value:
        name = random.choice(list(value))
        if isinstance(value[name], dict) and random.random() < 0.6:
            value = value[name]
        elif random.random() < 0.3:
            del value[name]
            return
        else:
            value[name] = random.choice(JUNK)
            return


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_damaged_stream_is_malformed_or_leads_to_a_state_that_the_log_confirms(
    random: Random,
) -> None:
    reader, log = ResponsesEventReader(), RecordingSink()
    output = Output(log, "{}_{}".format, index=0, most=1_000_000, toolbox=toolbox_of("f"))
    completed = True
    try:
        for event in damaged(stream(), random):
            for piece in reader.read(json.dumps(event).encode()):
                if not isinstance(piece, Usage | Reported | Stopped):
                    output.take(piece)
    except (Malformed, ErrorInStream, TooLong, NotAllowed):
        completed = False
    items = output.end(completed=completed)
    events = [decode_event(encode_event(event)) for event in log.events]
    state = ResponseState(events)
    assert items == state.output
    assert not state.close()  # each item that was added has ended
    cut = ResponseState(events[: random.randrange(len(events) + 1)])
    for event in cut.close():
        encode_event(event)


@pytest.mark.parametrize("kind", [5, [], {}, True])
@pytest.mark.parametrize("verb", ["added", "done"])
def test_the_type_of_an_item_is_text(kind: Any, verb: str) -> None:
    output = Output(RecordingSink(), "{}_{}".format, index=0, most=1000, toolbox=toolbox_of("f"))
    event = {"type": f"response.output_item.{verb}", "output_index": 0, "item": {"type": kind}}
    with pytest.raises(Malformed):
        output.take(UpstreamEvent(event))
    assert [] == output.end(completed=False)


@pytest.mark.parametrize(
    ("kind", "member"),
    [("function_call", "call_id"), ("function_call", "name"), ("shell_call", "call_id")],
)
def test_the_names_of_an_item_are_text(kind: str, member: str) -> None:
    output = Output(RecordingSink(), "{}_{}".format, index=0, most=1000, toolbox=toolbox_of("f"))
    item = {"id": "up", "type": kind, "name": "f", "call_id": "c"}
    event: Event = {"output_index": 0, "item": item}
    output.take(UpstreamEvent({**event, "type": "response.output_item.added"}))
    changed = {**event, "type": "response.output_item.done", "item": {**item, member: [1]}}
    with pytest.raises(Malformed):
        output.take(UpstreamEvent(changed))
    assert not output.interruptible
    (ended,) = output.end(completed=False)
    assert ("f", "c") == (ended["name"], ended["call_id"])


@pytest.mark.parametrize("kind", ["web_search_call", "function_call", "message"])
def test_an_item_keeps_its_type(kind: str) -> None:
    log = RecordingSink()
    output = Output(log, "{}_{}".format, index=0, most=1_000_000, toolbox=toolbox_of("f"))
    item = {"id": "up", "type": kind, "name": "f", "call_id": "c", "role": "assistant"}
    place: Event = {"output_index": 0}
    output.take(UpstreamEvent({"type": "response.output_item.added", **place, "item": item}))
    listed = {"type": "response.completed", "output": [{**item, "type": []}]}
    done = {"type": "response.output_item.done", **place, "item": {**item, "type": []}}
    for event in (done, listed):
        with contextlib.suppress(Malformed):
            output.take(UpstreamEvent(event))
    assert [kind] == [one["type"] for one in output.end(completed=False)]
